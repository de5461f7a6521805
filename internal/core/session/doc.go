// Package session is what a connection and its channels remember, as pure data:
// the content being assembled from frames (Content), deliveries awaiting their
// acknowledgement (Unacked), and publishes awaiting their confirm (Confirms).
//
// It is pure: no goroutine, lock, clock or I/O. Content belongs to the connection's
// reader goroutine; Unacked is guarded by the connection's output
// lock; Confirms has a lock of its own in the host, because the reader adds to
// it and whoever moves the durable position takes from it.
package session
