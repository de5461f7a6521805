// Package reliabletest tests what a program does with messages, in milliseconds
// and without a server: a broker in the process, a clock that retries, delays and
// leases follow, failures at the points that matter, and a look at what was
// published and what became a dead letter.
//
//	func TestShipping(t *testing.T) {
//		b := reliabletest.New(t)
//		shipping.Start(b.Client()) // the program's own code: its consumers and publishers
//
//		reliabletest.Publish(b, orders, Order{ID: 7})
//		b.Settle()                 // all handlers are done
//		reliabletest.Expect(t, b.PublishedTo(parcels), Parcel{Order: 7})
//
//		carrier.down = true
//		reliabletest.Publish(b, orders, Order{ID: 8})
//		b.Advance(24 * time.Hour)  // all its retries, each at its time
//		b.ExpectDeadLetters(orders, reliabletest.Dead{Reason: reliable.ReasonAttempts, Error: "no truck"})
//	}
//
// A [Broker] looks at every frame of the connections that are made through it, so
// it knows what was published and confirmed, and can cut a connection right before
// a confirm or an acknowledgement ([Broker.CutAt]) or in place of any frame
// ([Broker.CutAtFrame]). What it does to a program can happen with a real server.
//
// Time stands still until the test moves it. [Broker.Settle] waits for what happens
// without time passing, and [Broker.Advance] lets time pass as it would: it stops
// wherever something is due, so that of a message that fails ten times each retry
// happens at its own moment.
//
// Methods and functions that cannot do their work end the test with Fatal, so they
// are for the test's own goroutine; those that only look, and the faults, may be
// called from any. Nothing is left when the test ends: clients are closed, and the
// broker with them.
package reliabletest
