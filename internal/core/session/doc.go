// Package session is what a connection and its channels remember, as pure data:
// the content being assembled from frames (Content), deliveries awaiting their
// acknowledgement (Unacked), publishes awaiting their confirm (Confirms), and
// the rules of negotiation (Tuning).
//
// It is pure: no goroutine, lock, clock or I/O. Content and Tuning belong to the
// connection's reader goroutine; Unacked is guarded by the connection's output
// lock; Confirms has a lock of its own in the host, because the reader adds to
// it and whoever moves the durable position takes from it.
package session
