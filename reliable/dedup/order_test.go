package dedup_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/deduptest"
)

// world is a queue, a consumer that crashes after a given step, and a store that outlives it.
type world struct {
	store    dedup.Store
	clock    *deduptest.Clock
	queue    []dedup.Attempt // what is to be delivered of the one message
	dead     []dedup.Attempt // the dead-letter queue
	executed int
	effects  int
	steps    int // of all consumers so far
	crashAt  map[int]bool
}

// crash counts a step and says whether the consumer dies right after it.
func (w *world) crash() bool { w.steps++; return w.crashAt[w.steps] }

const maxAttempts = 3

// consume handles one delivery and reports whether it was acked. The handler fails until its last attempt; if
// it is to end as a dead letter it fails then, too.
func (w *world) consume(attempt dedup.Attempt, fails, fenceFirst bool) (acked bool) {
	ctx := context.Background()
	c, err := w.store.Begin(ctx, dedup.Key{Consumer: "c", ID: "m"}, attempt, dedup.Lifetimes{Lease: time.Second, Keep: time.Hour})
	if err != nil {
		panic(err)
	}
	switch {
	case c.Status == dedup.InProgress:
		w.clock.Advance(c.Left)
		return false
	case c.Status != dedup.Acquired:
		return true
	}
	if w.crash() {
		return false
	}
	w.executed++
	ok := attempt.Number == maxAttempts && !fails
	if ok {
		w.effects++
	}
	if w.crash() {
		return false
	}
	if ok {
		if w.store.Complete(ctx, c) != nil || w.crash() {
			return false
		}
		return true
	}
	copied := func() {
		if attempt.Number == maxAttempts {
			w.dead = append(w.dead, attempt)
		} else {
			w.queue = append(w.queue, attempt.Next())
		}
	}
	if fenceFirst {
		if w.store.Release(ctx, c, attempt.Next()) != nil || w.crash() {
			return false
		}
		copied()
		return !w.crash()
	}
	copied()
	if w.crash() || w.store.Release(ctx, c, attempt.Next()) != nil || w.crash() {
		return false
	}
	return true
}

// run delivers until the queue is empty and returns what became of the message.
func run(t *testing.T, crashAt map[int]bool, fails, fenceFirst bool) *world {
	t.Helper()
	clock := deduptest.NewClock()
	w := &world{clock: clock, store: dedup.NewMemory(0, clock.Now), crashAt: crashAt, queue: []dedup.Attempt{{Number: 1}}}
	for range 1000 {
		if len(w.queue) == 0 {
			return w
		}
		head := w.queue[0]
		w.queue = w.queue[1:]
		if !w.consume(head, fails, fenceFirst) {
			w.queue = append([]dedup.Attempt{head}, w.queue...)
			w.clock.Advance(time.Millisecond)
		}
	}
	t.Fatalf("the queue never became empty: %v", w.queue)
	return nil
}

// TestEveryCrash lets the consumer crash after every step, and after every pair of steps, of handler, copy,
// confirm, fence and ack.
func TestEveryCrash(t *testing.T) {
	const steps = 16
	for _, fails := range []bool{false, true} {
		for a := range steps {
			for b := range steps {
				crashes := map[int]bool{a: true, b: true}
				w := run(t, crashes, fails, false)
				name := fmt.Sprintf("fails %v, crashes after steps %d and %d", fails, a, b)
				if lost := w.effects == 0 && len(w.dead) == 0; lost {
					t.Errorf("%s: the message is lost", name)
				}
				if w.executed > maxAttempts+len(crashes) {
					t.Errorf("%s: %d executions", name, w.executed)
				}
				if len(w.dead) > 1+len(crashes) || !fails && w.effects > 1+len(crashes) {
					t.Errorf("%s: %d effects, dead letters %v", name, w.effects, w.dead)
				}
			}
		}
	}
	if w := run(t, nil, false, false); w.steps > steps || w.effects != 1 || w.executed != maxAttempts {
		t.Errorf("without a crash: %+v", w)
	}
}

// TestFenceBeforeConfirmLoses is why the order is as it is: the other way round a crash loses the message.
func TestFenceBeforeConfirmLoses(t *testing.T) {
	for step := range 16 {
		if w := run(t, map[int]bool{step: true}, false, true); w.effects == 0 && len(w.dead) == 0 {
			return
		}
	}
	t.Error("no crash lost the message: does TestEveryCrash still find anything?")
}

func TestRaise(t *testing.T) {
	m := dedup.NewMemory(0, nil)
	life := dedup.Lifetimes{Lease: time.Minute, Keep: time.Hour}
	key := dedup.Key{Consumer: "c", ID: "m"}
	one := dedup.Attempt{Number: 1}
	begin := func(attempt dedup.Attempt, want dedup.Status) dedup.Claim {
		t.Helper()
		c, err := m.Begin(t.Context(), key, attempt, life)
		if err != nil || c.Status != want {
			t.Fatalf("%v, %v, want %v", c.Status, err, want)
		}
		return c
	}
	raise := func() {
		t.Helper()
		if err := dedup.Raise(t.Context(), m, key, one, one.Next(), life); err != nil {
			t.Fatal(err)
		}
	}
	raise()
	begin(one, dedup.Superseded)
	raise() // once more, as after a crash before the ack
	c := begin(one.Next(), dedup.Acquired)
	raise()
	if err := m.Complete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	raise()
	begin(one.Next(), dedup.Done)
}
