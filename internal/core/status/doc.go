// Package status is what a broker tells about itself: plain values that the
// engine fills in and the management API shows.
//
// A Queue, Connection or Channel is a copy of one instant; nothing in it changes
// afterwards, and what it points to (definitions, tables) never changes at all.
// Lists are lists of handles, because a copy of every queue would be large: who
// wants to know more about one of them asks its handle, which takes that one
// object's lock. A handle stays good after its object is gone.
//
// Values are made and read by any goroutine; a Meter belongs to the lock of the
// object that it measures.
package status
