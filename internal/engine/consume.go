package engine

import (
	"sync/atomic"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// Consumer is one subscription of a channel. It is its queue's gate: Take is
// called with the queue's lock held.
type Consumer struct {
	tag    string
	ch     *Channel
	qc     queue.Consumer
	src    source // what acks name
	number uint64 // order of subscription

	args    wire.Table
	limit   int32        // own prefetch, 0 for none
	held    atomic.Int32 // unacknowledged deliveries; grows under the queue's lock only
	stalled bool         // on the outbox's list; under its lock
}

// Take implements queue.Gate: own prefetch, the channel's prefetch, and the
// connection's output budget, all or nothing.
func (c *Consumer) Take(bodyBytes int) bool {
	ch := c.ch
	if !c.qc.NoAck {
		if c.limit > 0 && c.held.Load() >= c.limit {
			return false
		}
		if !ch.takeChannelCredit() {
			return false
		}
	}
	o := ch.conn.Out
	if o.held.Load() >= outputBudgetBytes && o.stall(c) {
		if !c.qc.NoAck {
			ch.held.Add(-1)
		}
		return false
	}
	o.held.Add(int64(bodyBytes + deliverOverheadBytes))
	if !c.qc.NoAck {
		c.held.Add(1)
	}
	return true
}

// takeChannelCredit counts one delivery against the channel's own limit.
func (ch *Channel) takeChannelCredit() bool {
	if ch.limit.Load() == 0 {
		ch.held.Add(1)
		return true
	}
	if ch.takeLimited() {
		return true
	}
	// Say so first and look again second: an ack in between either sees the
	// flag or has made the room that is seen here.
	ch.starved.Store(true)
	return ch.takeLimited()
}

// takeLimited counts one delivery if there is room. It never counts what it
// then takes back, which would look like a full channel to another queue.
func (ch *Channel) takeLimited() bool {
	for {
		n, limit := ch.held.Load(), ch.limit.Load()
		if limit > 0 && n >= limit {
			return false
		}
		if ch.held.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// giveUp undoes a Take whose delivery was refused.
func (c *Consumer) giveUp(bodyBytes int) {
	c.ch.conn.Out.held.Add(-int64(bodyBytes + deliverOverheadBytes))
	if !c.qc.NoAck {
		c.held.Add(-1)
		c.ch.held.Add(-1)
	}
}

// Consume is what basic.consume asks for.
type Consume struct {
	Queue     string // empty: the channel's last declared queue
	Tag       string // empty: the broker chooses
	NoAck     bool
	Exclusive bool
	Args      wire.Table
	// OnOk is called with the consumer's tag before the first delivery can be
	// sent: it sends consume-ok.
	OnOk func(tag string)
}

// Consume starts a consumer.
func (ch *Channel) Consume(r Consume) *wire.Error {
	if r.Queue == directReplyTo {
		return ch.consumeReply(r)
	}
	q, err := ch.findQueue(r.Queue)
	if err != nil {
		return err
	}
	priority, err := q.checkConsumeArgs(r.Args)
	if err != nil {
		return err
	}
	o := ch.conn.Out
	o.mu.Lock()
	if _, taken := ch.consumers[r.Tag]; taken && r.Tag != "" {
		o.mu.Unlock()
		return wire.ConnectionError(wire.NotAllowed, "attempt to reuse consumer tag '%s'", r.Tag)
	}
	o.mu.Unlock()
	if r.Tag == "" {
		r.Tag = ServerName("amq.ctag-")
	}
	c := &Consumer{tag: r.Tag, ch: ch, args: r.Args, limit: ch.nextLimit, number: ch.conn.e.lastConnID.Add(1)}
	c.qc = queue.Consumer{Gate: c, NoAck: r.NoAck, Exclusive: r.Exclusive, Priority: priority}
	c.src = source{q: q, c: c}
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	q.mu.Lock()
	if q.dead {
		q.mu.Unlock()
		return q.vh.top.NoQueue(q.def.Name)
	}
	if !q.m.Subscribe(w.now, &c.qc) {
		q.mu.Unlock()
		return wire.ChannelError(wire.AccessRefused, "queue '%s' in vhost '%s' in exclusive use", q.def.Name, q.vh.name)
	}
	o.mu.Lock()
	ch.consumers[r.Tag] = c
	o.mu.Unlock()
	if r.OnOk != nil {
		r.OnOk(r.Tag)
	}
	q.m.Dispatch(w.now, &w.out)
	w.carry(q)
	q.mu.Unlock()
	w.finish()
	return nil
}

// Cancel ends a consumer; what it has unacknowledged stays so. An unknown tag is
// no error.
func (ch *Channel) Cancel(tag string) {
	if ch.cancelReply(tag) {
		return
	}
	o := ch.conn.Out
	o.mu.Lock()
	c := ch.consumers[tag]
	delete(ch.consumers, tag)
	o.mu.Unlock()
	if c == nil {
		return
	}
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	c.leave(w)
	c.checkUnused(w)
	w.finish()
}

// leave takes the consumer off its queue.
func (c *Consumer) leave(w *worker) {
	q := c.src.q
	q.mu.Lock()
	if !q.dead {
		q.m.Unsubscribe(w.now, &c.qc, &w.out)
		w.out.Unused = false // checkUnused asks, once what is out has come back
		w.carry(q)
	}
	q.mu.Unlock()
}

// checkUnused has an auto-delete queue deleted that lost its last consumer.
func (c *Consumer) checkUnused(w *worker) {
	q := c.src.q
	if !q.def.AutoDelete {
		return
	}
	q.mu.Lock()
	if !q.dead && q.m.ConsumerCount() == 0 {
		w.unused = append(w.unused, unusedQueue{q: q})
	}
	q.mu.Unlock()
}

// unblock puts the consumer back in turn, because credit may have come back.
// resume has to follow.
func (c *Consumer) unblock() {
	q := c.src.q
	q.mu.Lock()
	if !q.dead {
		q.m.Unblock(&c.qc)
	}
	q.mu.Unlock()
}

// resume hands out what the consumer's queue holds.
func (c *Consumer) resume(w *worker) {
	q := c.src.q
	q.mu.Lock()
	if !q.dead {
		q.m.Dispatch(w.now, &w.out)
		w.carry(q)
	}
	q.mu.Unlock()
}

// Get polls a queue (basic.get). It sends get-ok with the message; ok is false
// if the queue is empty.
func (ch *Channel) Get(name string, noAck bool) (ok bool, err *wire.Error) {
	q, err := ch.findQueue(name)
	if err != nil {
		return false, err
	}
	if c := &q.def.Config; c.Type == topology.Quorum && c.SingleActiveConsumer {
		return false, wire.ChannelError(wire.ResourceLocked, "cannot obtain access to locked queue '%s' in vhost '%s'. "+
			"basic.get operations are not supported by <<\"quorum\">> queues with single active consumer", q.def.Name, q.vh.name)
	}
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	defer w.finish()
	for {
		q.mu.Lock()
		if q.dead {
			q.mu.Unlock()
			return false, q.vh.top.NoQueue(q.def.Name)
		}
		d, ok := q.m.Get(w.now, noAck, &w.out)
		fetch := store.Ref(w.out.Fetch)
		page := w.out.Warm
		w.out.Fetch, w.out.Warm = 0, false // loaded here and now, not by carry
		if ok {
			w.logFacts(q) // before it can be sent
			ch.sendGetOk(w, q, d, noAck)
		} else if fetch == 0 {
			ch.countGetEmpty(w)
		}
		w.carry(q)
		q.mu.Unlock()
		if ok || fetch == 0 && !page {
			return ok, nil
		}
		if page {
			ch.conn.e.bringPages(q)
			if ch.conn.e.disk.Err() != nil {
				return false, errDiskFailed()
			}
			continue
		}
		if err := ch.conn.e.load(fetch); err != nil {
			if ch.conn.e.disk.Err() != nil {
				return false, errDiskFailed()
			}
			q.mu.Lock()
			ch.conn.e.setAside(q, fetch, err)
			q.mu.Unlock()
		}
	}
}

func errDiskFailed() *wire.Error {
	return wire.ConnectionError(wire.InternalError, "the broker's disk has failed")
}

// maxGetSources bounds the queues that a channel remembers having polled.
const maxGetSources = 256

func (ch *Channel) sendGetOk(w *worker, q *Queue, d queue.Delivery, noAck bool) {
	o := ch.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	var tag uint64
	if noAck {
		tag = ch.unacked.Skip()
	} else {
		if ch.gets == nil || len(ch.gets) >= maxGetSources {
			// What is out keeps its source; a queue that is polled again gets
			// another.
			ch.gets = make(map[*Queue]*source)
		}
		src := ch.gets[q]
		if src == nil {
			src = &source{q: q}
			ch.gets[q] = src
		}
		tag = ch.unacked.Add(out{src, d.Seq, ch.unacked.LastTag() + 1})
	}
	ch.countGet(w, noAck, d.Entry.Flags&queue.Redelivered != 0)
	if q.marks && !noAck {
		o.mark = w.facts
	}
	before := len(o.buf)
	if rec := w.visible(q, &d); !o.closed && rec != nil {
		o.buf = rec.AppendGetOk(o.buf, ch.target, tag, d.Entry.Flags&queue.Redelivered != 0, uint32(q.m.ReadyCount()))
	}
	o.held.Add(int64(len(o.buf) - before))
	if r := store.Ref(d.Entry.Ref); r.Large() && len(o.buf) > before {
		o.held.Add(o.stream(w.e.disk.Blob(r), uint64(d.Entry.BodyBytes), ch.target, w.e.logger))
	}
	o.wake()
	if noAck {
		w.rel.Drop(store.Ref(d.Entry.Ref))
	}
}
