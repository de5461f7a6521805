package dedup_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
)

// flaky is a store whose Renew is what a test says.
type flaky struct {
	*dedup.Memory
	renew func(context.Context, dedup.Claim) error
}

func (f *flaky) Renew(ctx context.Context, c dedup.Claim) error { return f.renew(ctx, c) }

func acquire(t *testing.T, s dedup.Store, lease time.Duration) dedup.Claim {
	t.Helper()
	c, err := s.Begin(t.Context(), dedup.Key{Consumer: "c", ID: "m"}, dedup.Attempt{Number: 1}, dedup.Lifetimes{Lease: lease, Keep: time.Hour})
	if err != nil || c.Status != dedup.Acquired {
		t.Fatalf("%v, %v", c.Status, err)
	}
	return c
}

func TestHoldRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := dedup.NewMemory(0, nil)
		var renewals atomic.Int32
		s := &flaky{Memory: m, renew: func(ctx context.Context, c dedup.Claim) error { renewals.Add(1); return m.Renew(ctx, c) }}
		c := acquire(t, s, 30*time.Second)
		held, release := dedup.Hold(t.Context(), s, c, nil)
		time.Sleep(10 * time.Minute)
		if err := context.Cause(held); err != nil {
			t.Fatalf("the lease ended: %v", err)
		}
		if n := renewals.Load(); n < 55 || n > 60 {
			t.Errorf("%d renewals of a lease of 30 s in 10 minutes", n)
		}
		release()
		if held.Err() == nil {
			t.Error("the context goes on after the release")
		}
		if err := m.Complete(t.Context(), c); err != nil {
			t.Error(err)
		}
		before := renewals.Load()
		time.Sleep(time.Hour)
		if renewals.Load() != before {
			t.Error("renewed after the release")
		}
	})
}

func TestHoldLosesToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := dedup.NewMemory(0, nil)
		c := acquire(t, m, 30*time.Second)
		time.Sleep(time.Minute) // the process stood still
		other := acquire(t, m, 30*time.Second)
		held, release := dedup.Hold(t.Context(), m, c, nil)
		defer release()
		time.Sleep(11 * time.Second)
		if err := context.Cause(held); !errors.Is(err, dedup.ErrLost) {
			t.Errorf("the handler goes on although the lease is lost: %v", err)
		}
		if err := m.Complete(t.Context(), other); err != nil {
			t.Error(err)
		}
	})
}

func TestHoldWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("the store is down")
		var isDown atomic.Bool
		s := &flaky{Memory: dedup.NewMemory(0, nil)}
		s.renew = func(ctx context.Context, c dedup.Claim) error {
			if isDown.Load() {
				return down
			}
			return s.Memory.Renew(ctx, c)
		}
		c := acquire(t, s, 30*time.Second)
		held, release := dedup.Hold(t.Context(), s, c, nil)
		defer release()
		isDown.Store(true)
		time.Sleep(20 * time.Second)
		isDown.Store(false) // it is back in time
		time.Sleep(20 * time.Second)
		if err := context.Cause(held); err != nil {
			t.Fatalf("gave up although a later renewal went well: %v", err)
		}
		isDown.Store(true)
		start := time.Now()
		<-held.Done()
		if passed := time.Since(start); passed > 27*time.Second {
			t.Errorf("the handler went on for %v without a renewal", passed)
		}
		if err := context.Cause(held); !errors.Is(err, dedup.ErrLost) || !errors.Is(err, down) {
			t.Errorf("the cause is %v", err)
		}
	})
}

// TestHoldWhileRenewHangs: neither the deadline nor the release depends on a renewal that does not come back.
func TestHoldWhileRenewHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &flaky{Memory: dedup.NewMemory(0, nil), renew: func(ctx context.Context, _ dedup.Claim) error { <-ctx.Done(); return ctx.Err() }}
		c := acquire(t, s, 30*time.Second)
		start := time.Now()
		held, release := dedup.Hold(t.Context(), s, c, nil)
		<-held.Done()
		if passed := time.Since(start); passed != 27*time.Second || !errors.Is(context.Cause(held), dedup.ErrLost) {
			t.Errorf("ended after %v: %v", passed, context.Cause(held))
		}
		release()

		c2, _ := s.Begin(t.Context(), dedup.Key{Consumer: "c", ID: "m2"}, dedup.Attempt{Number: 1}, c.Life)
		_, release = dedup.Hold(t.Context(), s, c2, nil)
		time.Sleep(11 * time.Second)
		release() // in the middle of a renewal
	})
}

// TestHoldOfAnOldLease: the time that Begin took is over.
func TestHoldOfAnOldLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &flaky{Memory: dedup.NewMemory(0, nil), renew: func(context.Context, dedup.Claim) error { return errors.New("down") }}
		c := acquire(t, s, 30*time.Second)
		c.Left = 13 * time.Second
		start := time.Now()
		held, release := dedup.Hold(t.Context(), s, c, nil)
		defer release()
		<-held.Done()
		if passed := time.Since(start); passed != 10*time.Second {
			t.Errorf("the handler went on for %v, want 10 s", passed)
		}
	})
}
