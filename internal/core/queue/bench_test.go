package queue

import "testing"

// roll is a queue in steady state: a backlog, and runs of messages that come,
// go out and are acknowledged.
type roll struct {
	m   *Machine
	c   *Consumer
	out Output
	run []Seq
	ref uint64
}

func newRoll(backlog int) *roll {
	cfg := NoLimits()
	cfg.Durable = true
	r := &roll{m: New(cfg, 0), c: &Consumer{Gate: &counter{left: 0}}}
	r.m.Subscribe(0, r.c)
	for range backlog {
		r.put()
	}
	r.out.Reset()
	return r
}

func (r *roll) put() {
	r.ref++
	r.m.Enqueue(0, Message{Entry: Entry{Ref: r.ref, BodyBytes: 16, Flags: Persistent}, TTLMillis: -1}, &r.out)
}

// turn moves n messages through the queue.
func (r *roll) turn(n int) {
	for range n {
		r.put()
	}
	r.c.Gate.(*counter).left = n
	r.m.Unblock(r.c)
	r.m.Dispatch(0, &r.out)
	r.run = r.run[:0]
	for _, d := range r.out.Deliveries {
		r.run = append(r.run, d.Seq)
	}
	r.out.Reset()
	for _, s := range r.run {
		r.m.Settle(s, &r.out)
	}
	r.out.Reset()
}

func benchmarkRoll(b *testing.B, run, backlog int) {
	r := newRoll(backlog)
	b.ReportAllocs()
	for b.Loop() {
		r.turn(run)
	}
	if len(r.run) != run {
		b.Fatalf("%d delivered, want %d", len(r.run), run)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*run), "ns/msg")
}

func BenchmarkOneByOne(b *testing.B)       { benchmarkRoll(b, 1, 0) }
func BenchmarkRunsOf64(b *testing.B)       { benchmarkRoll(b, 64, 0) }
func BenchmarkRunsOf1000(b *testing.B)     { benchmarkRoll(b, 1000, 0) }
func BenchmarkRunsBehindALot(b *testing.B) { benchmarkRoll(b, 64, 100_000) }

// BenchmarkAckBehindStraggler acknowledges one by one while the first message
// stays out for ever.
func BenchmarkAckBehindStraggler(b *testing.B) {
	r := newRoll(1)
	r.c.Gate.(*counter).left = 1
	r.m.Unblock(r.c)
	r.m.Dispatch(0, &r.out)
	r.out.Reset()
	b.ReportAllocs()
	for b.Loop() {
		r.turn(64)
	}
}

// A steady flow allocates nothing, with or without a backlog.
func TestSteadyFlowAllocatesNothing(t *testing.T) {
	for _, c := range []struct{ run, backlog int }{{1, 0}, {64, 0}, {200, 0}, {256, 0}, {64, 10_000}} {
		r := newRoll(c.backlog)
		for range 500 { // pages and slices grow to what they need
			r.turn(c.run)
		}
		if n := testing.AllocsPerRun(500, func() { r.turn(c.run) }); n != 0 {
			t.Errorf("runs of %d behind %d: %v allocations each", c.run, c.backlog, n)
		}
		if len(r.run) != c.run {
			t.Fatalf("%d delivered, want %d", len(r.run), c.run)
		}
	}
}

// A queue that empties keeps one page, wherever in a page it does.
func TestEmptyQueueKeepsOnePage(t *testing.T) {
	r := newRoll(0)
	for n := range 600 {
		r.turn(n)
		if l := &r.m.levels[0]; len(l.pages)-l.first > 1 {
			t.Fatalf("%d pages in the deque after %d messages", len(l.pages)-l.first, l.tail)
		}
	}
	r = newRoll(0)
	for range 100 {
		r.turn(pageLen)
		if l := &r.m.levels[0]; len(l.pages) != l.first {
			t.Fatalf("a full page is kept after %d messages", l.tail)
		}
	}
}

// One message that nobody acknowledges pins its page, and no other.
func TestStragglerPinsOnePage(t *testing.T) {
	r := newRoll(1)
	r.c.Gate.(*counter).left = 1
	r.m.Unblock(r.c)
	r.m.Dispatch(0, &r.out)
	straggler := r.out.Deliveries[0].Seq
	r.out.Reset()
	for range 1000 {
		r.turn(100)
	}
	l := &r.m.levels[0]
	pages := 0
	for _, s := range l.pages {
		if !s.empty() {
			pages++
		}
	}
	if pages > 2 {
		t.Errorf("%d pages are kept for one message", pages)
	}
	if !r.m.Settle(straggler, &r.out) || len(l.pages)-l.first > 1 {
		t.Errorf("%d pages in the deque once it is settled", len(l.pages)-l.first)
	}
}
