package engine

import (
	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
)

// worker is the scratch memory of one goroutine that runs queue machines: it
// carries out what a machine put into an Output. It belongs to that goroutine.
type worker struct {
	e      *Engine
	now    queue.Time
	out    queue.Output
	rel    store.Releaser
	pos    session.Position // highest log position appended in this run
	facts  seglog.LSN       // the position behind the facts that were logged last
	graves []*Queue         // whose dead letters this worker moves once no lock is held
	dead   []deadItem       // those of one of them, being moved
	unused []unusedQueue    // queues to delete once no lock is held
	bcc    []byte           // records rewritten without their BCC header
	tried  []byte           // records rewritten with their counts
	refuse []queue.Delivery
	route  topology.RouteScratch
	locked []*Queue // scratch of dead-letter moves
	// moving is the dead letter that is being published: its source is settled in
	// the same group of the log. Nil if that needs no log.
	moving *deadItem
	tally  workerTally
	// late: whoever runs it calls Disk.Commit after finish, or WaitDurable.
	late bool
}

type unusedQueue struct {
	q    *Queue
	idle bool // by x-expires, and not because its last consumer left
}

func newWorker(e *Engine) worker {
	w := worker{e: e, rel: store.NewReleaser(e.arena, e.disk)}
	w.out.NoEnqueued = true // publishes are logged by enqueue
	return w
}

// begin starts a run.
func (w *worker) begin(now queue.Time) {
	w.now = now
	w.pos = 0
}

// carry carries out what q's machine has put into w.out: facts go to the log,
// deliveries to outboxes, references back to the arena; dead letters are kept
// for finish. Called with q.mu held, so that log order is queue order.
func (w *worker) carry(q *Queue) {
	o := &w.out
	w.logFacts(q)
	for len(o.Deliveries) > 0 {
		w.deliver(q) // what is refused may go to somebody else
		w.logFacts(q)
	}
	if o.Fetch != 0 || o.Warm {
		w.e.fetch(q, store.Ref(o.Fetch), o.Warm)
	}
	for _, c := range o.Cold {
		w.e.disk.ReleasePage(c)
	}
	for i := range o.Released {
		w.rel.Drop(store.Ref(o.Released[i].Ref))
	}
	for _, d := range o.Dead {
		w.dies(q, deadItem{q: q, Dead: d})
	}
	if o.Unused {
		w.unused = append(w.unused, unusedQueue{q: q})
	}
	o.Reset()
	q.rearm(w.e)
}

// logFacts appends what has happened in q to the log. It comes before the
// references go that this frees: without them a log file may go too, and then
// nothing may bring the message back.
func (w *worker) logFacts(q *Queue) {
	if len(w.out.Facts) > 0 && w.e.disk != nil {
		w.facts = w.e.disk.Facts(q.id, w.out.Facts)
	}
	w.out.Facts = w.out.Facts[:0]
}

// finish ends a run: dead letters move, queues that are no longer used go.
// Called without locks. What that sets free may cause more of the same, so it
// works off lists and never recurses.
func (w *worker) finish() {
	for len(w.graves) > 0 || len(w.unused) > 0 {
		for i := 0; i < len(w.graves); i++ {
			w.moveAllDead(w.graves[i])
		}
		clear(w.graves)
		w.graves = w.graves[:0]
		for i := 0; i < len(w.unused); i++ {
			u := w.unused[i]
			w.e.deleteUnused(w, u.q, u.idle)
		}
		clear(w.unused)
		w.unused = w.unused[:0]
	}
	w.tally.settle()
	w.rel.Flush()
	if w.e.disk != nil && !w.late {
		w.e.disk.Commit(false)
	}
	w.e.alarm.check()
}

// deliver copies the deliveries in w.out into their connections' outboxes,
// taking each outbox's lock once per stretch. Called with q.mu held.
func (w *worker) deliver(q *Queue) {
	ds := w.out.Deliveries
	for i := 0; i < len(ds); {
		o := ds[i].Consumer.Gate.(*Consumer).ch.conn.Out
		grown := 0
		o.mu.Lock()
		for ; i < len(ds); i++ {
			d := &ds[i]
			c := d.Consumer.Gate.(*Consumer)
			if c.ch.conn.Out != o {
				break
			}
			if o.closed || c.ch.closed {
				c.giveUp(int(d.Entry.BodyBytes))
				w.refuse = append(w.refuse, *d)
				continue
			}
			rec := w.visible(q, d)
			if rec == nil { // unreadable: its turn comes again, and then it is set aside
				c.giveUp(int(d.Entry.BodyBytes))
				w.refuse = append(w.refuse, *d)
				continue
			}
			var tag uint64
			if d.Done {
				tag = c.ch.unacked.Skip()
			} else {
				tag = c.ch.unacked.Add(out{&c.src, d.Seq, c.ch.unacked.LastTag() + 1})
			}
			w.tally.delivered(c.ch, d.Done, d.Entry.Flags&queue.Redelivered != 0)
			if q.marks && !d.Done {
				o.mark = w.facts
			}
			before := len(o.buf)
			o.buf = rec.AppendDeliver(o.buf, c.ch.target, c.tag, tag, d.Entry.Flags&queue.Redelivered != 0)
			grown += len(o.buf) - before - int(d.Entry.BodyBytes) - deliverOverheadBytes
			if r := store.Ref(d.Entry.Ref); r.Large() {
				grown += int(o.stream(w.e.disk.Blob(r), rec.BodyBytes(), c.ch.target, w.e.logger))
			}
			if d.Done {
				w.rel.Drop(store.Ref(d.Entry.Ref))
			}
		}
		o.held.Add(int64(grown))
		o.wake()
		o.mu.Unlock()
	}
	clear(ds)
	w.out.Deliveries = ds[:0]
	if len(w.refuse) > 0 {
		w.takeBack(q)
	}
}

// takeBack returns deliveries that a closed outbox refused, uncounted, and
// offers them to the other consumers: nothing else would until the queue's next
// event. The closed outbox has no room any more, so its consumers drop out.
func (w *worker) takeBack(q *Queue) {
	for i := range w.refuse {
		d := &w.refuse[i]
		if d.Done {
			w.rel.Drop(store.Ref(d.Entry.Ref)) // acknowledged by being handed out
		} else {
			q.m.Return(d.Seq, queue.Undelivered, &w.out)
		}
	}
	clear(w.refuse)
	w.refuse = w.refuse[:0]
	q.m.Dispatch(w.now, &w.out)
}

// visible is the record as receivers see it.
func (w *worker) visible(q *Queue, d *queue.Delivery) message.Record {
	e := d.Entry
	rec, ok := w.e.record(store.Ref(e.Ref))
	if !ok {
		// Evicted in the instant since the machine asked: read it again, although
		// that blocks under the queue's lock.
		if w.e.load(store.Ref(e.Ref)) == nil {
			rec, ok = w.e.record(store.Ref(e.Ref))
		}
		if !ok {
			return nil
		}
	}
	if r := store.Ref(e.Ref); r.Large() && w.e.disk.Blob(r) == nil {
		return nil // never Resident
	}
	if e.Flags&flagBCC != 0 {
		if r, err := rec.WithoutBCC(w.bcc[:0]); err == nil { // cannot fail: checked when it was published
			w.bcc, rec = r, r
		}
	}
	if q.counted && d.Tries.Returned > 0 {
		if r, err := rec.WithCounts(w.tried[:0], d.Tries.Failed, d.Tries.Returned); err == nil {
			w.tried, rec = r, r
		}
	}
	return rec
}
