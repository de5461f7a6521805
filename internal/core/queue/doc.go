// Package queue is the queue machine: which messages are ready, which are out
// with a consumer, who gets the next one, what expires, what is over a limit,
// and what must be dead-lettered.
//
// It is pure: no goroutine, lock, clock or I/O. The host calls it with its
// queue lock held, passes the time in, and carries out what the machine appends
// to an Output that the host owns and reuses: facts (what must be logged) and
// effects (deliveries, dead letters, body references to drop).
//
// Invariants:
//   - A message is in exactly one state: ready, out, moving (being
//     dead-lettered) or done. ReadyCount, UnackedCount and MovingCount add up to
//     the messages that are not done.
//   - A Seq names one message of this queue for ever; it is never reused.
//   - Messages are delivered in the order of their Seq within a priority level,
//     and a returned message goes back to its original position.
//   - Every body reference that entered through Enqueue leaves exactly once:
//     in Output.Released, or in a Delivery with Done set, or in a Dead that the
//     host finishes with FinishMove.
package queue
