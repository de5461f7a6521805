package engine

import (
	"slices"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/wire"
)

// MaxTxBytes bounds the publishes that one transaction holds, so that an open
// transaction cannot fill the memory, and that a commit stays one group in the
// log. Beyond it the channel is closed with 406.
const MaxTxBytes = 32 << 20

// tx is an open transaction: what a channel has published and settled since
// tx.select or the last commit or rollback.
type tx struct {
	publishes []txPublish
	bytes     int
	settled   []txSettle
}

// txPublish is a publish that awaits the commit, with the queues it was routed
// to when it came: a commit does not look at bindings again.
type txPublish struct {
	it     item // its record is a copy
	queues []*Queue
	reply  *replyTarget
}

type txSettle struct {
	list []out // a copy
	what decision
}

// SelectTx makes the channel transactional (tx.select).
func (ch *Channel) SelectTx() *wire.Error {
	if ch.confirming {
		return wire.ChannelError(wire.PreconditionFailed, "cannot switch from confirm to tx mode")
	}
	if ch.tx == nil {
		ch.tx = &tx{}
	}
	return nil
}

// publish keeps a publish for the commit. What can be wrong with it is told now,
// as RabbitMQ does.
func (t *tx) publish(ch *Channel, rec message.Record, props *wire.PropsView, mandatory bool) *wire.Error {
	if t.bytes+len(rec) > MaxTxBytes {
		return wire.ChannelError(wire.PreconditionFailed,
			"transaction is larger than configured max size %d", MaxTxBytes)
	}
	r := ch.conn.cachedRoute(rec)
	if r.err != nil {
		return r.err
	}
	it := newItem(ch, rec, props, mandatory)
	r, err := ch.examine(&it, r, props)
	if err != nil {
		return err
	}
	it.rec = slices.Clone(it.rec)
	t.publishes = append(t.publishes, txPublish{it, r.queues, r.reply})
	t.bytes += len(rec)
	return nil
}

func (t *tx) settle(list []out, what decision) {
	t.settled = append(t.settled, txSettle{slices.Clone(list), what})
}

// giveBack hands over the deliveries that were settled but not committed.
func (t *tx) giveBack(dst []out) []out {
	for _, s := range t.settled {
		dst = append(dst, s.list...)
	}
	t.settled = nil
	return dst
}

// CommitTx applies the transaction (tx.commit). onOk is called once it is done:
// in memory before acks make room for deliveries, with a disk once publishes and
// acks, in this order, are durable. Messages that a full queue refuses are lost
// and reported as RabbitMQ does.
func (ch *Channel) CommitTx(onOk func()) *wire.Error {
	t := ch.tx
	if t == nil {
		return notTransactional()
	}
	ch.tx = &tx{}
	c := ch.conn
	ch.txCommitting = true
	for i := range t.publishes {
		p := &t.publishes[i]
		switch {
		case p.reply != nil:
			ch.publishReply(p.reply, &p.it)
		case len(p.queues) > 0:
			r := &route{queues: p.queues}
			c.place(r)
			c.addTo(r.group, p.it)
		case p.it.mandatory:
			ch.returnMessage(&p.it)
		}
	}
	c.Flush()
	ch.txCommitting = false
	refused := len(ch.nacks) > 0
	ch.nacks = ch.nacks[:0]
	if c.e.disk == nil && !refused {
		onOk()
	}
	w := &c.w
	w.begin(c.e.now())
	for _, s := range t.settled {
		ch.settle(w, s.list, s.what)
	}
	w.finish()
	if c.e.disk != nil {
		pos := c.lastPos
		if len(t.settled) > 0 {
			pos = session.Position(c.e.disk.End()) // acks have no position of their own
		}
		if err := c.e.waitPosition(pos); err != nil {
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

// RollbackTx drops the transaction's publishes; its deliveries are
// unacknowledged again, under tags the client knows.
func (ch *Channel) RollbackTx() *wire.Error {
	t := ch.tx
	if t == nil {
		return notTransactional()
	}
	ch.tx = &tx{}
	o := ch.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range t.settled {
		for _, d := range s.list {
			ch.unacked.Restore(d.tag, d)
		}
	}
	return nil
}

func notTransactional() *wire.Error {
	return wire.ChannelError(wire.PreconditionFailed, "channel is not transactional")
}
