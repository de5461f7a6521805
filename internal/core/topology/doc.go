// Package topology is one virtual host as data: its exchanges, queues and
// bindings, the rules by which they are declared and deleted, and the way a
// message takes through them.
//
// Every operation that a client can get wrong returns a *wire.Error (nil if all
// is well) with RabbitMQ's code and explanation, word for word; Error.Method is
// left for the caller to fill in with Error.On. Where RabbitMQ 3.10 and 4.3
// differ, this follows 4.3, except that it still takes what earlier ones took
// (x-queue-version 1, x-queue-master-locator, more than two '#' in a topic key).
//
// Invariants: ids are never reused; a binding lives exactly as long as its two
// ends; an exclusive queue is never durable; Epoch grows with every change that
// can alter where a message goes.
//
// The package is pure: no goroutine, lock, clock, randomness or I/O. The engine
// keeps one VHost behind one RWMutex. Route, CheckPublish, the lookups and the
// listings only read and may run concurrently; everything else is a write.
// *Queue and *Exchange values stay valid after deletion and their descriptions
// never change, so a holder may read those without the lock.
package topology
