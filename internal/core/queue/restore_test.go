package queue

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// restored is what a test expects of a queue that is put back together.
type restored struct {
	ref         uint64
	redelivered bool
	count       uint32
	deadline    Time
}

// TestRestoreInAnyOrder puts the messages of a queue back in any order, some of
// them twice or under a new place, ends ranges of them, and then compares with
// what should be left; and again after pushing more, after settling some and
// after a checkpoint's way: pages and tails.
func TestRestoreInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		choose := func(label string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(rt, label) }
		cfg := NoLimits()
		cfg.Durable = true
		if choose("priorities", 0, 1) == 1 {
			cfg.MaxPriority = 2
		}
		r := &rebuild{t: rt, cfg: cfg, m: New(cfg, 0), want: map[Seq]restored{}, tails: make([]uint64, max(cfg.MaxPriority, 0)+1)}
		for range choose("steps", 1, 40) {
			r.step(choose)
		}
		r.m.Restored(0)
		r.check()
		for range choose("rounds", 1, 3) {
			r.push(choose("pushes", 0, 600), choose)
			r.check()
			if choose("image", 0, 1) == 1 {
				r.throughImage()
				r.check()
			}
		}
		r.drain()
	})
}

type rebuild struct {
	t       *rapid.T
	cfg     Config
	m       *Machine
	want    map[Seq]restored
	tails   []uint64
	lastRef uint64
}

func (r *rebuild) anySeq(choose func(string, int, int) int) Seq {
	// Positions near the edges of pages, and far apart.
	pos := choose("page", 0, 6)*pageLen + []int{0, 1, 2, 100, pageLen - 2, pageLen - 1}[choose("index", 0, 5)]
	return makeSeq(choose("level", 0, len(r.tails)-1), uint64(pos))
}

func (r *rebuild) taken(s Seq) { r.tails[s.level()] = max(r.tails[s.level()], s.pos()+1) }

func (r *rebuild) step(choose func(string, int, int) int) {
	s := r.anySeq(choose)
	old, there := r.want[s]
	switch choose("what", 0, 7) {
	case 0, 1, 2, 3:
		r.lastRef++
		ttl := int64(choose("ttl", -1, 3))
		if r.m.Restore(s, Entry{Ref: r.lastRef, BodyBytes: 3, Flags: Persistent}, 0, ttl, 0) == there {
			r.t.Fatalf("restore of %d: there was one before: %t", s, there)
		}
		r.taken(s)
		if there {
			if ref, ok := r.m.RestoreMoved(s, r.lastRef); !ok || ref != old.ref {
				r.t.Fatalf("moved from %d, %t; want %d", ref, ok, old.ref)
			}
			old.ref = r.lastRef
			r.want[s] = old
			return
		}
		deadline := Never
		if ttl >= 0 {
			deadline = Time(ttl) * millisecond
		}
		r.want[s] = restored{ref: r.lastRef, deadline: deadline}
	case 4, 5:
		to := makeSeq(s.level(), s.pos()+uint64(choose("length", 0, 2*pageLen)))
		var freed []uint64
		r.m.RestoreSettled(s, to, func(e Entry) { freed = append(freed, e.Ref) })
		var want []uint64
		for x, w := range r.want {
			if x >= s && x <= to {
				want = append(want, w.ref)
				delete(r.want, x)
			}
		}
		slices.Sort(freed)
		slices.Sort(want)
		if !slices.Equal(freed, want) {
			r.t.Fatalf("settled %d to %d frees %v, want %v", s, to, freed, want)
		}
		r.taken(to)
	case 6:
		r.m.RestoreDelivered(s, s)
		if there {
			old.redelivered = true
			r.want[s] = old
		}
	case 7:
		n := uint32(choose("count", 1, 3))
		r.m.RestoreReturned(s, n)
		if there {
			old.redelivered, old.count = true, n
			r.want[s] = old
		}
	}
}

func (r *rebuild) push(n int, choose func(string, int, int) int) {
	for range n {
		r.lastRef++
		level := 0
		if len(r.tails) > 1 {
			level = int(r.lastRef) % len(r.tails)
		}
		var out Output
		r.m.Enqueue(0, Message{Entry: Entry{Ref: r.lastRef, BodyBytes: 3, Flags: Persistent}, Priority: uint8(level), TTLMillis: -1}, &out)
		if want := makeSeq(level, r.tails[level]); out.LastSeq != want {
			r.t.Fatalf("a push is numbered %d, want %d", out.LastSeq, want)
		}
		r.tails[level]++
		r.want[out.LastSeq] = restored{ref: r.lastRef, deadline: Never}
	}
}

func (r *rebuild) check() {
	seen := map[Seq]restored{}
	for c := (Cursor{}); r.m.Walk(&c, func(h Held) {
		seen[h.Seq] = restored{h.Entry.Ref, h.Entry.Flags&Redelivered != 0, h.Count, h.Deadline}
	}); {
	}
	if fmt.Sprint(seen) != fmt.Sprint(r.want) {
		r.t.Fatalf("the queue holds\n%v, want\n%v", seen, r.want)
	}
	if r.m.ReadyCount() != len(r.want) || r.m.ReadyBytes() != int64(3*len(r.want)) {
		r.t.Fatalf("%d ready with %d bytes, want %d", r.m.ReadyCount(), r.m.ReadyBytes(), len(r.want))
	}
}

// throughImage has the queue written to a checkpoint and read back.
func (r *rebuild) throughImage() {
	next := New(r.cfg, 0)
	next.RestoreTails(r.m.Tails())
	var img Image
	for c := (Cursor{}); r.m.TakeImage(&c, &img); {
		if !next.RestoreImage(&img) {
			r.t.Fatalf("an image was refused")
		}
	}
	next.Restored(0)
	r.m = next
}

// drain takes everything out, in order: the highest level first.
func (r *rebuild) drain() {
	var want []uint64
	for level := len(r.tails) - 1; level >= 0; level-- {
		var seqs []Seq
		for s := range r.want {
			if s.level() == level {
				seqs = append(seqs, s)
			}
		}
		slices.Sort(seqs)
		for _, s := range seqs {
			want = append(want, r.want[s].ref)
		}
	}
	var got []uint64
	for {
		var out Output
		d, ok := r.m.Get(-1, true, &out)
		if !ok {
			break
		}
		if flag := d.Entry.Flags&Redelivered != 0; flag != r.want[d.Seq].redelivered {
			r.t.Fatalf("message %d comes redelivered: %t", d.Seq, flag)
		}
		got = append(got, d.Entry.Ref)
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("messages come as %v, want %v", got, want)
	}
}

// TestTailAtTheEndOfAPage has everything behind the first page settled, up to
// the last position of the third: the next message begins the fourth.
func TestTailAtTheEndOfAPage(t *testing.T) {
	m := New(NoLimits(), 0)
	m.Restore(0, Entry{Ref: 1}, 0, -1, 0)
	m.RestoreSettled(1, 3*pageLen-1, func(Entry) {})
	m.Restored(0)
	var out Output
	m.Enqueue(0, Message{Entry: Entry{Ref: 2}, TTLMillis: -1}, &out)
	if out.LastSeq != 3*pageLen {
		t.Errorf("the next message is %d", out.LastSeq)
	}
	for _, want := range []uint64{1, 2} {
		if d, ok := m.Get(0, true, &out); !ok || d.Entry.Ref != want {
			t.Fatalf("got %d, %t; want %d", d.Entry.Ref, ok, want)
		}
	}
}
