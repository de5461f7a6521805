// Package demo tells the lesson of reliable messaging live, against any AMQP
// 0-9-1 broker: routing, confirmed publishing, acknowledgements and prefetch, a
// consumer that dies, dead letters, retries with growing delays, and duplicates.
//
// The programs in it stand on package reliable, as a user's would: its publishers,
// consumers, retries, dead letters, record of handled messages, and reconnects. The
// stage they play on is declared, and looked at from outside, with the official
// client (amqp091-go). The broker is never imported: it is a URL and, optionally, a
// dial function. So the very same lesson runs on the embedded broker and on a
// RabbitMQ cluster.
//
// # Invariants
//
//   - Every number that is shown is counted: a publish when it is sent, a confirm
//     when its receipt says so, a delivery when a handler gets it, classified only by
//     what stands on it (redelivered flag, attempt). After each step the numbers
//     must balance (see balances in tally.go) and the step's queues must be empty;
//     what does not fit is a [Mismatch] and makes [Run] return an error.
//   - Every name begins with a random prefix of the run, also the delay network
//     ([reliable.Config.Namespace]). A name is registered for deletion before it is
//     declared, and deleted over a fresh connection however the run ended. If even
//     that is impossible (kill -9), the queues expire by themselves and the
//     exchanges, being auto-delete, go with them. For that the lesson declares what
//     its programs need, and they are Passive.
//   - Nothing waits without a deadline: connecting, each step, and the clean-up are
//     bounded. When a bound is reached the connections are cut, which makes every
//     pending call of the client return.
//
// # Goroutines
//
// Run and the steps live on the caller's goroutine. Handlers run on those of package
// reliable: each hands its message to the step and waits for its decision, so that
// what a consumer holds is counted when it arrives, not when it is looked at. The
// back-pressure step adds one worker per consumer. All of them have ended when Run
// returns. The counts (ledger), the output (narrator) and what a program's dialer and
// a consumer know are shared, each behind its own lock.
package demo
