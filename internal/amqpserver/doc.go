// Package amqpserver speaks AMQP 0-9-1 to clients: it accepts connections, runs
// the handshake, parses what arrives and hands it to the engine, and writes what
// the engine has gathered.
//
// Each connection has two goroutines. The reader owns the connection's state,
// its engine.Conn and its channels; it reads as much as there is, handles every
// whole frame, and then flushes the engine. The writer waits for output and
// writes all of it in one call. A timer per connection sends heartbeats and
// notices silence.
//
// Errors are AMQP errors (wire.Error); what they close and how is decided in
// one place, failure.go.
package amqpserver
