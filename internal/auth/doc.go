// Package auth is users and SASL as data: names, salted password hashes, which
// users may log in from loopback only, which virtual hosts they may open, and
// the PLAIN and AMQPLAIN mechanisms over them.
//
// It opens no socket and knows no connection: the caller passes the client's
// response bytes and whether the peer address is a loopback address, and gets a
// user name or a Failure that says what RabbitMQ would do with the client.
//
// A Users may be read and changed by any goroutine at any time; a change is seen
// by the next login and does not touch connections that are already open.
// Clear-text passwords are never kept and never part of an error or a reason.
//
// Source: https://www.rabbitmq.com/docs/passwords (hash format), RFC 4616 (PLAIN),
// AMQP 0-8 (AMQPLAIN). What a refused client sees was observed on RabbitMQ 3.10 and 4.3.
package auth
