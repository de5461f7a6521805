package engine

import (
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/wire"
)

// decision is what becomes of a delivery.
type decision uint8

const (
	ack      decision = iota
	giveBack          // to its place in the queue
	fail              // the same, as a failed delivery
	discard           // to the dead-letter exchange, if there is one
)

// Ack takes basic.ack. It is applied at the next Flush.
func (ch *Channel) Ack(tag uint64, multiple bool) *wire.Error {
	list, err := ch.take(tag, multiple, ack)
	if err != nil {
		return err
	}
	if ch.tx != nil {
		return ch.tx.settle(list, ack)
	}
	run := &ch.conn.run
	for _, d := range list {
		s := d.src
		if len(s.settled) == 0 {
			run.settling = append(run.settling, s)
		}
		s.settled = append(s.settled, d.seq)
	}
	ch.release(list)
	return nil
}

// Nack takes basic.nack. What it requeues has not failed, as in RabbitMQ 4.3.
func (ch *Channel) Nack(tag uint64, multiple, requeue bool) *wire.Error {
	if requeue {
		return ch.refuse(tag, multiple, giveBack)
	}
	return ch.refuse(tag, multiple, discard)
}

// Reject takes basic.reject. What it requeues counts as a failed delivery.
func (ch *Channel) Reject(tag uint64, requeue bool) *wire.Error {
	if requeue {
		return ch.refuse(tag, false, fail)
	}
	return ch.refuse(tag, false, discard)
}

func (ch *Channel) refuse(tag uint64, multiple bool, what decision) *wire.Error {
	ch.conn.Flush()
	list, err := ch.take(tag, multiple, what)
	if err != nil {
		return err
	}
	if ch.tx != nil {
		return ch.tx.settle(list, what)
	}
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	ch.settle(w, list, what)
	w.finish()
	return nil
}

// Recover gives back everything unacknowledged (basic.recover, requeue=true).
func (ch *Channel) Recover() {
	ch.conn.Flush()
	o := ch.conn.Out
	o.mu.Lock()
	list := ch.unacked.TakeAll(nil)
	o.mu.Unlock()
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	ch.settle(w, list, giveBack)
	w.finish()
}

// take removes deliveries from the unacknowledged list. The result is valid
// until the next call on the connection.
func (ch *Channel) take(tag uint64, multiple bool, what decision) ([]out, *wire.Error) {
	c := ch.conn
	if cap(c.taken) > maxKeptItems {
		c.taken = nil
	}
	o := c.Out
	o.mu.Lock()
	list, ok := ch.unacked.Settle(c.taken[:0], tag, multiple)
	if what == ack {
		ch.counts[status.Ack] += uint64(len(list))
		c.tally.acked += uint64(len(list))
	}
	o.mu.Unlock()
	c.taken = list
	if !ok {
		return nil, wire.ChannelError(wire.PreconditionFailed, "unknown delivery tag %d", tag)
	}
	return list, nil
}

// release gives the channel's own credit back for deliveries that are settled.
// A consumer's credit comes back with the settling, under the queue's lock.
func (ch *Channel) release(list []out) {
	n := int32(0)
	for _, d := range list {
		if d.src.c != nil {
			n++
		}
	}
	ch.held.Add(-n)
	if n > 0 && ch.starved.Load() {
		ch.conn.hungry = append(ch.conn.hungry, ch)
	}
}

// applySettled acknowledges what a run gathered for one source.
func (s *source) applySettled(w *worker) {
	q := s.q
	q.mu.Lock()
	if !q.dead {
		for _, seq := range s.settled {
			q.m.Settle(seq, &w.out)
		}
		if c := s.c; c != nil {
			c.held.Add(-int32(len(s.settled)))
			// With a starved channel feedHungry comes next: it asks all its
			// consumers in turn, so that this one does not take all the room.
			if !c.ch.starved.Load() && q.m.Unblock(&c.qc) {
				q.m.Dispatch(w.now, &w.out)
			}
		}
		w.carry(q)
	}
	q.mu.Unlock()
	if cap(s.settled) > maxKeptItems {
		s.settled = nil
	}
	s.settled = s.settled[:0]
}

// settle applies a decision at once, one queue after the other in order of
// their first delivery, each queue's lock taken once.
func (ch *Channel) settle(w *worker, list []out, what decision) {
	if len(list) == 0 {
		return
	}
	ch.release(list)
	var order []*Queue
	byQueue := make(map[*Queue][]out)
	for _, d := range list {
		q := d.src.q
		if _, seen := byQueue[q]; !seen {
			order = append(order, q)
		}
		byQueue[q] = append(byQueue[q], d)
	}
	for _, q := range order {
		q.mu.Lock()
		if !q.dead {
			for _, d := range byQueue[q] {
				q.decide(w, d, what)
			}
			q.m.Requeued(w.now, &w.out)
			w.carry(q)
		}
		q.mu.Unlock()
	}
	ch.conn.feedHungry(w)
}

func (q *Queue) decide(w *worker, d out, what decision) {
	switch what {
	case ack:
		q.m.Settle(d.seq, &w.out)
	case giveBack:
		q.m.Return(d.seq, queue.GivenBack, &w.out)
	case fail:
		q.m.Return(d.seq, queue.Failed, &w.out)
	case discard:
		q.m.Reject(d.seq, &w.out)
	}
	if c := d.src.c; c != nil {
		c.held.Add(-1)
		q.m.Unblock(&c.qc)
	}
}

// feedHungry lets consumers go on that their channels' own limit held back.
func (c *Conn) feedHungry(w *worker) {
	for i, ch := range c.hungry {
		ch.feedStarved(w)
		c.hungry[i] = nil
	}
	c.hungry = c.hungry[:0]
}

var _ queue.Gate = (*Consumer)(nil)
