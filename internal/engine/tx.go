package engine

import (
	"slices"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// MaxTxBytes bounds what one transaction holds, as it will stand in the log, so
// that an open transaction cannot fill the memory, and that a commit is one group
// in half a log file. Beyond it the channel is closed with 406, in the words of
// RabbitMQ's limit for messages; RabbitMQ has none for transactions.
const MaxTxBytes = 32 << 20

// txSettledBytes is what a settled delivery counts: what it takes in memory, which
// is more than in the log.
const txSettledBytes = 32

// maxCommitBytes bounds a group that has grown because its publishes were routed
// again, by bindings made since.
const maxCommitBytes = 512 << 20

// tx is an open transaction: what a channel has published and settled since
// tx.select or the last commit or rollback.
type tx struct {
	publishes []txPublish
	bytes     int // of both
	settled   []txSettle
	alarm     *alarm
}

// take empties the transaction into another one. A channel keeps its tx, because
// others look whether it has one.
func (t *tx) take() *tx {
	all := *t
	*t = tx{alarm: t.alarm}
	return &all
}

// end lets go of what the transaction has counted.
func (t *tx) end() {
	t.alarm.inTx.Add(-int64(t.bytes))
	t.bytes = 0
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
		ch.conn.Out.mu.Lock()
		ch.tx = &tx{alarm: ch.conn.e.alarm}
		ch.conn.Out.mu.Unlock()
	}
	return nil
}

// publish keeps a publish for the commit. What can be wrong with it is told now,
// as RabbitMQ does.
func (t *tx) publish(ch *Channel, rec message.Record, props *wire.PropsView, mandatory bool) *wire.Error {
	r := ch.conn.cachedRoute(rec)
	if r.err != nil {
		return r.err
	}
	it := newItem(ch, rec, props, mandatory)
	r, err := ch.examine(&it, r, props)
	if err != nil {
		return err
	}
	if r.quorum {
		it.keep()
	}
	bytes := store.PublishBytes(len(r.queues), len(it.rec))
	if ch.upload != nil {
		bytes += txBlobBytes
	}
	if err := t.grow(bytes); err != nil {
		return err
	}
	if ch.upload != nil {
		if err := ch.finishUpload(&it, len(r.queues) > 0); err != nil {
			return ch.refuseUpload(err)
		}
		it.blob.Retain() // dropBlobs, with the transaction
	}
	it.rec = slices.Clone(it.rec)
	t.publishes = append(t.publishes, txPublish{it, r.queues, r.reply})
	return nil
}

// settle keeps what becomes of deliveries for the commit. After an error they are
// in the transaction as well, so that they return with the rest of it.
func (t *tx) settle(list []out, what decision) *wire.Error {
	t.settled = append(t.settled, txSettle{slices.Clone(list), what})
	return t.grow(txSettledBytes * len(list))
}

func (t *tx) grow(bytes int) *wire.Error {
	if t.bytes+bytes > MaxTxBytes {
		return errTxTooLarge()
	}
	if !t.alarm.growTx(bytes) {
		return wire.ChannelError(wire.PreconditionFailed,
			"all open transactions together are larger than %d", t.alarm.maxInTx())
	}
	t.bytes += bytes
	return nil
}

func errTxTooLarge() *wire.Error {
	return wire.ChannelError(wire.PreconditionFailed, "transaction is larger than configured max size %d", MaxTxBytes)
}

// dropBlobs lets go of the blobs of publishes, once the log names them or nobody will.
func (t *tx) dropBlobs() {
	for i := range t.publishes {
		if b := t.publishes[i].it.blob; b != nil {
			b.Release()
			t.publishes[i].it.blob = nil
		}
	}
}

// giveBack hands over the deliveries that were settled but not committed.
func (t *tx) giveBack(dst []out) []out {
	for _, s := range t.settled {
		dst = append(dst, s.list...)
	}
	t.settled = nil
	t.dropBlobs()
	return dst
}

// RollbackTx drops the transaction's publishes; its deliveries are
// unacknowledged again, under tags the client knows.
func (ch *Channel) RollbackTx() *wire.Error {
	if ch.tx == nil {
		return notTransactional()
	}
	t := ch.tx.take()
	t.dropBlobs()
	t.end()
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
