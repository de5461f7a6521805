package engine

import (
	"slices"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// commit is a transaction that is being applied: all its publishes and all it
// settles, in one hold of all the queues' locks and one group of the log. So a
// crash leaves all of it or nothing, and nobody sees a part. What follows from it
// is no part of it: what a full queue drops, and the way of a rejected message to
// its dead-letter exchange.
type commit struct {
	ch     *Channel
	w      *worker
	runs   []group  // publishes one after the other that go to the same queues
	ends   []*ended // in order of the queues' first delivery
	locked []*Queue
	group  store.Group
	logged bool // there is something in group
}

// ended is what a transaction settles in one queue.
type ended struct {
	q     *Queue
	list  []txOut
	facts []queue.Fact // that this will record; they stand in the group
}

type txOut struct {
	out
	what decision
}

// CommitTx applies the transaction (tx.commit). onOk is called once it is done:
// in memory before acks make room for deliveries, with a disk once everything in
// it is durable. Messages that a full queue refuses are lost and reported as
// RabbitMQ does.
func (ch *Channel) CommitTx(onOk func()) *wire.Error {
	if ch.tx == nil {
		return notTransactional()
	}
	t := ch.tx.take()
	c := ch.conn
	c.Flush() // of other channels, and earlier
	disk := c.e.disk
	if disk != nil {
		// As in Flush.
		c.waitRoom()
	}
	w := &c.w
	w.begin(c.e.now())
	b := &commit{ch: ch, w: w}
	b.take(t)
	ch.txCommitting = true
	b.lock()
	if !b.log() {
		ch.txCommitting = false
		unlockAll(b.locked)
		*ch.tx = *t // what it has settled returns with the channel
		return errTxTooLarge()
	}
	b.publish()
	ch.txCommitting = false
	refused := len(ch.nacks) > 0
	ch.nacks = ch.nacks[:0]
	if disk == nil && !refused {
		onOk()
	}
	for _, s := range t.settled {
		ch.release(s.list)
	}
	moving := b.settle()
	if b.logged {
		w.pos = session.Position(b.group.Done())
	}
	unlockAll(b.locked)
	t.dropBlobs()
	t.end()
	pos := w.pos
	c.feedHungry(w)
	w.late = pos > 0 // waited for below
	w.finish()
	w.late = false
	if disk != nil {
		if moving {
			pos = session.Position(disk.End()) // the moves have no position of their own
		}
		goOn := c.Out.waits()
		err := c.e.waitPosition(pos)
		goOn()
		if err != nil {
			return err
		}
		if !refused {
			onOk()
		}
	}
	if refused {
		return wire.ChannelError(wire.PreconditionFailed, "partial tx completion")
	}
	return nil
}

// take sorts what is in a transaction. What needs no queue is done at once.
func (b *commit) take(t *tx) {
	ch := b.ch
	c := ch.conn
	if len(t.publishes) > 0 && c.e.alarm.up.Load() {
		c.publishedInAlarm = true
	}
	for i := range t.publishes {
		p := &t.publishes[i]
		switch {
		case p.reply != nil:
			ch.publishReply(p.reply, &p.it)
		case len(p.queues) > 0:
			b.add(p.queues, p.it)
		case p.it.mandatory:
			ch.returnMessage(&p.it)
		}
	}
	byQueue := make(map[*Queue]*ended)
	for _, s := range t.settled {
		for _, d := range s.list {
			q := d.src.q
			if byQueue[q] == nil {
				byQueue[q] = &ended{q: q}
				b.ends = append(b.ends, byQueue[q])
			}
			byQueue[q].list = append(byQueue[q].list, txOut{d, s.what})
		}
	}
}

// add puts a publish behind those before it.
func (b *commit) add(queues []*Queue, it item) {
	for len(queues) > maxGroupQueues {
		b.add(queues[:maxGroupQueues], it)
		queues = queues[maxGroupQueues:]
	}
	n := len(b.runs)
	if n == 0 || !slices.Equal(b.runs[n-1].queues, queues) {
		b.runs = append(b.runs, group{queues: queues})
		n++
	}
	g := &b.runs[n-1]
	g.items = append(g.items, it)
	g.bytes += len(it.rec)
}

// lock takes the locks of all queues. Publishes to one that has been deleted
// since are routed again, once; a queue that is gone by then takes nothing.
func (b *commit) lock() {
	b.lockAll()
	if !b.anyDead() {
		return
	}
	again := make([]bool, len(b.runs)) // dead may be read under the locks only
	for i := range b.runs {
		again[i] = slices.ContainsFunc(b.runs[i].queues, isDead)
	}
	unlockAll(b.locked)
	runs := b.runs
	b.runs = nil
	for i := range runs {
		for _, it := range runs[i].items {
			queues := runs[i].queues
			if again[i] {
				queues = b.w.routeAgain(&it)
			}
			b.addOrReturn(queues, it)
		}
	}
	b.lockAll()
	if !b.anyDead() {
		return
	}
	runs = b.runs
	b.runs = nil
	for i := range runs {
		live := slices.DeleteFunc(slices.Clone(runs[i].queues), isDead)
		for _, it := range runs[i].items {
			b.addOrReturn(live, it)
		}
	}
}

// isDead tells whether a queue is deleted. Called with its lock held.
func isDead(q *Queue) bool { return q.dead }

func (b *commit) addOrReturn(queues []*Queue, it item) {
	switch {
	case len(queues) > 0:
		b.add(queues, it)
	case it.mandatory:
		b.ch.returnMessage(&it)
	}
}

func (b *commit) lockAll() {
	b.locked = b.locked[:0]
	for i := range b.runs {
		b.locked = append(b.locked, b.runs[i].queues...)
	}
	for _, e := range b.ends {
		b.locked = append(b.locked, e.q)
	}
	sortQueues(b.locked)
	b.locked = dedupe(b.locked)
	lockAll(b.locked)
}

func (b *commit) anyDead() bool {
	for i := range b.runs {
		if slices.ContainsFunc(b.runs[i].queues, isDead) {
			return true
		}
	}
	return false
}

// log writes the group: the publishes, still without the numbers that queues give
// them, and what is settled. Messages that need no log get a place in the arena.
// It reports false, and has done nothing, if the group is too large. Called with
// all locks held.
func (b *commit) log() bool {
	w := b.w
	if w.e.disk == nil {
		b.stage()
		return true
	}
	records, bytes := 0, 0
	for i := range b.runs {
		g := &b.runs[i]
		for j := range g.items {
			if it := &g.items[j]; it.flags&queue.Persistent != 0 && goesToLog(g.queues, g.items) {
				records++
				bytes += store.PublishedBytes(len(g.queues), len(it.rec), it.blob)
			}
		}
	}
	for _, e := range b.ends {
		e.foresee()
		n, size := store.FactsBytes(e.facts)
		records, bytes = records+n, bytes+size
	}
	if bytes > maxCommitBytes {
		return false
	}
	b.stage()
	if records == 0 {
		return true
	}
	b.logged = true
	b.group = w.e.disk.Reserve(records, bytes, true)
	for i := range b.runs {
		if g := &b.runs[i]; goesToLog(g.queues, g.items) {
			w.write(&b.group, g.queues, g.items)
		}
	}
	for _, e := range b.ends {
		b.group.Facts(e.q.id, e.facts)
	}
	return true
}

// stage copies what does not go to the log into the arena.
func (b *commit) stage() {
	for i := range b.runs {
		g := &b.runs[i]
		b.w.stage(g.items, len(g.queues), g.bytes, b.w.e.disk != nil && goesToLog(g.queues, g.items))
	}
}

// foresee finds what settling will record. Rejected messages that go to a
// dead-letter exchange are settled there.
func (e *ended) foresee() {
	if e.q.dead {
		return
	}
	for _, d := range e.list {
		switch {
		case d.what == giveBack:
			e.facts = e.q.m.ForeseeReturn(e.facts, d.seq, queue.GivenBack)
		case d.what == fail:
			e.facts = e.q.m.ForeseeReturn(e.facts, d.seq, queue.Failed)
		case d.what == discard:
			e.facts = e.q.m.ForeseeReject(e.facts, d.seq)
		default:
			e.facts = e.q.m.Foresee(e.facts, d.seq)
		}
	}
}

// publish puts the messages into their queues.
func (b *commit) publish() {
	for i := range b.runs {
		g := &b.runs[i]
		for qi, q := range g.queues {
			for j := range g.items {
				b.w.offer(q, &g.items[j], qi)
			}
			b.w.carry(q)
		}
	}
}

// settle ends or gives back what the transaction says, and reports whether
// something is on its way to a dead-letter exchange.
func (b *commit) settle() (moving bool) {
	w := b.w
	for _, e := range b.ends {
		if e.q.dead {
			continue
		}
		for _, d := range e.list {
			e.q.decide(w, d.out, d.what)
		}
		moving = moving || len(w.out.Dead) > 0
		if b.logged {
			w.out.Facts = w.out.Facts[:0] // they are in the group
		}
		e.q.m.Requeued(w.now, &w.out)
		w.carry(e.q)
	}
	return moving
}
