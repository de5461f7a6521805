package engine

import (
	"runtime"
	"slices"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// finish brings everything to rest and looks at what is left.
func (w *world) finish() {
	w.e.ReleaseConfirms()
	for _, c := range w.clients {
		if c.dying {
			c.cut()
			c.connect()
		}
		c.endTransactions()
	}
	quiet, deadline := 0, time.Now().Add(20*time.Second)
	for quiet < 3 && !w.t.Failed() {
		quiet++
		for _, c := range w.clients {
			if c.settleAll() || w.underWay() {
				quiet = 0
			}
		}
		if time.Now().After(deadline) {
			w.t.Error("clients do not come to rest")
		}
	}
	ready := w.checkQueues()
	for _, c := range w.clients {
		c.checkAtRest()
	}
	if refs := w.referencesAre(int64(ready)); refs != int64(ready) {
		w.t.Errorf("%d references to bodies for %d messages", refs, ready)
	}
	w.checkLedger()
	for _, c := range w.clients {
		c.cut()
	}
	for _, q := range w.e.allQueues() {
		must(w.t, w.admin.DeleteQueue(&wire.QueueDelete{Queue: q.def.Name}, func(uint32) {}))
	}
	if refs := w.referencesAre(0); refs != 0 {
		w.t.Errorf("%d references to bodies without a queue", refs)
	}
	if n := len(w.e.timers.heap); n != 0 {
		w.t.Errorf("%d timers without a queue", n)
	}
	w.e.Close()
}

// references are those to bodies, in memory and on the disk.
func (w *world) references() int64 {
	n := w.e.arena.References()
	if w.e.disk != nil {
		n += w.e.disk.References()
	}
	return n
}

// referencesAre waits for that number of references, and returns how many there
// are: a timer's goroutine may be about to drop its last.
func (w *world) referencesAre(want int64) (n int64) {
	for until := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if n = w.references(); n == want || time.Now().After(until) {
			return n
		}
	}
}

// checkQueues returns the number of ready messages. No message may wait while a
// consumer could take it: all of them have acknowledged everything.
func (w *world) checkQueues() (ready int) {
	for _, q := range w.e.allQueues() {
		q.mu.Lock()
		if q.m.UnackedCount() > 0 || q.m.MovingCount() > 0 {
			w.t.Errorf("queue %s: %d unacknowledged, %d on their way to a dead-letter exchange", q.def.Name, q.m.UnackedCount(), q.m.MovingCount())
		}
		if q.m.ReadyCount() > 0 && q.m.ConsumerCount() > 0 {
			w.t.Errorf("queue %s: %d messages wait for %d consumers", q.def.Name, q.m.ReadyCount(), q.m.ConsumerCount())
		}
		ready += q.m.ReadyCount()
		q.mu.Unlock()
	}
	return ready
}

// checkLedger takes what is left in the safe queues and sees that every copy
// that was published ended exactly once.
func (w *world) checkLedger() {
	for _, name := range append(slices.Clone(safeQueues), "dead") {
		for {
			ok, err := w.admin.Get(name, true)
			must(w.t, err)
			if !ok {
				break
			}
		}
		for _, r := range drain(w.t, w.admin.conn) {
			if m, ok := r.method.(*wire.BasicGetOk); ok {
				w.count(w.ended, copyIn(name, m.RoutingKey, r.id))
			}
		}
	}
	for c, n := range w.expected {
		if n != 1 || w.ended[c] != 1 {
			w.t.Errorf("message %x in %s: published %d times, ended %d times", c.id, c.queue, n, w.ended[c])
			return
		}
	}
	for c := range w.ended {
		if w.expected[c] == 0 {
			w.t.Errorf("message %x in %s: ended, and never published", c.id, c.queue)
			return
		}
	}
}

// checkAtRest looks for credit that was not given back and confirms that were
// not sent.
func (c *client) checkAtRest() {
	t := c.w.t
	for id, m := range c.channels {
		if n := m.ch.held.Load(); n != 0 {
			t.Errorf("channel %d: %d deliveries count against its prefetch, none is out", id, n)
		}
		if n := m.ch.unacked.Len(); n != 0 {
			t.Errorf("channel %d: %d deliveries unacknowledged, none is out", id, n)
		}
		for _, x := range m.ch.consumers {
			if n := x.held.Load(); n != 0 {
				t.Errorf("channel %d, consumer %s: %d deliveries count against its prefetch, none is out", id, x.tag, n)
			}
		}
		if m.confirmed != m.published && m.confirming {
			t.Errorf("channel %d: %d of %d publishes confirmed", id, m.confirmed, m.published)
		}
	}
}
