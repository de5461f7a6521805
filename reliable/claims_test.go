package reliable_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.etcd.io/bbolt"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
)

// The claims that the package makes, each at a size that suits every day.

// connected waits until the client works, so that the next cut does not fall into its
// login.
func connected(t *testing.T, c *reliable.Client) {
	t.Helper()
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Fatal(err)
	}
}

// Claim: no confirmed message is lost, and none is reported as confirmed and
// absent. The connection is cut after every byte of publish and confirm.
func TestClaimConfirmedIsThere(t *testing.T) {
	t.Run("writer", func(t *testing.T) { claimConfirmedIsThere(t, false) })
	t.Run("publisher writes", func(t *testing.T) { claimConfirmedIsThere(t, true) })
}

func claimConfirmedIsThere(t *testing.T, now bool) {
	b := brokertest.New(t)
	s := claimtest.NewSaboteur(b)
	if now {
		s = claimtest.NewSaboteurNow(b)
	}
	c := open(t, s)
	p := publisher[string](t, c, reliable.ToQueue(orders))
	confirmed := map[string]bool{}
	for _, writes := range []bool{true, false} {
		for n := 0; ; n++ {
			connected(t, c)
			s.Arm(n, writes)
			id := fmt.Sprintf("%v-%d", writes, n)
			if err := p.Publish(within(t, patience), "body", reliable.ID(id)); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			confirmed[id] = true
			if !s.Off() {
				break
			}
		}
	}
	if s.Count() < 100 {
		t.Errorf("only %d cuts", s.Count())
	}
	arrived := map[string]int{}
	for _, d := range drain(t, plain(t, b), "orders") {
		arrived[d.MessageId]++
	}
	for id := range confirmed {
		if n := arrived[id]; n < 1 || n > 2 {
			t.Errorf("%s is %d times in the queue", id, n)
		}
	}
	if len(arrived) != len(confirmed) {
		t.Errorf("%d messages arrived, %d were confirmed", len(arrived), len(confirmed))
	}
}

// The same while the broker loses its power, with many messages on their way.
func TestClaimConfirmedSurvivesCrashes(t *testing.T) {
	b := brokertest.NewDurable(t)
	p := publisher[order](t, open(t, b), reliable.ToQueue(orders), reliable.Window(200))
	const messages = 10_000
	receipts := make([]*reliable.Receipt, messages)
	for i := range messages {
		var err error
		if receipts[i], err = p.PublishAsync(within(t, patience), order{i}); err != nil {
			t.Fatal(err)
		}
		if i%2500 == 1200 {
			b.CrashAndRestart()
		}
	}
	for i, r := range receipts {
		if err := r.Wait(within(t, patience)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	b.CrashAndRestart()
	arrived := map[string]bool{}
	for _, d := range drain(t, plain(t, b), "orders") {
		arrived[d.MessageId] = true
	}
	for i, r := range receipts {
		if !arrived[r.ID()] {
			t.Errorf("message %d is confirmed and absent", i)
		}
	}
}

// Claim: a retry neither loses nor forks. The connection is cut at points all along
// handler, copy, confirm and acknowledgement; each message has one outcome.
func TestClaimRetryNeitherLosesNorForks(t *testing.T) {
	b := brokertest.New(t)
	s := claimtest.NewSaboteur(b)
	c := open(t, s)
	var mu sync.Mutex
	runs, done := map[string]int{}, map[string]int{}
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[string]) error {
		mu.Lock()
		defer mu.Unlock()
		runs[m.ID]++
		if m.Attempt == 1 {
			return errors.New("the first attempt fails")
		}
		if m.Body == "dies" {
			return reliable.Permanent(errors.New("and the second for good"))
		}
		done[m.ID]++
		return nil
	}, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 50, Backoff: reliable.Schedule(0)}),
		reliable.Idempotent("test", dedup.NewMemory(0, nil), reliable.Lease(time.Second)), reliable.Concurrency(4))
	p := publisher[string](t, open(t, b), reliable.ToQueue(orders)) // not sabotaged
	dead := c.DeadLetters(orders)
	deaths := map[string]bool{}
	for _, writes := range []bool{true, false} {
		for n := 0; n < 1200; n += 11 {
			connected(t, c)
			s.Arm(n, writes)
			id, body := fmt.Sprintf("%v-%d", writes, n), "lives"
			if n%2 == 1 {
				body, deaths[id] = "dies", true
			}
			if err := p.Publish(within(t, patience), body, reliable.ID(id)); err != nil {
				t.Fatal(err)
			}
			until(t, id+" has an outcome, or the connection is cut", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return done[id] > 0 || runs[id] > 1 || !s.Armed()
			})
		}
	}
	s.Off() // no more cuts
	var letters []reliable.DeadLetter
	until(t, "all have an outcome", func() bool {
		b.Clock.Advance(time.Second) // for those that look again later
		letters, _ = claimtest.Scan(dead, reliable.Filter{Match: func(d *reliable.DeadLetter) bool { return !d.Duplicate }})
		mu.Lock()
		defer mu.Unlock()
		return len(done)+len(letters) >= 2*110
	})
	if s.Count() < 50 {
		t.Errorf("only %d cuts", s.Count())
	}
	mu.Lock()
	defer mu.Unlock()
	buried := map[string]int{}
	for _, l := range letters {
		if !l.Duplicate { // whose confirm was cut off
			buried[l.ID]++
		}
	}
	for id, n := range runs {
		if n > 2+2 { // each id was cut at most once, which can repeat an attempt
			t.Errorf("%s was tried %d times", id, n)
		}
		if deaths[id] && (buried[id] != 1 || done[id] != 0) || !deaths[id] && (done[id] != 1 || buried[id] != 0) {
			t.Errorf("%s: done %d times, %d times among the dead letters", id, done[id], buried[id])
		}
	}
}

// Claim: a queue that is deleted does not hold up the delays of others.
func TestClaimDeletedQueueStallsNobody(t *testing.T) {
	b := brokertest.New(t)
	b.Clock.Freeze()
	c := open(t, b)
	one, two := reliable.Queue{Name: "one"}, reliable.Queue{Name: "two"}
	p1, p2 := publisher[order](t, c, reliable.ToQueue(one)), publisher[order](t, c, reliable.ToQueue(two))
	ctx := within(t, patience)
	delay := reliable.After(8 * reliable.DelayUnit)
	const messages = 200 // more than a server keeps on its way for one queue
	for i := range messages {
		if _, err := p1.PublishAsync(ctx, order{i}, delay); err != nil {
			t.Fatal(err)
		}
		if _, err := p2.PublishAsync(ctx, order{i}, delay); err != nil {
			t.Fatal(err)
		}
	}
	ch := plain(t, b)
	until(t, "all wait", func() bool { return waiting(t, ch) == 2*messages })
	if _, err := ch.QueueDelete("one", false, false, false); err != nil {
		t.Fatal(err)
	}
	b.Clock.Advance(8*reliable.DelayUnit - time.Millisecond)
	if n := count(t, ch, "two"); n != 0 {
		t.Errorf("%d messages came early", n)
	}
	b.Clock.Advance(2 * time.Millisecond)
	until(t, "the others arrive", func() bool { return count(t, ch, "two") == messages })
	until(t, "those without a queue are kept", func() bool { return count(t, ch, "wrn.v1.lost") == messages })
}

// Claim: effects happen once, with duplicates and crashes, if they share a
// transaction with the record.
func TestClaimEffectivelyOnce(t *testing.T) {
	db, store := openBolt(t)
	b := brokertest.NewDurable(t)
	c := open(t, b)
	var effects, runs atomic.Int64
	bucket := []byte("effects")
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		tx := boltstore.TxFrom(ctx)
		counts, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		value := append(append([]byte{}, counts.Get([]byte(m.ID))...), 'x')
		if err := counts.Put([]byte(m.ID), value); err != nil {
			return err
		}
		if runs.Add(1)%97 == 0 {
			return errors.New("after the effect")
		}
		tx.OnCommit(func() { effects.Add(1) })
		return nil
	}, reliable.InTx("test", store, reliable.Lease(time.Second)), reliable.Prefetch(200),
		reliable.Retry(reliable.RetryPolicy{MaxAttempts: 100, Backoff: reliable.Schedule(0)}))
	p := publisher[order](t, c, reliable.ToQueue(orders))
	const messages = 10_000
	for i := range messages {
		r, err := p.PublishAsync(within(t, patience), order{i})
		if err == nil && i%100 == 0 {
			_, err = p.PublishAsync(within(t, patience), order{i}, reliable.ID(r.ID()))
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%2500 == 1200 {
			b.CrashAndRestart()
		}
	}
	until(t, "all have taken effect", func() bool {
		b.Clock.Advance(time.Second)
		return effects.Load() >= messages
	})
	if err := c.Close(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	distinct := 0
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(id, value []byte) error {
			if distinct++; string(value) != "x" {
				t.Errorf("%s has taken effect %d times", id, len(value))
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if distinct != messages || effects.Load() != messages {
		t.Errorf("%d effects, %d messages of %d", effects.Load(), distinct, messages)
	}
}

// Claim: drains cost no attempts, although the broker counts deliveries.
func TestClaimDrainCostsNothing(t *testing.T) {
	b := brokertest.New(t)
	q := reliable.Queue{Name: "orders", DeliveryLimit: 20}
	c := open(t, b)
	const messages = 60
	var begun atomic.Int32
	for round := range 25 {
		begun.Store(0)
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
	consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error { attempts.Add(m.Attempt); return nil })
	until(t, "all are handled", func() bool { return attempts.Len() == messages })
	for _, n := range attempts.All() {
		if n != 1 {
			t.Fatalf("attempts: %v", attempts.All())
		}
	}
	if n := count(t, plain(t, b), "orders.dlq"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// A handler that kills its process again and again: the broker's limit makes the
// message a dead letter.
func TestPoisonEndsAtTheDeliveryLimit(t *testing.T) {
	b := brokertest.New(t, broker.Config{})
	c := open(t, b)
	q := reliable.Queue{Name: "orders", DeliveryLimit: 3}
	consumer := consume(t, c, q, func(context.Context, *reliable.Message[order]) error { return nil })
	consumer.Stop(within(t, patience))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(q)), 1)
	for range 10 { // each consumer dies of it
		conn, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: b.Dial})
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		_, there, err := ch.Get("orders", false)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if !there {
			break
		}
	}
	var letters []reliable.DeadLetter
	until(t, "it is a dead letter", func() bool {
		letters, _ = claimtest.Scan(c.DeadLetters(q), reliable.Filter{})
		return len(letters) == 1
	})
	if letters[0].Reason != "delivery_limit" || letters[0].Queue != "orders" {
		t.Errorf("%+v", letters[0])
	}
}
