// Package outbox publishes what a transaction has written, and only if it commits.
//
// A program that changes its database and publishes a message does two things of which a crash can undo one.
// With an outbox it does one: [Outbox.Add] writes the message to a table in the same transaction, and a [Relay]
// publishes what stands in the table and deletes it once the broker has confirmed it.
//
//	transaction: write, Add, commit -> relay: publish -> confirmed -> delete
//
// A crash between the confirm and the delete publishes the message again, with the same id, which the consumer
// recognises (package dedup). No crash loses it.
//
// What must hold:
//
//   - Messages with the same Key are published in the order of Add, one at a time: the next one goes when the one
//     before is confirmed. While one of them cannot be published, those behind it wait. Messages without a Key,
//     or with different ones, do not wait for each other.
//   - A message stays in the table until it is confirmed, however often it fails.
//   - Several relays may run on a Postgres table; they share the messages without breaking their order. On SQLite
//     one works at a time.
//
// Order is that of the database: if two transactions add messages with the same Key at the same time, neither is
// first. If one of them begins to add after the other has committed, theirs is the order of commits.
//
// [Relay.Run] runs in one goroutine and calls the Source and the Publisher from it. All other methods may be
// called from any goroutine.
package outbox
