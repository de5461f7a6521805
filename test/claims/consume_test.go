package claims

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
)

// Claim: a stale acknowledgement never settles another message. Deliveries are held
// while the connection is cut, or the broker is killed, and acknowledged after others
// have come with the same tags.
func (p *peer) staleAcknowledgements(t *testing.T) {
	p.stale(t, "its connection is cut", func(s *claimtest.Saboteur) error { s.CutAll(); return nil })
	if p.canCrash() {
		p.stale(t, "the broker is killed", func(s *claimtest.Saboteur) error {
			node, err := p.connectedTo(s)
			if err == nil {
				err = p.crash(node)
			}
			return err
		})
	}
}

func (p *peer) stale(t *testing.T, how string, lose func(*claimtest.Saboteur) error) {
	c, s := p.open(t, reliable.Config{})
	q := p.queue(t, "stale")
	p.declare(t, c, q)
	const n = 200
	var again sync.Map
	var begun, finished atomic.Int32
	release := make(chan struct{})
	consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		if _, seen := again.LoadOrStore(m.ID, true); !seen {
			begun.Add(1)
			<-release // the first run of each outlives its connection
			return nil
		}
		finished.Add(1)
		return nil
	}, reliable.Concurrency(n), reliable.Prefetch(n))
	pub := publisher[order](t, c, reliable.ToQueue(q))
	publishAll(t, pub, n)
	until(t, "all are held", func() bool { return begun.Load() == n })
	if err := lose(s); err != nil {
		t.Fatal(err)
	}
	until(t, "the loss is noticed", func() bool { return c.Health().Consume.Epoch >= 2 })
	connected(t, c)
	epoch := c.Health().Consume.Epoch
	publishAll(t, pub, n) // deliveries with the same tags on the new channel
	close(release)
	until(t, "the first ones come again, and the others come", func() bool { return finished.Load() >= n && begun.Load() == 2*n })
	until(t, "all are acknowledged", func() bool { return p.count(t, q.Name) == 0 })
	if h := c.Health(); h.Consume.Epoch != epoch {
		t.Errorf("the consume connection was lost %d times more: an acknowledgement was none", h.Consume.Epoch-epoch)
	}
	p.table.row("a stale ack settles no other message", "%d deliveries acknowledged after %s: all came again, no 406", n, how)
}

// Claim: a retry neither loses nor forks. Connections are cut all along handler,
// copy, confirm and acknowledgement, and the broker is killed twice; each message has
// one outcome.
func (p *peer) retryNeitherLosesNorForks(t *testing.T) {
	size := max(p.size/5, 100)
	c, s := p.open(t, reliable.Config{})
	q := p.queue(t, "retry")
	p.declare(t, c, q)
	crashes := p.crashes(t, s, q, size/3, size*2/3)
	var mu sync.Mutex
	done := map[string]int{}
	begun := time.Now()
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		if m.Body.ID%max(size/100, 20) == 0 {
			s.Again(4000)
		}
		if m.Attempt <= 1+m.Body.ID%3 {
			return errors.New("not yet")
		}
		if m.Body.ID%4 == 0 {
			return reliable.Permanent(errors.New("never"))
		}
		mu.Lock()
		done[m.ID]++
		n := len(done) * 4 / 3
		mu.Unlock()
		crashes.reached(n)
		return nil
	}, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 50, Backoff: reliable.Schedule(0, reliable.DelayUnit)}),
		reliable.Idempotent("claims", dedup.NewMemory(0, nil), reliable.Lease(time.Second)), reliable.Concurrency(8), reliable.Prefetch(100))
	quiet, _ := p.open(t, reliable.Config{})
	publishAll(t, publisher[order](t, quiet, reliable.ToQueue(q)), size)
	buried := (size + 3) / 4
	until(t, "all are done that can be", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(done) == size-buried
	})
	kills := crashes.all()
	s.Off()
	until(t, "the dead letters are there", func() bool { return p.count(t, q.DeadLetterQueue()) >= buried })
	// Some dead letters are there twice, so that only a look at each tells.
	var letters []reliable.DeadLetter
	dead := map[string]int{}
	until(t, "all dead letters are there", func() bool {
		var err error
		if letters, err = claimtest.Scan(quiet.DeadLetters(q), reliable.Filter{}); err != nil {
			t.Fatal(err)
		}
		clear(dead)
		for _, d := range letters {
			if !d.Duplicate { // whose confirm was cut off
				dead[d.ID]++
			}
		}
		return len(dead) >= buried
	})
	until(t, "nothing is left", func() bool { return p.count(t, q.Name) == 0 })
	took := since(begun)
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	if s.Count() < 5 {
		t.Errorf("only %d cuts", s.Count())
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range done {
		if n != 1 || dead[id] != 0 {
			t.Errorf("%s: done %d times, %d times among the dead letters", id, n, dead[id])
		}
	}
	for id, n := range dead {
		if n != 1 {
			t.Errorf("%s: %d times among the dead letters", id, n)
		}
	}
	if len(dead) != buried {
		t.Errorf("%d dead letters, expected %d", len(dead), buried)
	}
	p.table.row("retry neither loses nor forks", "%d messages of 2 to 4 attempts, %d cuts, %d crashes: one outcome each; %d dead letters and %d copies of them, marked as such; in %v",
		size, s.Count(), kills, len(dead), len(letters)-len(dead), took)
}

// Messages that wait in the delay network outlive the broker.
func (p *peer) delayedSurvive(t *testing.T) {
	if !p.canCrash() {
		t.Skip("nothing kills the broker")
	}
	c, _ := p.open(t, reliable.Config{})
	q := p.queue(t, "delayed")
	p.declare(t, c, q)
	pub := publisher[order](t, c, reliable.ToQueue(q))
	size := max(p.size/20, 100)
	ctx := within(t, patience)
	ids := make([]string, size)
	receipts := make([]*reliable.Receipt, size)
	for i := range size {
		var err error
		// From half a second to two: some expire while the broker is away.
		if receipts[i], err = pub.PublishAsync(ctx, order{i}, reliable.After(time.Duration(2+i%7)*reliable.DelayUnit)); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range receipts {
		if err := r.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		ids[i] = r.ID()
	}
	if err := p.crash(0); err != nil {
		t.Fatal(err)
	}
	arrived := p.take(t, q.Name, size)
	copies := 0
	for _, id := range ids {
		if arrived[id] == 0 {
			t.Errorf("%s was delayed, and is lost", id)
		}
		copies += arrived[id] - 1
	}
	p.table.row("retry neither loses nor forks", "%d delayed messages, 1 crash: all there, %d copies besides", size, copies)
}

// Claim: a queue that is deleted does not hold up the delays of others.
func (p *peer) deletedQueueStallsNobody(t *testing.T) {
	c, _ := p.open(t, reliable.Config{})
	one, two := p.queue(t, "one"), p.queue(t, "two")
	p1, p2 := publisher[order](t, c, reliable.ToQueue(one)), publisher[order](t, c, reliable.ToQueue(two))
	messages := max(min(p.size/50, 1000), 200)
	const delay = 3 * time.Second
	ctx := within(t, patience)
	send := func(p *reliable.Publisher[order]) (receipts []*reliable.Receipt) {
		for i := range messages {
			r, err := p.PublishAsync(ctx, order{i}, reliable.After(delay))
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, r)
		}
		return receipts
	}
	for _, r := range append(send(p1), send(p2)...) {
		if err := r.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	published := time.Now()
	p.look(t, func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(one.Name, false, false, false)
		return err
	})
	until(t, "the others arrive", func() bool { return p.count(t, two.Name) == messages })
	late := max(0, time.Since(published)-delay)
	p.table.bound(t, "a deleted queue stalls no other", "the last of as many messages was late by", late, 500*time.Millisecond) // a unit and a hop
}

// Claim: drains cost no attempts, although the broker counts deliveries. A consumer
// with a full prefetch is restarted 25 times.
func (p *peer) drainCostsNoAttempts(t *testing.T) {
	p.kinds(t, p.drainCostsNoAttemptsIn)
}

func (p *peer) drainCostsNoAttemptsIn(t *testing.T, kind reliable.QueueType) {
	c, _ := p.open(t, reliable.Config{Queues: kind})
	q := p.queue(t, "drain")
	q.DeliveryLimit = 20
	const messages, restarts = 100, 25
	for round := range restarts {
		var begun atomic.Int32
		consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
			begun.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}, reliable.Concurrency(10), reliable.Prefetch(messages), reliable.DrainTimeout(time.Millisecond))
		if round == 0 {
			publishAll(t, publisher[order](t, c, reliable.ToQueue(q)), messages)
		}
		until(t, "the handlers are busy", func() bool { return begun.Load() == 10 })
		if err := consumer.Stop(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	var attempts claimtest.Log[int]
	ids := sync.Map{}
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		if _, twice := ids.LoadOrStore(m.ID, true); !twice {
			attempts.Add(m.Attempt)
		}
		return nil
	})
	until(t, "all are handled", func() bool { return attempts.Len() == messages && p.count(t, q.Name) == 0 })
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	for _, n := range attempts.All() {
		if n != 1 {
			t.Fatalf("drains have counted: attempts %v", attempts.All())
		}
	}
	if n := p.count(t, q.DeadLetterQueue()); n != 0 {
		t.Errorf("drains have made %d dead letters", n)
	}
	p.table.row("drain costs no attempts", "%d restarts with %d messages on hand, %s queues, delivery limit 20: nothing dead-lettered, all at attempt 1", restarts, messages, typeOf(kind))
}
