package claims

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable"
)

// Claim: no confirmed message is lost, and none is reported as confirmed and
// absent. Connections are cut all the while, the broker is killed twice while it
// is published to, and once more before its messages are looked at.
func (p *peer) confirmedIsThere(t *testing.T) {
	p.confirmed(t, reliable.Auto, p.size, p.size/3, p.size*2/3)
}

// The same with classic queues, which RabbitMQ confirms without an fsync: they
// survive the end of the process, and make no promise about a loss of power.
func (p *peer) confirmedIsThereClassic(t *testing.T) {
	size := max(p.size/10, 100)
	p.confirmed(t, reliable.Classic, size, size/2)
}

// leastCuts is how many cuts there are at the least, however fast the publishing is.
const leastCuts = 10

// ackFrameBytes is the length of a confirm on the wire: each message is followed by one,
// its own or one for several, and is longer itself.
const ackFrameBytes = 21

func (p *peer) confirmed(t *testing.T, kind reliable.QueueType, size int, killAt ...int) {
	c, s := p.open(t, reliable.Config{Queues: kind})
	q := p.queue(t, "confirmed")
	p.declare(t, c, q)
	pub := publisher[order](t, c, reliable.ToQueue(q), reliable.Window(min(1000, size/10)))
	crashes := p.crashes(t, s, q, killAt...)
	begun := time.Now()
	ids := make(map[string]bool, size)
	receipts := make([]*reliable.Receipt, size)
	ctx := within(t, 2*patience)
	for i := range receipts {
		if i%max(size/100, 5) == 0 {
			s.Again(8000)
		}
		crashes.reached(i)
		// With the last message of each tenth there is a cut, if chance was behind.
		due := (i + 1) / (size / leastCuts)
		behind := (i+1)%(size/leastCuts) == 0 && s.Count() < due
		if behind {
			s.Arm(rand.IntN(ackFrameBytes), rand.IntN(2) == 0)
		}
		var err error
		if receipts[i], err = pub.PublishAsync(ctx, order{i}); err != nil {
			t.Fatal(err)
		}
		if behind {
			until(t, "the connection is cut", func() bool { return s.Count() >= due })
		}
	}
	for i, r := range receipts {
		if err := r.Wait(ctx); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		ids[r.ID()] = true
	}
	took := since(begun)
	crashes.all()
	s.Off()
	crashes.now()
	arrived := p.take(t, q.Name, size)
	copies := 0
	for id, n := range arrived {
		copies += n - 1
		if !ids[id] {
			t.Errorf("%s arrived and was not published", id)
		}
	}
	missing := 0
	for id := range ids {
		if arrived[id] == 0 {
			missing++
		}
	}
	if missing > 0 || len(ids) != size {
		t.Errorf("%d of %d messages are confirmed and absent", missing, len(ids))
	}
	if s.Count() < leastCuts {
		t.Errorf("only %d cuts", s.Count())
	}
	p.table.row("no confirmed message lost", "%d to %s queues, %d cuts, %d crashes: all there, %d copies besides; published in %v",
		size, typeOf(kind), s.Count(), crashes.n, copies, took)
}

// Claim: the same, one message at a time, with a cut after every byte of its way to
// the broker and of the confirm's way back: so at every border of frames, too.
func (p *peer) cutAfterEveryByte(t *testing.T) {
	c, s := p.open(t, reliable.Config{MinPause: time.Millisecond, MaxPause: 5 * time.Millisecond})
	q := p.queue(t, "bytes")
	pub := publisher[string](t, c, reliable.ToQueue(q))
	var ids []string
	for _, writes := range []bool{true, false} {
		for n := 0; ; n++ {
			connected(t, c)
			s.Arm(n, writes)
			id := fmt.Sprintf("%v-%d", writes, n)
			if err := pub.Publish(within(t, patience), "body", reliable.ID(id)); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			ids = append(ids, id)
			if !s.Off() {
				break
			}
		}
	}
	if s.Count() < 100 {
		t.Errorf("only %d cuts", s.Count())
	}
	arrived := p.take(t, q.Name, len(ids))
	copies := 0
	for _, id := range ids {
		n := arrived[id]
		if n < 1 || n > 2 {
			t.Errorf("%s is %d times in the queue", id, n)
		}
		copies += n - 1
	}
	p.table.row("no confirmed message lost", "cut after each of %d bytes of publish and confirm: all there, %d copies besides", s.Count(), copies)
}

// Claim: a publish honours its context while the broker blocks, and goes on soon
// after. The broker's alarm is raised, and ended.
func (p *peer) publishHonoursItsContext(t *testing.T) {
	if p.inner == nil && p.script == "" {
		t.Skip("WARREN_CLAIMS_PEER names no script that raises an alarm")
	}
	const claim = "publish honours its context"
	c, _ := p.open(t, reliable.Config{})
	q := p.queue(t, "blocked")
	pub := publisher[order](t, c, reliable.ToQueue(q))
	p.alarm(t, true)
	defer p.alarm(t, false) // also if the test fails
	first, err := pub.PublishAsync(within(t, patience), order{0})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the client knows that the broker blocks", func() bool { return c.Health().Publish.Blocked })
	worst := time.Duration(0)
	const rounds = 20
	for range rounds {
		begun := time.Now()
		err := pub.Publish(within(t, 100*time.Millisecond), order{1})
		worst = max(worst, time.Since(begun))
		var details *reliable.PublishError
		if !errors.Is(err, reliable.ErrBlocked) || !errors.As(err, &details) || details.Sent {
			t.Fatalf("%v, expected ErrBlocked of what was not sent", err)
		}
	}
	p.table.bound(t, claim, fmt.Sprintf("the slowest of %d with a deadline of 100ms, while blocked", rounds), worst, 150*time.Millisecond)
	next, err := pub.PublishAsync(within(t, patience), order{2})
	if err != nil {
		t.Fatal(err)
	}
	p.alarm(t, false)
	begun := time.Now()
	for _, r := range []*reliable.Receipt{first, next} {
		if err := r.Wait(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	p.table.bound(t, claim, "until what waited was confirmed, after the alarm", time.Since(begun), time.Second)
	for _, d := range p.drain(t, q.Name) {
		if string(d.Body) == `{"id":1}` {
			t.Error("a message that was ErrBlocked was sent")
		}
	}
}
