package engine

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/wire"
)

// Channel is one open channel. Its methods are called by the connection's
// reader goroutine.
type Channel struct {
	conn   *Conn
	target message.Target

	// Under conn.Out.mu:
	unacked   session.Unacked[out]
	consumers map[string]*Consumer
	closed    bool
	counts    status.Counts // but for what is counted in published and confirms
	meter     *status.Meter // if somebody looks

	published, returned, dropped atomic.Uint64

	leaving []*Consumer // taken off their queues by detach

	// Prefetch. limit and held count the whole channel (qos global=true);
	// nextLimit is what a new consumer gets (global=false).
	nextLimit int32 // written under conn.Out.mu
	limit     atomic.Int32
	held      atomic.Int32
	starved   atomic.Bool // some consumer was refused because of limit

	gets map[*Queue]*source // deliveries by basic.get

	confirmMu  sync.Mutex // guards confirms against the committer
	confirms   session.Confirms
	confirming bool // written under conn.Out.mu, as tx
	nacks      []uint64
	outcomes   []session.Outcome
	inRun      bool // has publishes to confirm in the running run

	upload       *upload // of the body that is coming, nil if that needs none
	tx           *tx
	txCommitting bool
	lastQueue    string // the last queue declared on this channel
	reply        *replyConsumer
}

// out is one unacknowledged delivery.
type out struct {
	src *source
	seq queue.Seq
	tag uint64 // its delivery tag, for tx.rollback
}

// source is where deliveries of a channel come from: a consumer, or a queue
// polled with basic.get. It gathers what a run settles.
type source struct {
	q       *Queue
	c       *Consumer // nil for basic.get
	settled []queue.Seq
}

// OpenChannel opens a channel that is not open.
func (c *Conn) OpenChannel(id uint16) *Channel {
	ch := &Channel{
		conn:      c,
		target:    message.Target{Channel: id, FrameMax: c.info.FrameMax},
		consumers: make(map[string]*Consumer),
	}
	c.Out.mu.Lock()
	c.channels[id] = ch
	c.Out.mu.Unlock()
	if !c.info.Hidden {
		c.e.churn.channelsOpened.Add(1)
	}
	return ch
}

// detach takes the channel's consumers off their queues. The queues they leave
// are not deleted as unused before Close.
func (ch *Channel) detach() {
	c := ch.conn
	o := c.Out
	o.mu.Lock()
	for _, x := range ch.consumers {
		ch.leaving = append(ch.leaving, x)
	}
	clear(ch.consumers)
	o.mu.Unlock()
	w := &c.w
	w.begin(c.e.now())
	for _, x := range ch.leaving {
		x.leave(w)
	}
	w.finish()
}

// Close ends the channel: its consumers go, and what it has unacknowledged
// returns to the queues as failed deliveries.
func (ch *Channel) Close() {
	c := ch.conn
	c.Flush()
	c.Out.mu.Lock()
	delete(c.channels, ch.target.Channel)
	c.Out.mu.Unlock()
	if !c.info.Hidden {
		c.e.churn.channelsClosed.Add(1)
	}
	// Consumers first: what returns must not come straight back to this channel.
	ch.detach()
	o := c.Out
	w := &c.w
	w.begin(c.e.now())
	o.mu.Lock()
	ch.closed = true
	back := ch.unacked.TakeAll(nil)
	o.mu.Unlock()
	if ch.tx != nil {
		back = ch.tx.giveBack(back)
		ch.tx.end()
	}
	ch.settle(w, back, fail)
	ch.endUpload()
	ch.dropReply()
	for _, x := range ch.leaving {
		x.checkUnused(w)
	}
	w.finish()
	c.e.waitingMu.Lock()
	delete(c.e.waiting, ch)
	c.e.waitingMu.Unlock()
}

// SelectConfirm turns on publisher confirms (confirm.select).
func (ch *Channel) SelectConfirm() *wire.Error {
	if ch.tx != nil {
		return wire.ChannelError(wire.PreconditionFailed, "cannot switch from tx to confirm mode")
	}
	ch.conn.Out.mu.Lock()
	ch.confirming = true
	ch.conn.Out.mu.Unlock()
	return nil
}

// Qos sets the prefetch limit: of the whole channel if global, else of the
// consumers that come after (RabbitMQ documentation, "Consumer Prefetch").
func (ch *Channel) Qos(prefetch uint16, global bool) {
	if !global {
		ch.conn.Out.mu.Lock()
		ch.nextLimit = int32(prefetch)
		ch.conn.Out.mu.Unlock()
		return
	}
	ch.limit.Store(int32(prefetch))
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	ch.feedStarved(w)
	w.finish()
}

// feedStarved lets consumers that the channel's own limit held back have
// another look, after that limit or what counts against it has changed.
func (ch *Channel) feedStarved(w *worker) {
	if !ch.starved.Swap(false) {
		return
	}
	o := ch.conn.Out
	o.mu.Lock()
	cons := make([]*Consumer, 0, len(ch.consumers))
	for _, c := range ch.consumers {
		cons = append(cons, c)
	}
	o.mu.Unlock()
	// All of a queue's consumers are back in turn before it dispatches.
	slices.SortFunc(cons, func(a, b *Consumer) int {
		return cmp.Or(cmp.Compare(a.src.q.id, b.src.q.id), cmp.Compare(a.number, b.number))
	})
	for i := 0; i < len(cons); {
		q := cons[i].src.q
		q.mu.Lock()
		for ; i < len(cons) && cons[i].src.q == q; i++ {
			if !q.dead {
				q.m.Unblock(&cons[i].qc)
			}
		}
		if !q.dead {
			q.m.Dispatch(w.now, &w.out)
			w.carry(q)
		}
		q.mu.Unlock()
	}
}

// closeRun registers the position that the run's publishes wait for, and
// confirms at once what is durable already.
func (ch *Channel) closeRun(pos session.Position) {
	e := ch.conn.e
	ch.inRun = false
	slices.Sort(ch.nacks)
	ch.confirmMu.Lock()
	ch.conn.pipelined = ch.conn.pipelined || ch.confirms.Waiting()
	ch.confirms.Wait(pos, ch.nacks)
	ch.conn.unconfirmed = max(ch.conn.unconfirmed, ch.confirms.Open())
	ch.confirmMu.Unlock()
	ch.nacks = ch.nacks[:0]
	e.releaseOrAwait(ch, e.durable())
}

// releaseConfirms sends what may be confirmed now. It reports whether more
// awaits a later position.
func (ch *Channel) releaseConfirms(durable session.Position) (more bool) {
	ch.confirmMu.Lock()
	defer ch.confirmMu.Unlock()
	settled := ch.confirms.Settled()
	ch.outcomes = ch.confirms.Release(ch.outcomes[:0], durable)
	if n := ch.confirms.Settled() - settled; n > 0 {
		ch.conn.vh.totals[status.Confirm].Add(n)
	}
	more = ch.confirms.Waiting()
	if len(ch.outcomes) == 0 && !more {
		return false
	}
	o := ch.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || ch.closed {
		return false
	}
	if len(ch.outcomes) == 0 {
		return more
	}
	before := len(o.buf)
	for _, x := range ch.outcomes {
		o.buf = appendOutcome(o.buf, ch.target.Channel, x)
	}
	o.held.Add(int64(len(o.buf) - before))
	o.wake()
	return more
}

// appendOutcome appends basic.ack or basic.nack without going through an
// interface, because every publish ends in one.
func appendOutcome(b []byte, channel uint16, x session.Outcome) []byte {
	id := wire.IDBasicAck
	if x.Nack {
		id = wire.IDBasicNack
	}
	var bits byte
	if x.Multiple {
		bits = 1
	}
	s := x.Seq
	return append(b, wire.FrameMethod, byte(channel>>8), byte(channel), 0, 0, 0, 13,
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id),
		byte(s>>56), byte(s>>48), byte(s>>40), byte(s>>32), byte(s>>24), byte(s>>16), byte(s>>8), byte(s),
		bits, wire.FrameEnd)
}
