// Package mgmtclient reads RabbitMQ's management HTTP API, of RabbitMQ itself and of
// this broker: what the commands need that AMQP cannot list.
//
// Every request has a timeout and a bound on its answer; long lists are read page by
// page where the server has pages. Errors say what to do: refused connections, wrong
// passwords, missing permissions, and servers that are something else. A password is
// never part of an error.
//
// A Client may be used by several goroutines.
package mgmtclient
