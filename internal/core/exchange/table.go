package exchange

import (
	"fmt"

	"github.com/warrenmq/warren/internal/wire"
)

// DestKind says what a binding leads to.
type DestKind uint8

const (
	// Queue is the kind of a destination that takes messages.
	Queue DestKind = iota
	// Exchange is the kind of a destination that routes on (exchange.bind).
	Exchange
)

// String is RabbitMQ's word for the kind, as in its error texts.
func (k DestKind) String() string {
	if k == Exchange {
		return "exchange"
	}
	return "queue"
}

// Dest is a binding's destination. Queues and exchanges have separate id spaces.
type Dest struct {
	Kind DestKind
	ID   uint64
}

// Table is the bindings of one exchange.
type Table interface {
	// Bind adds a binding and reports whether it was new.
	Bind(key string, args wire.Table, d Dest) bool
	// Unbind removes exactly that binding and reports whether it was there.
	Unbind(key string, args wire.Table, d Dest) bool
	// Route appends to dst the destinations of a message and returns it. A
	// destination that several bindings lead to may be appended more than once.
	// headers is the raw AMQP header table without its length, nil if none; a
	// malformed one counts up to its first bad field.
	Route(dst []Dest, key string, headers []byte) []Dest
	// Len is the number of bindings.
	Len() int
}

// Type names an exchange type, as in exchange.declare.
type Type string

// The types this package has tables for.
const (
	Direct  Type = "direct"
	Fanout  Type = "fanout"
	Topic   Type = "topic"
	Headers Type = "headers"
)

// Known reports whether New accepts t.
func Known(t Type) bool {
	switch t {
	case Direct, Fanout, Topic, Headers:
		return true
	}
	return false
}

// New makes an empty table. It panics on a type that is not Known: callers
// check what a client sent first, to answer it with RabbitMQ's text.
func New(t Type) Table {
	switch t {
	case Direct:
		return newDirect()
	case Fanout:
		return newFanout()
	case Topic:
		return newTopic()
	case Headers:
		return newHeaders()
	}
	panic(fmt.Sprintf("exchange: no table for type %q", string(t)))
}
