// Package exchange is the routing tables of the four AMQP 0-9-1 exchange types:
// direct, fanout, topic and headers. A Table answers one question: to which
// destinations does this exchange send a message with this routing key and
// these headers? It knows nothing of names, vhosts or alternate exchanges; that
// is internal/core/topology.
//
// Invariants: a binding is identified by (key, arguments, destination), in a
// table of any type; arguments are compared without regard to their order.
// Destinations are ids that are never reused.
//
// The package is pure: no goroutine, lock, clock, randomness or I/O. Route reads
// only and may run concurrently with other Routes; Bind and Unbind are writes
// and need the caller's exclusive lock. Whoever holds the topology of a vhost
// calls both.
//
// Source: AMQP 0-9-1 specification 3.1.3, and RabbitMQ where it says more (the
// four x-match modes, empty words in topics, the wording of errors).
package exchange
