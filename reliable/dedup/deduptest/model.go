package deduptest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"pgregory.net/rapid"
)

// testModel runs random histories of a few keys on the store and on dedup.Record.
func testModel(t *testing.T, h Harness) {
	clock := NewClock()
	store := h.Open(t, clock.Now)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{store: store, clock: clock, consumer: fmt.Sprint("run ", run), records: map[dedup.Key]*dedup.Record{}, tokens: map[string]bool{}}
		rt.Repeat(map[string]func(*rapid.T){
			"begin":    m.begin,
			"renew":    m.renew,
			"complete": m.complete,
			"release":  m.release,
			"advance": func(rt *rapid.T) {
				step := rapid.SampledFrom([]time.Duration{time.Microsecond, time.Second, 10 * time.Second, time.Minute, time.Hour}).Draw(rt, "step")
				clock.Advance(step)
			},
		})
	})
}

// model is one random history. All claims ever given stay in it, so that stale ones are used, too.
type model struct {
	store    dedup.Store
	clock    *Clock
	consumer string
	records  map[dedup.Key]*dedup.Record
	claims   []dedup.Claim
	tokens   map[string]bool
}

func (m *model) record(key dedup.Key) *dedup.Record {
	if m.records[key] == nil {
		m.records[key] = &dedup.Record{}
	}
	return m.records[key]
}

func (m *model) begin(rt *rapid.T) {
	key := dedup.Key{Consumer: m.consumer, ID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "id")}
	attempt := dedup.Attempt{Generation: rapid.IntRange(0, 1).Draw(rt, "generation"), Number: rapid.IntRange(1, 3).Draw(rt, "number")}
	life := dedup.Lifetimes{
		Lease: rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute}).Draw(rt, "lease"),
		Keep:  rapid.SampledFrom([]time.Duration{time.Minute, 2 * time.Hour}).Draw(rt, "keep"),
	}
	got, err := m.store.Begin(context.Background(), key, attempt, life)
	if err != nil {
		rt.Fatalf("Begin: %v", err)
	}
	want := m.record(key).Begin(m.clock.Now().UnixMicro(), key, attempt, life, got.Token)
	if got != want {
		rt.Fatalf("Begin(%v, %v, %v) returned\n%+v, want\n%+v", key, attempt, life, got, want)
	}
	if got.Status != dedup.Acquired {
		return
	}
	if got.Token == "" || m.tokens[got.Token] {
		rt.Fatalf("the token %q of a lease is empty or was used before", got.Token)
	}
	m.tokens[got.Token] = true
	m.claims = append(m.claims, got)
}

// act draws a claim and compares what the store and the record make of it.
func (m *model) act(rt *rapid.T, name string, onStore func(dedup.Claim) error, onRecord func(*dedup.Record, int64, dedup.Claim) error) {
	if len(m.claims) == 0 {
		rt.Skip("no claims yet")
	}
	// Recent claims are more interesting.
	back := min(rapid.IntRange(0, 3).Draw(rt, "back"), len(m.claims)-1)
	c := m.claims[len(m.claims)-1-back]
	now := m.clock.Now().UnixMicro()
	r := m.record(c.Key)
	got := onStore(c)
	want := onRecord(r, now, c)
	if !errors.Is(got, want) {
		rt.Fatalf("%s(%+v): %v, want %v", name, c, got, want)
	}
}

func (m *model) renew(rt *rapid.T) {
	m.act(rt, "Renew", func(c dedup.Claim) error { return m.store.Renew(context.Background(), c) },
		func(r *dedup.Record, now int64, c dedup.Claim) error { return r.Renew(now, c) })
}

func (m *model) complete(rt *rapid.T) {
	m.act(rt, "Complete", func(c dedup.Claim) error { return m.store.Complete(context.Background(), c) },
		func(r *dedup.Record, now int64, c dedup.Claim) error { return r.Complete(now, c) })
}

func (m *model) release(rt *rapid.T) {
	raise := rapid.IntRange(0, 2).Draw(rt, "raise")
	next := func(c dedup.Claim) dedup.Attempt {
		return []dedup.Attempt{c.Attempt, c.Attempt.Next(), c.Attempt.Redriven()}[raise]
	}
	m.act(rt, "Release", func(c dedup.Claim) error { return m.store.Release(context.Background(), c, next(c)) },
		func(r *dedup.Record, now int64, c dedup.Claim) error { return r.Release(now, c, next(c)) })
}

const (
	workers        = 8
	concurrentKeys = 30
)

// testConcurrent has many workers at the same messages: each is handled once, and by one at a time.
func testConcurrent(t *testing.T, h Harness) {
	store := h.Open(t, NewClock().Now)
	var effects, holders [concurrentKeys]atomic.Int32
	everyone(t, func(worker int) error {
		todo := rand.Perm(concurrentKeys)
		for deadline := time.Now().Add(time.Minute); len(todo) > 0; {
			if time.Now().After(deadline) {
				return fmt.Errorf("%d messages are not done", len(todo))
			}
			i := todo[0]
			todo = todo[1:]
			c, err := store.Begin(context.Background(), dedup.Key{Consumer: "c", ID: fmt.Sprint(i)}, first(), life())
			switch {
			case err != nil:
				return err
			case c.Status == dedup.InProgress:
				todo = append(todo, i)
			case c.Status == dedup.Acquired:
				if n := holders[i].Add(1); n != 1 {
					return fmt.Errorf("message %d has %d holders", i, n)
				}
				runtime.Gosched()
				effects[i].Add(1)
				holders[i].Add(-1)
				if err := store.Complete(context.Background(), c); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for i := range effects {
		if n := effects[i].Load(); n != 1 {
			t.Errorf("message %d was handled %d times", i, n)
		}
	}
}

// hold is a time during which a worker had a lease for certain: from when it knew of it, to when it would be
// over if it was given the moment that it was asked for.
type hold struct{ from, to time.Time }

// holds are those of one message.
type holds struct {
	sync.Mutex
	list      []hold
	completed int
}

// testTakeover is the same with workers that crash in the middle: nobody takes a lease before its time is over.
func testTakeover(t *testing.T, h Harness) {
	clock := NewClock()
	store := h.Open(t, clock.Now)
	var all [concurrentKeys]holds
	everyone(t, func(worker int) error {
		todo := rand.Perm(concurrentKeys)
		for deadline := time.Now().Add(time.Minute); len(todo) > 0; {
			if time.Now().After(deadline) {
				return fmt.Errorf("%d messages are not done", len(todo))
			}
			i := todo[0]
			again, err := takeover(store, clock, i, &all[i])
			if err != nil {
				return err
			}
			todo = todo[1:]
			if again {
				todo = append(todo, i)
			}
		}
		return nil
	})
	for i := range all {
		list := all[i].list
		if all[i].completed != 1 {
			t.Errorf("message %d was completed %d times", i, all[i].completed)
		}
		for a := range list {
			for b := range a {
				if list[a].from.Before(list[b].to) && list[b].from.Before(list[a].to) {
					t.Errorf("message %d was held twice, %v to %v and %v to %v", i, list[a].from, list[a].to, list[b].from, list[b].to)
				}
			}
		}
	}
}

// takeover tries one message, and crashes with it half of the time. It says whether to come back.
func takeover(store dedup.Store, clock *Clock, i int, h *holds) (again bool, err error) {
	asked := clock.Now()
	c, err := store.Begin(context.Background(), dedup.Key{Consumer: "c", ID: fmt.Sprint(i)}, first(), life())
	switch {
	case err != nil:
		return false, err
	case c.Status == dedup.InProgress:
		clock.Advance(time.Second)
		return true, nil
	case c.Status != dedup.Acquired:
		return false, nil
	}
	h.Lock()
	if known, over := clock.Now(), asked.Add(life().Lease); known.Before(over) {
		h.list = append(h.list, hold{known, over})
	}
	h.Unlock()
	if rand.IntN(2) == 0 { // a crash: the lease stays
		return true, nil
	}
	err = store.Complete(context.Background(), c)
	if errors.Is(err, dedup.ErrLost) { // the others moved the clock that far
		return true, nil
	}
	if err == nil {
		h.Lock()
		h.completed++
		h.Unlock()
	}
	return false, err
}

// everyone runs the workers and reports their errors.
func everyone(t *testing.T, work func(worker int) error) {
	t.Helper()
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			if err := work(worker); err != nil {
				t.Errorf("worker %d: %v", worker, err)
			}
		})
	}
	all.Wait()
}
