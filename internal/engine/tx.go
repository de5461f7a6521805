package engine

import (
	"slices"

	"github.com/warrenmq/warren/internal/core/message"
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

type txPublish struct {
	rec       message.Record // a copy
	mandatory bool
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
	it := item{rec: rec, ch: ch}
	if _, err := ch.examine(&it, r, props); err != nil {
		return err
	}
	t.publishes = append(t.publishes, txPublish{slices.Clone(it.rec), mandatory})
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

// CommitTx applies the transaction (tx.commit). Messages that a full queue
// refuses are lost and reported as RabbitMQ does.
func (ch *Channel) CommitTx() *wire.Error {
	t := ch.tx
	if t == nil {
		return notTransactional()
	}
	ch.tx = nil // publish and settle go straight through for the moment
	defer func() { ch.tx = &tx{} }()
	ch.txCommitting = true
	for i := range t.publishes {
		p := &t.publishes[i]
		props, err := wire.ScanProps(p.rec.Props())
		if err != nil {
			continue // cannot be: checked when it was published
		}
		// The exchange may have been deleted since: then the message is
		// unroutable, and the commit goes on.
		_ = ch.publish(p.rec, &props, p.mandatory)
	}
	ch.conn.Flush()
	ch.txCommitting = false
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	for _, s := range t.settled {
		ch.settle(w, s.list, s.what)
	}
	w.finish()
	if len(ch.nacks) > 0 {
		ch.nacks = ch.nacks[:0]
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
