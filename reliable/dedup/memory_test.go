package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/deduptest"
)

func TestMemory(t *testing.T) {
	deduptest.Run(t, deduptest.Harness{Open: func(_ testing.TB, now func() time.Time) dedup.Store {
		return dedup.NewMemory(0, now)
	}})
}

// TestMemoryIsBounded puts far more messages in than there is room for.
func TestMemoryIsBounded(t *testing.T) {
	const room, messages = 1280, 20_000
	clock := deduptest.NewClock()
	m := dedup.NewMemory(room, clock.Now)
	life := dedup.Lifetimes{Lease: time.Minute, Keep: time.Hour}
	ctx := context.Background()
	key := func(i int) dedup.Key { return dedup.Key{Consumer: "c", ID: fmt.Sprint(i)} }
	held, err := m.Begin(ctx, key(-1), dedup.Attempt{Number: 1}, life)
	if err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		c, err := m.Begin(ctx, key(i), dedup.Attempt{Number: 1}, life)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Complete(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.Len(); n > room {
		t.Errorf("%d records, although there is room for %d", n, room)
	}
	if kept, gone := m.Len(), int(m.Evicted()); kept+gone != messages+1 {
		t.Errorf("%d kept and %d evicted of %d", kept, gone, messages+1)
	}
	if c, err := m.Begin(ctx, key(messages-1), dedup.Attempt{Number: 1}, life); err != nil || c.Status != dedup.Done {
		t.Errorf("the last message is %v, %v", c.Status, err)
	}
	if err := m.Renew(ctx, held); err != nil {
		t.Errorf("a held lease had to make room: %v", err)
	}

	// What has expired is not counted when it goes.
	clock.Advance(2 * time.Hour)
	before := m.Evicted()
	for i := range room * 2 {
		if _, err := m.Begin(ctx, key(messages+i), dedup.Attempt{Number: 1}, dedup.Lifetimes{Lease: time.Second, Keep: time.Second}); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Second)
	}
	if after := m.Evicted(); after != before {
		t.Errorf("%d expired records were counted as evicted", after-before)
	}
}

func TestMemoryFullOfLeases(t *testing.T) {
	clock := deduptest.NewClock()
	m := dedup.NewMemory(128, clock.Now)
	life := dedup.Lifetimes{Lease: time.Minute, Keep: time.Hour}
	var held []dedup.Claim
	refused := 0
	for i := range 1000 {
		c, err := m.Begin(context.Background(), dedup.Key{Consumer: "c", ID: fmt.Sprint(i)}, dedup.Attempt{Number: 1}, life)
		switch {
		case err == nil:
			held = append(held, c)
		case errors.Is(err, dedup.ErrFull):
			refused++
		default:
			t.Fatal(err)
		}
	}
	if refused == 0 || m.Len() > 128 {
		t.Errorf("%d refused, %d records", refused, m.Len())
	}
	for _, c := range held {
		if err := m.Renew(context.Background(), c); err != nil {
			t.Fatalf("a lease was lost to make room: %v", err)
		}
	}
	clock.Advance(time.Hour)
	if _, err := m.Begin(context.Background(), dedup.Key{Consumer: "c", ID: "next"}, dedup.Attempt{Number: 1}, life); err != nil {
		t.Errorf("with all leases over: %v", err)
	}
}
