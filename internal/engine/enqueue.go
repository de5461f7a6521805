package engine

import (
	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// enqueue puts a run of messages into all of queues (ascending, no duplicates).
func (w *worker) enqueue(queues []*Queue, items []item, bytes int) {
	for len(queues) > maxGroupQueues {
		w.enqueue(queues[:maxGroupQueues], items, bytes)
		queues = queues[maxGroupQueues:]
	}
	logged := w.e.disk != nil && goesToLog(queues, items)
	w.stage(items, len(queues), bytes, logged)
	lockAll(queues)
	for _, q := range queues {
		if q.dead {
			unlockAll(queues)
			for i := range items {
				if items[i].ref != 0 {
					w.release(items[i].ref, len(queues))
				}
			}
			w.enqueueAgain(items)
			return
		}
	}
	w.putAll(queues, items, logged)
	unlockAll(queues)
}

// maxGroupQueues is how many queues one publish record can name.
const maxGroupQueues = 1<<16 - 1

// release drops references that were never used.
func (w *worker) release(r store.Ref, n int) {
	for range n {
		w.rel.Drop(r)
	}
}

func anyDurable(queues []*Queue) bool {
	for _, q := range queues {
		if q.def.Durable {
			return true
		}
	}
	return false
}

// stage copies the messages that do not go to the log into the arena, with one
// reference for each of so many queues. Called before the queues are locked.
func (w *worker) stage(items []item, queues, bytes int, logged bool) {
	n := len(items)
	if logged {
		n, bytes = 0, 0
		for i := range items {
			items[i].ref = 0
			if items[i].flags&queue.Persistent == 0 {
				n++
				bytes += len(items[i].rec)
			}
		}
	}
	if n == 0 {
		return
	}
	span := w.e.arena.Reserve(store.SpanBytes(n, bytes), n, n*queues)
	for i := range items {
		if !logged || items[i].flags&queue.Persistent == 0 {
			items[i].ref = span.Put(items[i].rec)
		}
	}
	span.Done()
}

// putAll puts staged messages into queues that are locked and not dead. Those
// that go to the log are written there first, as one group, so that they have a
// place; the numbers that the queues give them are filled in as they come.
func (w *worker) putAll(queues []*Queue, items []item, logged bool) {
	for len(queues) > store.MaxQueues { // more than one record can name
		w.putAll(queues[:store.MaxQueues], items, logged)
		queues = queues[store.MaxQueues:]
	}
	var g store.Group
	n := 0
	if logged {
		g, n = w.logGroup(queues, items)
	} else if w.e.disk == nil && anyPersistent(items) {
		w.pos = max(w.pos, w.e.memory.Append())
	}
	for qi, q := range queues {
		for i := range items {
			w.offer(q, &items[i], qi)
		}
		w.carry(q)
	}
	if n > 0 {
		w.pos = max(w.pos, session.Position(g.Done()))
	}
}

func anyPersistent(items []item) bool {
	for i := range items {
		if items[i].flags&queue.Persistent != 0 {
			return true
		}
	}
	return false
}

// logGroup writes publish records for the persistent ones among items. n is how
// many there are.
func (w *worker) logGroup(queues []*Queue, items []item) (g store.Group, n int) {
	bytes, force := 0, false
	for i := range items {
		if it := &items[i]; it.flags&queue.Persistent != 0 {
			n++
			bytes += store.PublishedBytes(len(queues), len(it.rec), it.blob)
			force = force || it.seq > 0
		}
	}
	if n == 0 {
		return g, 0
	}
	moved := w.moving
	if moved != nil {
		n, bytes = n+1, bytes+store.SettledBytes
	}
	g = w.e.disk.Reserve(n, bytes, force)
	if moved != nil {
		g.Settle(moved.q.id, moved.Seq)
		moved.settled = true
	}
	w.write(&g, queues, items)
	return g, n
}

// write fills in publish records for the persistent ones among items.
func (w *worker) write(g *store.Group, queues []*Queue, items []item) {
	for i := range items {
		it := &items[i]
		if it.flags&queue.Persistent == 0 {
			continue
		}
		it.logged, it.ref = g.Publish(&store.Published{
			Flags: logFlags(it.flags), Priority: it.priority, Time: w.now, TTLMillis: it.ttlMillis, Message: it.rec,
		}, len(queues), len(queues), it.blob)
	}
}

// offer puts one message into a queue, the qi-th of those in its log record.
// Called with q.mu held.
func (w *worker) offer(q *Queue, it *item, qi int) {
	flags := it.flags
	if it.kept && !q.counted {
		flags &^= queue.Persistent
	}
	v := q.m.Enqueue(w.now, queue.Message{
		Entry:     queue.Entry{Ref: uint64(it.ref), BodyBytes: it.bodyBytes, Flags: flags},
		Priority:  it.priority,
		TTLMillis: it.ttlMillis,
	}, &w.out)
	if it.logged != nil {
		store.PutQueue(it.logged, qi, q.id, w.out.LastSeq, v == queue.Accepted && q.def.Durable && flags&queue.Persistent != 0, 0)
	}
	if v != queue.Accepted {
		w.refused(q, it, v)
	}
}

// refused notes that a full queue would not take a message: its publisher gets
// a nack, and its dead-letter exchange the message if the queue says so.
func (w *worker) refused(q *Queue, it *item, v queue.Verdict) {
	if !it.nacked && it.ch != nil && (it.seq > 0 || it.ch.txCommitting) {
		it.ch.nacks = append(it.ch.nacks, it.seq)
	}
	it.nacked = true
	if v == queue.RefusedToDLX {
		w.dies(q, deadItem{q: q, refused: true, Dead: queue.Dead{
			Entry: queue.Entry{Ref: uint64(it.ref), BodyBytes: it.bodyBytes, Flags: it.flags}, Reason: queue.MaxLen}})
		return // the reference goes with the dead letter
	}
	w.rel.Drop(it.ref)
}

// enqueueAgain routes messages anew, once, because a queue that was found for
// them has been deleted since. A queue that is gone by now takes nothing, and
// its message counts as unroutable.
func (w *worker) enqueueAgain(items []item) {
	for i := range items {
		it := items[i]
		if !w.enqueueLive(w.routeAgain(&it), &it) && it.mandatory {
			it.ch.returnMessage(&it)
		}
	}
}

// routeAgain is where a message goes by the bindings as they are now.
func (w *worker) routeAgain(it *item) []*Queue {
	keys := []string{string(it.rec.Key())}
	var headers []byte
	if props, err := wire.ScanProps(it.rec.Props()); err == nil {
		headers, _ = props.Headers()
		keys, _, _ = message.ExtraKeys(keys, headers)
	}
	return it.ch.conn.resolve(w, string(it.rec.Exchange()), keys, headers).queues
}

// enqueueLive is enqueue for one message that leaves out queues that are dead.
// It reports whether any was not.
func (w *worker) enqueueLive(queues []*Queue, it *item) (any bool) {
	if len(queues) == 0 {
		return false
	}
	lockAll(queues)
	any = w.enqueueLocked(queues, it)
	unlockAll(queues)
	return any
}

// enqueueLocked is enqueue for one message and queues that are locked already.
// It reports whether any of them is not dead.
func (w *worker) enqueueLocked(queues []*Queue, it *item) bool {
	live := make([]*Queue, 0, len(queues))
	for _, q := range queues {
		if !q.dead {
			live = append(live, q)
		}
	}
	if len(live) == 0 {
		return false
	}
	items := []item{*it}
	if anyQuorum(live) {
		items[0].keep()
	}
	logged := w.e.disk != nil && goesToLog(live, items)
	w.stage(items, len(live), len(it.rec), logged)
	w.putAll(live, items, logged)
	return true
}
