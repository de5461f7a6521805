// Command retry shows delayed retries, dead letters with their history, and how
// they are taken back.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
)

// Order is what the messages carry.
type Order struct{ ID, City string }

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	client, err := reliable.Open(ctx, reliable.FromEnv(broker.Embedded("")), reliable.Config{})
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	orders := reliable.Queue{Name: "lesson.orders"}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	if err != nil {
		return err
	}
	dead := client.DeadLetters(orders)
	if _, err := dead.Purge(ctx, reliable.Filter{}, reliable.PurgeOptions{}); err != nil { // of a run that was interrupted
		return err
	}

	w := &warehouse{log: map[string][]string{}, shipped: make(chan string, 4)}
	policy := reliable.RetryPolicy{MaxAttempts: 3, Backoff: reliable.Schedule(250*time.Millisecond, 500*time.Millisecond)}
	if _, err := reliable.Consume(ctx, client, orders, w.ship, reliable.Retry(policy)); err != nil {
		return err
	}
	for _, o := range []Order{{"m1", "Kyoto"}, {"m2", "Lima"}, {"m3", "Atlantis"}, {"m4", ""}} {
		if err := publisher.Publish(ctx, o, reliable.ID(o.ID)); err != nil {
			return err
		}
	}
	w.wait(ctx, 2)
	if err := waitForDead(ctx, dead, 2); err != nil {
		return err
	}
	w.report("m1", "m2", "m3", "m4")

	fmt.Println("dead letters:")
	for d, err := range dead.Scan(ctx, reliable.Filter{}) {
		if err != nil {
			return err
		}
		fmt.Printf("  %s: %s after %d attempts: %s\n", d.ID, d.Reason, d.Attempts, d.Error)
	}

	w.bridge.Store(true) // the trouble is over: take back what failed because of it
	report, err := dead.Redrive(ctx, reliable.Filter{ErrorContains: "no road"}, reliable.RedriveOptions{})
	if err != nil {
		return err
	}
	w.wait(ctx, 1)
	fmt.Printf("taken back: %d\n", report.Done)
	w.report("m3")
	report, err = dead.Purge(ctx, reliable.Filter{Reason: reliable.ReasonPermanent}, reliable.PurgeOptions{})
	fmt.Printf("given up: %d\n", report.Done)
	return err
}

// warehouse is what the handler works on.
type warehouse struct {
	bridge  atomic.Bool // there is a road to Atlantis
	shipped chan string

	mu  sync.Mutex
	log map[string][]string // what happened to each message
}

// ship is the handler: what it returns decides what becomes of the message.
func (w *warehouse) ship(ctx context.Context, m *reliable.Message[Order]) error {
	err := w.tryToShip(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.log[m.ID] = append(w.log[m.ID], fmt.Sprintf("attempt %d: %v", m.Attempt, err))
		return err
	}
	w.log[m.ID] = append(w.log[m.ID], fmt.Sprintf("attempt %d: shipped", m.Attempt))
	w.shipped <- m.ID
	return nil
}

func (w *warehouse) tryToShip(m *reliable.Message[Order]) error {
	switch {
	case m.Body.City == "":
		return reliable.Permanent(errors.New("no city")) // trying again is of no use
	case m.Body.City == "Lima" && m.Attempt < 3:
		return errors.New("the truck is late") // this passes
	case m.Body.City == "Atlantis" && !w.bridge.Load():
		return errors.New("no road to Atlantis") // this does not
	}
	return nil
}

func (w *warehouse) wait(ctx context.Context, n int) {
	for range n {
		select {
		case <-w.shipped:
		case <-ctx.Done():
		}
	}
}

// report prints what happened to messages since the last report.
func (w *warehouse) report(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		fmt.Printf("%s: %s\n", id, strings.Join(w.log[id], "; "))
		delete(w.log, id)
	}
}

// waitForDead waits until there are n dead letters.
func waitForDead(ctx context.Context, dead *reliable.DeadLetters, n int) error {
	for {
		report, err := dead.Purge(ctx, reliable.Filter{}, reliable.PurgeOptions{DryRun: true}) // a dry run counts
		if err != nil || report.Matched >= n {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
