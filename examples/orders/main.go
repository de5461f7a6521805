// Command orders is the lesson's case: a message that fails is tried again later,
// and after its last attempt it is set aside. A duplicate changes nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
)

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
	queue := reliable.Queue{Name: "lesson.case"}
	dead := client.DeadLetters(queue)
	publisher, err := reliable.NewPublisher[string](ctx, client, reliable.ToQueue(queue))
	if err != nil {
		return err
	}

	failed := make(chan int, 10)
	_, err = reliable.Consume(ctx, client, queue, func(ctx context.Context, m *reliable.Message[string]) error {
		fmt.Println("handling", m.ID, "attempt", m.Attempt)
		if m.Body == "fail" {
			failed <- m.Attempt
			return errors.New("boom")
		}
		return nil
	},
		reliable.Retry(reliable.RetryPolicy{MaxAttempts: 3, Backoff: reliable.Exponential(250*time.Millisecond, time.Minute)}),
		reliable.Idempotent("case", dedup.NewMemory(0, nil)),
	)
	if err != nil {
		return err
	}
	for _, m := range []struct{ id, body string }{{"m1", "ok"}, {"m1", "ok"}, {"m2", "fail"}} {
		if err := publisher.Publish(ctx, m.body, reliable.ID(m.id)); err != nil {
			return err
		}
	}

	for attempt := 0; attempt < 3; {
		select {
		case attempt = <-failed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		report, err := dead.Purge(ctx, reliable.Filter{IDs: []string{"m2"}}, reliable.PurgeOptions{})
		if err != nil {
			return err
		}
		if report.Done > 0 {
			fmt.Println("dead letters:", report.Done)
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
