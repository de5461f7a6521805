package queue

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// shelf is a host's place for cold pages.
type shelf struct {
	images map[uint64]Image
	next   uint64
}

func newShelf() *shelf { return &shelf{images: map[uint64]Image{}} }

func clone(img *Image) Image {
	c := *img
	c.Entries, c.Deadlines, c.Tries = slices.Clone(img.Entries), slices.Clone(img.Deadlines), slices.Clone(img.Tries)
	return c
}

// spill makes cold what may become so, and returns how many pages did.
func (s *shelf) spill(m *Machine, keep int) (n int) {
	imgs := make([]Image, 3)
	c := Cursor{}
	for more := true; more; {
		var taken int
		taken, more = m.TakeSpill(&c, keep, imgs)
		for i := range taken {
			s.next++
			if m.Spill(&imgs[i], &Cold{Place: s.next}) {
				s.images[s.next] = clone(&imgs[i])
				n++
			}
		}
	}
	return n
}

// warm brings pages back, and reports whether each was what it should be.
func (s *shelf) warm(m *Machine, pages []ColdPage) bool {
	for _, at := range pages {
		img := s.images[at.Cold.Place]
		delete(s.images, at.Cold.Place)
		if !m.Warm(at, &img) {
			return false
		}
	}
	return true
}

func (s *shelf) warmAll(m *Machine) bool {
	ok := true
	for c, more := (Cursor{}), true; more; {
		var pages []ColdPage
		pages, more = m.ColdWhere(&c, func(*Cold) bool { return true }, nil)
		ok = s.warm(m, pages) && ok
	}
	return ok && m.ColdPages() == 0
}

// release gives up pages that went whole, and returns what was in them.
func (s *shelf) release(cold []*Cold) (entries []Entry) {
	for _, c := range cold {
		img := s.images[c.Place]
		delete(s.images, c.Place)
		img.Each(func(i int) { entries = append(entries, img.Entries[i]) })
	}
	return entries
}

// coldStep makes pages cold, has the queue looked at like that, and brings them back
// or purges them.
func (p *pair) coldStep() {
	p.lastOp = "spill"
	before := p.m.HotPages()
	n := p.shelf.spill(p.m, p.choose("keep", 0, 1))
	p.spilled += n
	if p.m.HotPages() != before-n || p.m.ColdPages() != n {
		p.t.Fatalf("%d of %d pages are cold, %d hot", p.m.ColdPages(), before, p.m.HotPages())
	}
	p.checkCounts()
	p.checkPages()
	if p.choose("purge cold", 0, 3) == 0 {
		p.coldPurge = true
		p.lastOp = "purge of cold pages"
		want := p.n.purge()
		if got := p.m.Purge(&p.out); got != want {
			p.t.Fatalf("purged %d, want %d", got, want)
		}
		p.compareOutput()
		p.coldPurge = false
		p.check()
	}
	if !p.shelf.warmAll(p.m) {
		p.t.Fatalf("not every page can be brought back")
	}
}

// TestColdPagesAreTheSameQueue is TestMachineOverManyPages with pages that become
// cold in between.
func TestColdPagesAreTheSameQueue(t *testing.T) {
	spilled := 0
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 2))
		choose := func(_ string, lo, hi int) int { return lo + rng.IntN(hi-lo+1) }
		cfg := NoLimits()
		cfg.Durable = true
		cfg.HasDLX = seed%2 == 1
		if seed%3 == 2 {
			cfg.MaxPriority = 1
		}
		p := newPair(t, choose, cfg)
		p.burst = 700
		p.persistentOnly = true
		p.shelf = newShelf()
		for range 120 {
			p.step()
			p.check()
			if choose("spill", 0, 2) == 0 {
				p.coldStep()
				p.check()
			}
			if len(p.n.list) > 3000 {
				p.drain(choose("left", 0, 1500))
			}
		}
		p.shelf.spill(p.m, 0)
		p.finish()
		spilled += p.spilled
	}
	if spilled < 100 {
		t.Errorf("only %d pages were ever cold", spilled)
	}
}

// coldQueue is a queue of n messages with all of its pages cold that can be.
func coldQueue(t *testing.T, cfg Config, n int, ttl func(i int) int64) (*Machine, *shelf) {
	t.Helper()
	m, s := New(cfg, 0), newShelf()
	var out Output
	for i := range n {
		m.Enqueue(0, Message{Entry: Entry{Ref: uint64(i + 1), BodyBytes: 10, Flags: Persistent}, TTLMillis: ttl(i)}, &out)
		out.Reset()
	}
	s.spill(m, 0)
	if m.ColdPages() < n/pageLen-2 || m.ReadyCount() != n || m.ReadyBytes() != int64(10*n) {
		t.Fatalf("%d cold pages; %d ready with %d bytes", m.ColdPages(), m.ReadyCount(), m.ReadyBytes())
	}
	return m, s
}

func never(int) int64 { return -1 }

// warmHead does what a host does about Output.Warm.
func warmHead(t *testing.T, m *Machine, s *shelf, now Time, out *Output) {
	t.Helper()
	out.Warm = false
	pages := m.ColdHead(nil)
	if len(pages) == 0 || len(pages) > WarmAhead || !s.warm(m, pages) {
		t.Fatalf("the head's pages cannot be brought back: %v", pages)
	}
	m.Requeued(now, out)
}

// TestConsumerGoesThroughColdPages: order is kept, every page is asked for when
// its turn comes, and never more of them are in memory than asked for.
func TestConsumerGoesThroughColdPages(t *testing.T) {
	const n = 40 * pageLen
	m, s := coldQueue(t, durable(), n, never)
	var out Output
	c := &Consumer{Gate: &shared{credit: n}, NoAck: true}
	m.Subscribe(0, c)
	m.Dispatch(0, &out)
	asked, next := 0, uint64(1)
	for m.ReadyCount() > 0 {
		for _, d := range out.Deliveries {
			if d.Entry.Ref != next {
				t.Fatalf("message %d comes, want %d", d.Entry.Ref, next)
			}
			next++
		}
		if !out.Warm {
			t.Fatalf("the queue stops at %d and asks for nothing", next)
		}
		out.Reset()
		asked++
		warmHead(t, m, s, 0, &out)
		if m.HotPages() > WarmAhead+2 {
			t.Fatalf("%d pages in memory", m.HotPages())
		}
	}
	if asked < 2 || len(s.images) > 0 {
		t.Errorf("asked %d times, %d pages left", asked, len(s.images))
	}
}

func durable() Config {
	cfg := NoLimits()
	cfg.Durable = true
	return cfg
}

// TestColdMessagesExpire: a cold head with a deadline asks for its page at once,
// although nobody consumes.
func TestColdMessagesExpire(t *testing.T) {
	m, s := coldQueue(t, durable(), 4*pageLen, func(i int) int64 { return int64(i/pageLen) + 1 })
	var out Output
	m.Expire(2*millisecond, &out) // the first two pages; the first is in memory
	if !out.Warm || m.NextDeadline() != 0 {
		t.Fatalf("no page is asked for: next deadline %d", m.NextDeadline())
	}
	warmHead(t, m, s, 2*millisecond, &out)
	if got := len(out.Released); got != 2*pageLen || m.NextDeadline() != 3*millisecond {
		t.Errorf("%d have expired; the next at %d", got, m.NextDeadline())
	}
}

// TestColdHeadIsDroppedAtTheLimit: what is over the limit waits for its page.
func TestColdHeadIsDroppedAtTheLimit(t *testing.T) {
	cfg := durable()
	cfg.MaxLength = 4 * pageLen
	m, s := coldQueue(t, cfg, 4*pageLen, never)
	var out Output
	for i := range pageLen + 1 {
		m.Enqueue(0, Message{Entry: Entry{Ref: uint64(10_000 + i), BodyBytes: 10, Flags: Persistent}, TTLMillis: -1}, &out)
	}
	if !out.Warm || len(out.Released) != pageLen {
		t.Fatalf("%d dropped, page asked for: %t", len(out.Released), out.Warm)
	}
	warmHead(t, m, s, 0, &out)
	if len(out.Released) != pageLen+1 || m.ReadyCount() != 4*pageLen {
		t.Errorf("%d dropped, %d ready", len(out.Released), m.ReadyCount())
	}
}

// TestLostPageDoesNotStopTheQueue: its messages are out with nobody, a checkpoint
// still names it, and it may come back.
func TestLostPageDoesNotStopTheQueue(t *testing.T) {
	const n = 5 * pageLen
	m, s := coldQueue(t, durable(), n, never)
	lost := m.ColdHead(nil)
	if len(lost) > 0 {
		t.Fatal("the head is cold")
	}
	all, _ := m.ColdWhere(&Cursor{}, func(*Cold) bool { return true }, nil)
	if !m.Lose(all[0]) || m.Lose(all[0]) || m.ReadyCount() != n-pageLen || m.UnackedCount() != pageLen {
		t.Fatalf("%d ready, %d out", m.ReadyCount(), m.UnackedCount())
	}
	var out Output
	got := 0
	for {
		_, ok := m.Get(0, true, &out)
		if !ok && !out.Warm {
			break
		}
		if out.Warm {
			warmHead(t, m, s, 0, &out)
			continue
		}
		got++
	}
	if got != n-pageLen {
		t.Errorf("%d come, want %d", got, n-pageLen)
	}
	var img Image
	if !m.TakeImage(&Cursor{}, &img) || img.Cold != all[0].Cold {
		t.Errorf("a checkpoint does not name the lost page")
	}
	if !s.warm(m, all[:1]) || m.ReadyCount() != pageLen || m.UnackedCount() != 0 {
		t.Errorf("it does not come back: %d ready, %d out", m.ReadyCount(), m.UnackedCount())
	}
	if d, ok := m.Get(0, true, &out); !ok || d.Entry.Ref != pageLen+1 {
		t.Errorf("its first message does not come")
	}
}

// TestChangedPageStaysInMemory: what has happened since the copy is not lost, and
// messages that a log does not keep never become cold.
func TestChangedPageStaysInMemory(t *testing.T) {
	m := New(durable(), 0)
	var out Output
	for i := range 4 * pageLen {
		flags := Persistent
		if i == 2*pageLen {
			flags = 0 // page 2 is for memory only
		}
		if i == 3*pageLen {
			flags |= Pinned
		}
		m.Enqueue(0, Message{Entry: Entry{Ref: uint64(i + 1), Flags: flags}, TTLMillis: -1}, &out)
	}
	imgs := make([]Image, 9)
	n, _ := m.TakeSpill(&Cursor{}, 0, imgs)
	if n != 1 || imgs[0].Number != 1 {
		t.Fatalf("%d pages may become cold", n)
	}
	for range pageLen + 1 {
		m.Get(0, false, &out)
	}
	if m.Spill(&imgs[0], &Cold{}) {
		t.Error("a page with a message out becomes cold")
	}
	if n, _ := m.TakeSpill(&Cursor{}, 0, imgs); n != 0 {
		t.Error("a page with a message out is offered")
	}
}
