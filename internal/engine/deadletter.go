package engine

import (
	"slices"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// deadItem is a message on its way to a dead-letter exchange. It holds a
// reference to its record until it has been moved.
type deadItem struct {
	queue.Dead
	q       *Queue
	refused bool // never entered q: a full queue with x-overflow reject-publish-dlx
	settled bool // the log has its end in q, together with its publish
	// unreadable: its body cannot be read. It stays in q, on its way or parked, and
	// the next start tries again.
	unreadable bool
	blob       *store.Blob // has its body, else nil; held until it has been moved
}

// dies puts a dead letter behind those of the same queue that have not been moved
// yet. One worker moves all of them, so that they arrive in their order. Called
// with q.mu held.
func (w *worker) dies(q *Queue, d deadItem) {
	q.dying = append(q.dying, d)
	if !q.burying {
		q.burying = true
		w.graves = append(w.graves, q)
	}
}

// moveRounds is how often a worker looks for dead letters that others have added:
// then it has its own work to do.
const moveRounds = 16

// moveAllDead moves a queue's dead letters. Called without locks.
func (w *worker) moveAllDead(q *Queue) {
	for range moveRounds {
		q.mu.Lock()
		w.dead, q.dying = q.dying, w.dead[:0]
		if len(w.dead) == 0 {
			q.burying = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for i := range w.dead {
			w.moveDead(&w.dead[i])
		}
		clear(w.dead)
	}
	w.e.background.Go(func() {
		next := newWorker(w.e)
		next.begin(w.e.now())
		next.graves = append(next.graves, q)
		next.finish()
	})
}

// moveDead publishes a dead letter to its exchange and ends it in its source.
// A missing exchange, or one that routes nowhere, drops it (at most once, as
// RabbitMQ's default strategy), or leaves it where it is (at least once). Called
// without locks.
//
// Source and targets are locked together, so that the message is at no moment
// in neither, and a consumer of the target finds the source settled.
func (w *worker) moveDead(d *deadItem) {
	q := d.q
	targets, it := w.bury(d)
	if d.blob != nil {
		defer d.blob.Release()
	}
	if d.unreadable && !d.refused {
		q.mu.Lock()
		if q.def.Config.AtLeastOnce() && !q.dead {
			w.park(d, nil)
		}
		q.mu.Unlock()
		return
	}
	w.locked = append(append(w.locked[:0], targets...), q)
	sortQueues(w.locked)
	w.locked = dedupe(w.locked)
	lockAll(w.locked)
	missing := false
	if q.def.Config.AtLeastOnce() && !q.dead {
		targets, missing = q.split(d, targets)
	}
	if len(targets) > 0 {
		if w.e.disk != nil && !d.refused && !q.dead && !missing && d.Entry.Flags&queue.Persistent != 0 {
			w.moving = d
		}
		w.enqueueLocked(targets, it)
		w.moving = nil
	}
	switch {
	case d.refused:
		w.rel.Drop(store.Ref(d.Entry.Ref))
	case q.dead:
	case missing:
		w.park(d, targets)
	default:
		delete(q.arrived, d.Seq)
		q.m.FinishMove(d.Seq, &w.out)
		if d.settled {
			w.out.Facts = w.out.Facts[:0] // its own end, and nothing else
		}
		w.carry(q)
	}
	unlockAll(w.locked)
}

// split finds which targets take a dead letter now that has to arrive, without
// those that have it; missing tells whether others do not have it after that, or
// nobody wants it. Called with all of them locked.
func (q *Queue) split(d *deadItem, targets []*Queue) (now []*Queue, missing bool) {
	missing = len(targets) == 0
	for _, t := range targets {
		switch {
		case slices.Contains(q.arrived[d.Seq], t.id):
		case t.dead || t.m.Refuses(d.Entry.BodyBytes):
			missing = true
		default:
			now = append(now, t)
		}
	}
	return now, missing
}

// park leaves a dead letter in its queue for another attempt. Called with q.mu
// held.
func (w *worker) park(d *deadItem, arrived []*Queue) {
	q := d.q
	if q.m.ParkedCount() == 0 {
		w.e.logger.Warn("dead letters wait in their queue: no target, or one that is full",
			"queue", q.def.Name, "vhost", q.vh.name, "exchange", q.def.Config.DLX, "reason", d.Reason.String())
	}
	if len(arrived) > 0 {
		if q.arrived == nil {
			q.arrived = make(map[queue.Seq][]queue.ID)
		}
		for _, t := range arrived {
			q.arrived[d.Seq] = append(q.arrived[d.Seq], t.id)
		}
	}
	q.m.Park(w.now, d.Seq)
	w.carry(q)
}

// dedupe drops repetitions from a sorted list.
func dedupe(qs []*Queue) []*Queue {
	n := 0
	for i, q := range qs {
		if i == 0 || q != qs[n-1] {
			qs[n] = q
			n++
		}
	}
	clear(qs[n:])
	return qs[:n]
}

// bury rewrites the record and routes it: x-death, the cycle rule.
func (w *worker) bury(d *deadItem) ([]*Queue, *item) {
	q := d.q
	cfg := &q.def.Config
	rec, ok := w.copyRecord(q, d)
	if !ok {
		return nil, nil
	}
	dead, err := rec.Bury(nil, message.Burial{
		Queue: q.def.Name, Reason: d.Reason.String(),
		TimeSeconds: uint64(w.e.clock.Now().Unix()),
		DLX:         cfg.DLX, Key: cfg.DLRoutingKey, HasKey: cfg.HasDLRoutingKey,
		Known: d.Entry.Flags&flagDead != 0, OneKey: d.Entry.Flags&flagOneKey != 0,
	})
	if err != nil {
		w.e.logger.Error("dead letter dropped: its properties cannot be read", "queue", q.def.Name, "error", err)
		return nil, nil
	}
	targets := w.routeDead(q, &dead, cfg.DLX)
	if len(targets) == 0 {
		return nil, nil
	}
	it := &item{
		rec: dead.Record, bodyBytes: d.Entry.BodyBytes, ttlMillis: -1, blob: d.blob,
		flags: flagDead | d.Entry.Flags&(flagOneKey|queue.Pinned),
	}
	if cfg.HasDLRoutingKey {
		it.flags |= flagOneKey
	}
	if props, err := wire.ScanProps(dead.Record.Props()); err == nil {
		it.priority, _ = props.Priority()
		if props.DeliveryMode() == 2 { // the entry forgets it in a queue that is not durable
			it.flags |= queue.Persistent
		}
	}
	return targets, it
}

// copyRecord copies a dead letter's record out of the store. The source may be
// deleted while the dead letter is on its way, and with it the reference that
// keeps the record.
func (w *worker) copyRecord(q *Queue, d *deadItem) (message.Record, bool) {
	for {
		q.mu.Lock()
		if q.dead && !d.refused {
			q.mu.Unlock()
			return nil, false
		}
		rec, ok := w.e.record(store.Ref(d.Entry.Ref))
		if ok {
			rec = append(message.Record(nil), rec...)
			if r := store.Ref(d.Entry.Ref); r.Large() {
				if d.blob = w.e.disk.Blob(r); d.blob == nil {
					d.unreadable = true // as Disk.Load says, if anybody asks
					q.mu.Unlock()
					return nil, false
				}
				d.blob.Retain()
			}
			q.mu.Unlock()
			return rec, true
		}
		q.mu.Unlock()
		if err := w.e.loadRecord(store.Ref(d.Entry.Ref)); err != nil {
			w.e.logger.Error("a dead letter cannot be read and stays where it is", "queue", q.def.Name, "error", err)
			d.unreadable = true
			return nil, false
		}
	}
}

// routeDead finds the queues a dead letter goes to.
func (w *worker) routeDead(q *Queue, dead *message.Dead, dlx string) []*Queue {
	props, err := wire.ScanProps(dead.Record.Props())
	if err != nil {
		return nil
	}
	headers, _ := props.Headers()
	vh := q.vh
	vh.mu.RLock()
	var defs []*topology.Queue
	defs, werr := vh.top.Route(dlx, dead.Keys, headers, &w.route)
	var targets []*Queue
	if werr == nil {
		for _, t := range defs {
			if !dead.Cycle(t.Name) {
				targets = append(targets, t.Runtime.(*Queue))
			}
		}
	}
	vh.mu.RUnlock()
	sortQueues(targets)
	return targets
}
