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
	tries       Tries
	unsettled   bool
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
		cfg.CountCrashes = choose("crashes count", 0, 1) == 1
		r := &rebuild{t: rt, cfg: cfg, m: New(cfg, 0), want: map[Seq]restored{}, tails: make([]uint64, max(cfg.MaxPriority, 0)+1)}
		for range choose("steps", 1, 40) {
			r.step(choose)
		}
		r.restored()
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
			old.redelivered, old.unsettled = true, true
			r.want[s] = old
		}
	case 7:
		n := Tries{Returned: uint32(choose("returned", 1, 3)), Failed: uint32(choose("failed", 0, 1))}
		r.m.RestoreReturned(s, n)
		if there {
			old.redelivered, old.unsettled, old.tries = true, false, n
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
		seen[h.Seq] = restored{h.Entry.Ref, h.Entry.Flags&Redelivered != 0, h.Tries, h.Unsettled, h.Deadline}
	}); {
	}
	if fmt.Sprint(seen) != fmt.Sprint(r.want) {
		r.t.Fatalf("the queue holds\n%v, want\n%v", seen, r.want)
	}
	if r.m.ReadyCount() != len(r.want) || r.m.ReadyBytes() != int64(3*len(r.want)) {
		r.t.Fatalf("%d ready with %d bytes, want %d", r.m.ReadyCount(), r.m.ReadyBytes(), len(r.want))
	}
}

// restored ends the rebuild: where crashes count, what was out has failed once
// more, and the log hears of it.
func (r *rebuild) restored() {
	var out Output
	r.m.Restored(0, &out)
	logged := map[Seq]Tries{}
	for _, f := range out.Facts {
		if f.Kind != Returned {
			r.t.Fatalf("a crash yields %+v", f)
		}
		logged[f.Seq] = f.Tries
	}
	want := map[Seq]Tries{}
	for s, w := range r.want {
		if r.cfg.CountCrashes && w.unsettled {
			w.unsettled = false
			w.tries.Returned++
			w.tries.Failed++
			want[s], r.want[s] = w.tries, w
		}
	}
	if fmt.Sprint(logged) != fmt.Sprint(want) {
		r.t.Fatalf("the log hears %v, want %v", logged, want)
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
	r.m = next
	r.restored()
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
	var out Output
	m.Restored(0, &out)
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

// TestCrashesCount rebuilds a queue that was left in the middle of deliveries: the
// third crash is over the limit of two failures.
func TestCrashesCount(t *testing.T) {
	for _, dlx := range []bool{true, false} {
		cfg := NoLimits()
		cfg.Durable, cfg.HasDLX, cfg.DeliveryLimit, cfg.CountCrashes = true, dlx, 2, true
		log := []Fact{{Kind: Delivered, Seq: 0, To: 0}}
		for crash := uint32(1); crash <= 3; crash++ {
			m := New(cfg, 0)
			m.Restore(0, Entry{Ref: 7, BodyBytes: 3, Flags: Persistent}, 0, -1, 0)
			m.Restore(1, Entry{Ref: 8, BodyBytes: 3, Flags: Persistent}, 0, -1, 0)
			for _, f := range log {
				if f.Kind == Delivered {
					m.RestoreDelivered(f.Seq, f.To)
				} else {
					m.RestoreReturned(f.Seq, f.Tries)
				}
			}
			var out Output
			m.Restored(0, &out)
			want := Fact{Kind: Returned, Seq: 0, Tries: Tries{crash, crash}}
			if len(out.Facts) == 0 || out.Facts[0] != want {
				t.Fatalf("crash %d is logged as %+v, want %+v", crash, out.Facts, want)
			}
			log = append(log, out.Facts[0])
			if crash <= 2 {
				out.Reset()
				if d, ok := m.Get(0, false, &out); !ok || d.Entry.Ref != 7 || d.Tries != want.Tries || d.Entry.Flags&Redelivered == 0 {
					t.Fatalf("after crash %d comes %+v, %t", crash, d, ok)
				}
				log = append(log, out.Facts...)
				continue
			}
			checkOwed(t, m, dlx, &out)
		}
	}
}

// checkOwed looks at a queue of two of which one is over its limit: nobody gets
// that one. It dies with the first timer, or at once if it is only dropped.
func checkOwed(t *testing.T, m *Machine, dlx bool, out *Output) {
	t.Helper()
	if m.ReadyCount() != 1 || m.ReadyBytes() != 3 {
		t.Fatalf("%d ready", m.ReadyCount())
	}
	if dlx && (m.MovingCount() != 1 || !m.Timed() || m.NextDeadline() != 0) {
		t.Fatalf("%d moving, next deadline %d", m.MovingCount(), m.NextDeadline())
	}
	m.Expire(0, out)
	switch {
	case dlx && (len(out.Dead) != 1 || out.Dead[0].Entry.Ref != 7 || out.Dead[0].Reason != DeliveryLimit):
		t.Fatalf("dead are %+v", out.Dead)
	case !dlx && (len(out.Released) != 1 || out.Released[0].Ref != 7 || len(out.Facts) != 2 || out.Facts[1].Kind != Settled):
		t.Fatalf("released are %+v, with facts %+v", out.Released, out.Facts)
	}
	if m.NextDeadline() != Never {
		t.Fatalf("there is a deadline left: %d", m.NextDeadline())
	}
	if d, ok := m.Get(0, true, out); !ok || d.Entry.Ref != 8 {
		t.Fatalf("got %+v, %t", d, ok)
	}
}

// TestDeadLettersSurvive: what died is dead after a restart too, whether the log
// said so or a checkpoint, and is handed out at once.
func TestDeadLettersSurvive(t *testing.T) {
	cfg := NoLimits()
	cfg.Durable, cfg.HasDLX, cfg.CountCrashes, cfg.AtLeastOnce, cfg.Overflow = true, true, true, true, RejectPublish
	restore := func() *Machine {
		m := New(cfg, 0)
		for s := range Seq(3) {
			m.Restore(s, Entry{Ref: uint64(s) + 1, BodyBytes: 3, Flags: Persistent}, 0, -1, 0)
		}
		m.RestoreDelivered(0, 1)
		m.RestoreDied(0, Rejected)
		m.RestoreDied(2, Expired)
		return m
	}
	fromLog := restore()
	var out Output
	fromLog.Restored(0, &out)
	want := []Fact{{Kind: Returned, Seq: 1, Tries: Tries{1, 1}}} // a dead one is not given back
	if !slices.Equal(out.Facts, want) {
		t.Fatalf("the log hears %+v, want %+v", out.Facts, want)
	}
	fromImage := New(cfg, 0)
	fromImage.RestoreTails(fromLog.Tails())
	var img Image
	for c := (Cursor{}); fromLog.TakeImage(&c, &img); {
		fromImage.RestoreImage(&img)
	}
	fromImage.Restored(0, &Output{})
	for name, m := range map[string]*Machine{"log": fromLog, "image": fromImage} {
		if m.ReadyCount() != 1 || m.MovingCount() != 2 || m.ParkedCount() != 2 || m.NextDeadline() != 0 {
			t.Fatalf("%s: %d ready, %d moving, %d parked, next deadline %d", name, m.ReadyCount(), m.MovingCount(), m.ParkedCount(), m.NextDeadline())
		}
		var out Output
		m.Expire(5, &out)
		var reasons []Reason
		for _, d := range out.Dead {
			reasons = append(reasons, d.Reason)
		}
		if !slices.Equal(reasons, []Reason{Rejected, Expired}) {
			t.Fatalf("%s: dead of %v", name, reasons)
		}
		if d, ok := m.Get(5, false, &out); !ok || d.Seq != 1 || d.Tries != (Tries{1, 1}) {
			t.Fatalf("%s: got %+v, %t", name, d, ok)
		}
	}
}

// TestDelaysBeginAnew: what has failed is delayed again after a restart, whether it
// was out, delayed or ready; what has not, is ready.
func TestDelaysBeginAnew(t *testing.T) {
	cfg := NoLimits()
	cfg.Durable, cfg.CountCrashes, cfg.Retry = true, true, RetryDelay{Failed: true, MinMs: 10, MaxMs: 15}
	m := New(cfg, 0)
	for s := range Seq(4) {
		m.Restore(s, Entry{Ref: uint64(s) + 1, BodyBytes: 3, Flags: Persistent}, 0, -1, 0)
	}
	m.RestoreDelivered(0, 0)
	m.RestoreReturned(1, Tries{2, 2})
	m.RestoreReturned(2, Tries{1, 0})
	const now = 1000 * millisecond
	var out Output
	m.Restored(now, &out)
	var img Image
	if c := (Cursor{}); !m.TakeImage(&c, &img) {
		t.Fatal("no image")
	}
	again := New(cfg, 0)
	again.RestoreTails(m.Tails())
	again.RestoreImage(&img)
	again.Restored(now, &out)
	for _, m := range []*Machine{m, again} {
		if m.ReadyCount() != 2 || m.DelayedCount() != 2 || m.DelayedBytes() != 6 || m.NextDeadline() != now+10*millisecond {
			t.Fatalf("%d ready, %d delayed, next deadline %d", m.ReadyCount(), m.DelayedCount(), m.NextDeadline())
		}
		m.Expire(now+10*millisecond, &out)
		if m.ReadyCount() != 3 || m.NextDeadline() != now+15*millisecond {
			t.Fatalf("after the first: %d ready, next deadline %d", m.ReadyCount(), m.NextDeadline())
		}
		m.Expire(now+15*millisecond, &out)
		if m.ReadyCount() != 4 || m.NextDeadline() != Never {
			t.Fatalf("after both: %d ready, next deadline %d", m.ReadyCount(), m.NextDeadline())
		}
	}
}
