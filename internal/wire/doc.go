// Package wire is the AMQP 0-9-1 codec: frames, methods, field tables,
// content properties and protocol errors as data.
//
// It knows bytes only. Nothing here blocks, starts a goroutine, reads a clock
// or touches a socket; every parser takes a slice and says how much of it it
// used. What a parser returns may alias its input: callers that keep it beyond
// the life of the buffer copy it.
//
// The method structs and their codecs in methods_gen.go are generated from the
// project's own table (methods.txt) by gen.go.
//
// Source: AMQP 0-9-1 specification, section 4.2 (wire format), and RabbitMQ's
// errata for field-table types (https://www.rabbitmq.com/amqp-0-9-1-errata.html).
package wire
