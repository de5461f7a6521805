// Package link keeps one AMQP connection alive: it connects to one of several
// addresses, connects again when the connection is lost, and tells its state.
//
// It does not use the client's own recovery, which reopens the same channel so
// that an acknowledgement of an old delivery can settle a new one. Here each
// connection is a new Conn with a number of its own, its epoch; channels belong
// to one Conn and end with it.
//
// What must hold:
//
//   - State is a level, never an event: whoever asks sees what is so now, and the
//     channel that Snapshot returns is closed when that changes. Nothing is missed
//     by not listening.
//   - A write that hangs for longer than the heartbeat allows ends the connection,
//     unless the broker has said that it blocks publishers.
//   - Errors never contain a password.
//
// One goroutine per Link supervises it, and one per connection follows whether
// the broker blocks. All methods are safe for concurrent use.
package link
