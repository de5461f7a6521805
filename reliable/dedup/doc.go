// Package dedup remembers which messages a consumer has already handled, so that a message that is delivered
// twice takes effect once.
//
// A [Store] keeps one record for each [Key], which is the name of a consumer and the id of a message. A record
// is absent, leased, free or done:
//
//	absent --Begin--> leased --Complete--> done
//	                  leased --Release---> free (the fence) --Begin--> leased
//	                  leased --its time is over, Begin--> leased by another
//
// The order of steps decides between a duplicate and a loss. Around a handler it is
//
//	Begin -> handler returns nil -> Complete -> ack
//	Begin -> handler fails -> copy for the retry is confirmed -> Release(next attempt) -> ack
//
// and never the mark before the work, or the fence before the confirm: a crash in between would drop a message
// that nobody has handled. With the order above a crash leaves a message that comes again. It is handled again
// if the crash fell between the handler's effect and Complete; only a record that commits in the same
// transaction as the effect closes that gap (BeginTx of sqlstore and boltstore).
//
// What must hold in every store:
//
//   - Of all who call Begin for a key, at most one holds a lease whose time is not over.
//   - A lease belongs to its token. Who has lost it learns so from Renew, Complete and Release, which then
//     change nothing.
//   - The fence (generation, attempt) of a record never falls while the record is kept, so a delivery that a
//     confirmed copy has replaced is answered with Superseded.
//   - A lease blocks others for its own short time only. That a record is kept for long blocks nobody.
//
// [Record] holds these rules as a pure function of the time. The memory store here and boltstore use it;
// sqlstore and redisstore say the same in SQL and Lua, and deduptest compares each of them with it.
//
// All methods of a store may be called from any goroutine.
package dedup
