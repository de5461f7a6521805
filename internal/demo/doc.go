// Package demo tells the lesson of reliable messaging live, against any AMQP
// 0-9-1 broker: routing, confirmed publishing, acknowledgements and prefetch, a
// consumer that dies, dead letters, retries with growing delays, and duplicates.
//
// It is written over the official client (amqp091-go) and never imports the
// broker: a broker is a URL and, optionally, a dial function. So the very same
// lesson runs on the embedded broker and on a RabbitMQ cluster.
//
// # Invariants
//
//   - Every number that is shown is counted: a publish when it is sent, a confirm
//     when it arrives, a delivery when it arrives, classified only by what the
//     broker wrote on it (redelivered flag, x-death). After each step the numbers
//     must balance (see balances in tally.go) and the step's queues must be empty;
//     what does not fit is a [Mismatch] and makes [Run] return an error.
//   - Every name begins with a random prefix of the run. A name is registered for
//     deletion before it is declared, and deleted over a fresh connection however
//     the run ended. If even that is impossible (kill -9), the queues expire by
//     themselves and the exchanges, being auto-delete, go with them.
//   - Nothing waits without a deadline: connecting, each step, and the clean-up are
//     bounded. When a bound is reached the connections are cut, which makes every
//     pending call of the client return.
//
// # Goroutines
//
// Run and the steps live on the caller's goroutine. Each consumer has one more
// that receives (so that what a consumer holds is counted when it arrives, not
// when it is looked at); the back-pressure step adds one worker per consumer. All
// of them have ended when Run returns. The counts (ledger) and the output
// (narrator) are the only things shared, each behind its own lock.
package demo
