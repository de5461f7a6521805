package engine

import (
	"sync"
	"sync/atomic"

	"github.com/warrenmq/warren/internal/core/status"
)

// Counting costs the hot path an addition to memory that the counting goroutine
// owns, or that a lock guards which it holds anyway. What it gathers goes to the
// shared counters once per run: tallies, one set per virtual host.

// tallies are the sums of a virtual host.
type tallies [status.Kinds]atomic.Uint64

func (t *tallies) add(c *status.Counts) {
	for i, n := range c {
		if n > 0 {
			t[i].Add(n)
		}
	}
}

func (t *tallies) counts() (c status.Counts) {
	for i := range t {
		c[i] = t[i].Load()
	}
	return c
}

// churn counts what comes and goes.
type churn struct {
	connectionsOpened, connectionsClosed         atomic.Uint64
	channelsOpened, channelsClosed               atomic.Uint64
	queuesDeclared, queuesCreated, queuesDeleted atomic.Uint64
}

// traffic is what a connection has read and written.
type traffic struct {
	reads, readBytes, writes, writtenBytes atomic.Uint64
}

// CountRead and CountWrite count one read from, or write to, the socket. Safe for
// concurrent use.
func (c *Conn) CountRead(bytes int) {
	c.traffic.reads.Add(1)
	c.traffic.readBytes.Add(uint64(bytes))
	c.vh.traffic.readBytes.Add(uint64(bytes))
}

// CountWrite is explained at CountRead.
func (c *Conn) CountWrite(bytes int) {
	c.traffic.writes.Add(1)
	c.traffic.writtenBytes.Add(uint64(bytes))
	c.vh.traffic.writtenBytes.Add(uint64(bytes))
}

// connTally is what a connection's reader counts during a run.
type connTally struct {
	publisher *Channel // whose publishes are in published
	published uint64
	acked     uint64
}

// publish counts one publish of ch.
func (t *connTally) publish(ch *Channel) {
	if t.publisher != ch {
		t.settle(ch.conn.vh)
		t.publisher = ch
	}
	t.published++
}

// settle gives what was counted to the counters that others see.
func (t *connTally) settle(vh *VHost) {
	if t.published > 0 {
		t.publisher.published.Add(t.published)
		vh.totals[status.Publish].Add(t.published)
	}
	if t.acked > 0 {
		vh.totals[status.Ack].Add(t.acked)
	}
	*t = connTally{}
}

// countUnroutable counts a publish that no queue wanted.
func (ch *Channel) countUnroutable(mandatory bool) {
	if mandatory {
		ch.returned.Add(1)
		ch.conn.vh.totals[status.ReturnUnroutable].Add(1)
		return
	}
	ch.dropped.Add(1)
	ch.conn.vh.totals[status.DropUnroutable].Add(1)
}

// workerTally is what a worker has handed out during a run, all in one virtual
// host.
type workerTally struct {
	vh     *VHost
	counts status.Counts
	any    bool
}

func (t *workerTally) settle() {
	if t.any {
		t.vh.totals.add(&t.counts)
		*t = workerTally{}
	}
}

// add counts one event of ch, whose outbox lock is held.
func (t *workerTally) add(ch *Channel, k status.Kind) {
	if vh := ch.conn.vh; t.vh != vh {
		t.settle()
		t.vh, t.any = vh, true
	}
	t.counts[k]++
	ch.counts[k]++
}

// delivered counts a message that goes to a consumer of ch.
func (t *workerTally) delivered(ch *Channel, noAck, again bool) {
	if noAck {
		t.add(ch, status.DeliverNoAck)
	} else {
		t.add(ch, status.Deliver)
	}
	if again {
		t.add(ch, status.Redeliver)
	}
}

// countGet counts a message that was polled. Called with conn.Out.mu held.
func (ch *Channel) countGet(w *worker, noAck, again bool) {
	if noAck {
		w.tally.add(ch, status.GetNoAck)
	} else {
		w.tally.add(ch, status.Get)
	}
	if again {
		w.tally.add(ch, status.Redeliver)
	}
}

// countGetEmpty counts a poll that found nothing.
func (ch *Channel) countGetEmpty(w *worker) {
	ch.conn.Out.mu.Lock()
	w.tally.add(ch, status.GetEmpty)
	ch.conn.Out.mu.Unlock()
}

// sharedMeter is a meter that any goroutine may read.
type sharedMeter struct {
	mu    sync.Mutex
	meter status.Meter
}
