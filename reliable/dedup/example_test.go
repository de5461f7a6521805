package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
)

// A message is delivered twice, and handled once.
func ExampleMemory() {
	ctx := context.Background()
	store := dedup.NewMemory(0, nil)
	life := dedup.Lifetimes{Lease: 30 * time.Second, Keep: 24 * time.Hour}
	for range 2 {
		claim, err := store.Begin(ctx, dedup.Key{Consumer: "billing", ID: "order-1"}, dedup.Attempt{Number: 1}, life)
		if err != nil {
			fmt.Println(err)
			return
		}
		if claim.Status != dedup.Acquired {
			fmt.Println("not again:", claim.Status)
			continue // ack
		}
		fmt.Println("charge the card")
		if err := store.Complete(ctx, claim); err != nil {
			fmt.Println(err)
			return
		}
		// ack
	}
	// Output:
	// charge the card
	// not again: done
}

// The copy for a retry is confirmed, but the ack of the original is lost, so that both are delivered.
func ExampleStore() {
	ctx := context.Background()
	var store dedup.Store = dedup.NewMemory(0, nil)
	life := dedup.Lifetimes{Lease: 30 * time.Second, Keep: 24 * time.Hour}
	key, first := dedup.Key{Consumer: "billing", ID: "order-1"}, dedup.Attempt{Number: 1}

	claim, _ := store.Begin(ctx, key, first, life)
	// The handler fails; the copy, with the next attempt, is published and confirmed. Only then:
	fmt.Println("release:", store.Release(ctx, claim, first.Next()))

	again, _ := store.Begin(ctx, key, first, life)
	fmt.Println("the original:", again.Status)
	retry, _ := store.Begin(ctx, key, first.Next(), life)
	fmt.Println("the copy:", retry.Status)
	// Output:
	// release: <nil>
	// the original: superseded
	// the copy: acquired
}

// A handler that takes longer than its lease keeps it, and learns it when it is lost.
func ExampleHold() {
	ctx := context.Background()
	store := dedup.NewMemory(0, nil)
	life := dedup.Lifetimes{Lease: dedup.MinLease, Keep: time.Hour}
	claim, _ := store.Begin(ctx, dedup.Key{Consumer: "billing", ID: "order-1"}, dedup.Attempt{Number: 1}, life)

	held, release := dedup.Hold(ctx, store, claim, nil)
	// Somebody else ends the lease.
	_ = store.Release(ctx, claim, claim.Attempt)
	<-held.Done()
	fmt.Println(errors.Is(context.Cause(held), dedup.ErrLost))
	release()
	// Output: true
}
