// Package engine drives the pure machines: it owns the queues and their locks,
// routes publishes, hands out deliveries, moves dead letters, fires timers,
// releases confirms and raises the memory alarm. It knows no sockets: a
// connection is an Outbox that somebody drains.
//
// Who calls it: each connection's reader goroutine calls its Conn and its
// Channels, and nobody else does; each connection's writer goroutine calls
// Outbox.Next, Outbox.Done and Conn.Refill; timers run on a goroutine of their
// own. Each of them has a worker, which holds the scratch memory of one run.
//
// Lock order: VHost.mu, then Queue.mu (several in ascending id), then the log or
// the timers, then a channel's confirm lock, then Outbox.mu, then the arena;
// never the reverse. Nothing blocks under a queue lock.
//
// The hot path is run to completion: the reader gathers the publishes and acks
// of one read by queue, and Conn.Flush takes each queue's lock once, applies
// the whole group, and copies deliveries into the consumers' outboxes.
package engine
