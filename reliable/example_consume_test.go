package reliable_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
)

// attempts consumes a queue by a policy whose delays are none, and publishes one
// order. It returns what the handler saw and what became of the message in the end.
func attempts(handle func(attempt int) error, options ...reliable.ConsumeOption) (calls int, end reliable.Outcome) {
	ctx := context.Background()
	outcomes := make(chan reliable.Outcome, 100)
	embedded := broker.Embedded("")
	defer embedded.Shutdown(ctx)
	client, err := reliable.Open(ctx, reliable.Via(embedded), reliable.Config{
		Observer: reliable.Observer{Settled: func(d *reliable.Delivery, o reliable.Outcome) { outcomes <- o }},
	})
	check(err)
	defer client.Close(ctx)
	orders := reliable.Queue{Name: "orders"}
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		calls++
		return handle(m.Attempt)
	}, options...)
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	check(err)
	check(publisher.Publish(ctx, Order{ID: 7}))
	for end = range outcomes {
		if end != reliable.OutcomeRetry && end != reliable.OutcomeSnoozed && end != reliable.OutcomeGivenBack {
			break
		}
	}
	return calls, end
}

// A policy: so many attempts, a list of delays, and errors that are not worth another
// attempt although they say nothing themselves.
func ExampleRetryPolicy() {
	policy := reliable.RetryPolicy{
		MaxAttempts: 3,
		Backoff:     reliable.Schedule(0, 0), // such as time.Second, time.Minute
		Classify: func(err error) reliable.Class {
			if errors.Is(err, fs.ErrNotExist) {
				return reliable.ClassPermanent
			}
			return reliable.ClassRetry
		},
	}
	fmt.Println(attempts(func(int) error { return errors.New("no answer") }, reliable.Retry(policy)))
	fmt.Println(attempts(func(int) error { return fmt.Errorf("template: %w", fs.ErrNotExist) }, reliable.Retry(policy)))
	// Output:
	// 3 dead-letter
	// 1 dead-letter
}

// Delays that double, up to a limit, each a little more or less by chance.
func ExampleExponential() {
	policy := reliable.RetryPolicy{MaxAttempts: 8, Backoff: reliable.Exponential(time.Second, time.Minute)}
	for n := 1; n < policy.MaxAttempts; n += 3 {
		d := policy.Backoff(n, nil)
		middle := min(time.Second<<(n-1), time.Minute)
		fmt.Println("after attempt", n, "about", middle, d > middle/2 && d < 2*middle)
	}
	// Output:
	// after attempt 1 about 1s true
	// after attempt 4 about 8s true
	// after attempt 7 about 1m0s true
}

// Jitter for delays of your own, and what it makes of one.
func ExampleJitter() {
	linear := func(n int, err error) time.Duration { return time.Duration(n) * 10 * time.Second }
	backoff := reliable.Jitter(0.5, linear)
	shortest, middle, longest := reliable.JitterRange(0.5, 20*time.Second)
	d := backoff(2, nil)
	fmt.Println(shortest, middle, longest, d >= shortest && d <= longest)
	// Output: 10s 20s 32s true
}

// An explicit list of delays; the last one stays.
func ExampleSchedule() {
	backoff := reliable.Schedule(5*time.Second, time.Minute, time.Hour)
	fmt.Println(backoff(1, nil), backoff(2, nil), backoff(3, nil), backoff(4, nil))
	// Output: 5s 1m0s 1h0m0s 1h0m0s
}

// Trying again is of no use: a dead letter at once.
func ExamplePermanent() {
	fmt.Println(attempts(func(int) error { return reliable.Permanent(errors.New("there is no such product")) }))
	// Output: 1 dead-letter
}

// The other side says when to come again, whatever the policy has.
func ExampleRetryAfter() {
	fmt.Println(attempts(func(attempt int) error {
		if attempt < 3 {
			retryAfter := time.Duration(0) // of the answer's header Retry-After
			return reliable.RetryAfter(errors.New("429 Too Many Requests"), retryAfter)
		}
		return nil
	}))
	// Output: 3 done
}

// It is too early: not an attempt, and no failure.
func ExampleSnooze() {
	early := true
	calls, end := attempts(func(attempt int) error {
		if early {
			early = false
			return reliable.Snooze(0) // such as until the shop opens
		}
		fmt.Println("attempt", attempt)
		return nil
	})
	fmt.Println(calls, end)
	// Output:
	// attempt 1
	// 2 done
}

// The message has failed, and nobody needs it any more: acknowledged and logged.
func ExampleDrop() {
	fmt.Println(attempts(func(int) error { return reliable.Drop(errors.New("the offer is over")) }))
	// Output: 1 dropped
}

// It is not the message that is at fault: the consumer pauses, and no attempt counts.
func ExamplePause() {
	away := true
	calls, end := attempts(func(attempt int) error {
		if away {
			away = false
			return reliable.Pause(errors.New("the database is away"), time.Millisecond)
		}
		fmt.Println("attempt", attempt)
		return nil
	})
	fmt.Println(calls, end)
	// Output:
	// attempt 1
	// 2 done
}

// A panic is an error like any other, and no message is lost by it.
func ExamplePanicError() {
	contained := reliable.Use(func(next reliable.HandlerFunc) reliable.HandlerFunc {
		return func(ctx context.Context, d *reliable.Delivery) error {
			err := next(ctx, d)
			var p *reliable.PanicError
			if errors.As(err, &p) {
				fmt.Println("attempt", d.Attempt, p)
			}
			return err
		}
	})
	fmt.Println(attempts(func(attempt int) error {
		if attempt == 1 {
			panic("index out of range")
		}
		return nil
	}, contained, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)})))
	// Output:
	// attempt 1 panic: index out of range
	// 2 done
}

// A body that is no Order cannot be handled by trying again.
func ExampleDecodeError() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	orders := reliable.Queue{Name: "orders"}
	seen := make(chan error, 1)
	_, err := reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error { return nil },
		reliable.Use(func(next reliable.HandlerFunc) reliable.HandlerFunc {
			return func(ctx context.Context, d *reliable.Delivery) error {
				err := next(ctx, d)
				seen <- err
				return err
			}
		}))
	check(err)
	publisher, err := reliable.NewPublisher[string](ctx, client, reliable.ToQueue(orders))
	check(err)
	check(publisher.Publish(ctx, `{"ID": 7`))
	var unreadable *reliable.DecodeError
	fmt.Println(errors.As(<-seen, &unreadable))
	fmt.Println(unreadable)
	// Output:
	// true
	// the body cannot be read as reliable_test.Order (it is said to be text/plain): unexpected end of JSON input
}

// Messages of one customer in their order, those of different ones at the same time.
// What waits in the handler's place keeps its place, too.
func ExamplePartitionBy() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	type Booking struct{ Customer, Text string }
	bookings := reliable.Queue{Name: "bookings"}
	var mu sync.Mutex
	got := map[string]string{}
	var all sync.WaitGroup
	all.Add(6)
	_, err := reliable.Consume(ctx, client, bookings, func(ctx context.Context, m *reliable.Message[Booking]) error {
		defer all.Done()
		mu.Lock()
		defer mu.Unlock()
		got[m.Body.Customer] += m.Body.Text
		return nil
	}, reliable.Concurrency(10),
		reliable.PartitionBy(func(d *reliable.Delivery) string { return d.Headers["customer"].(string) }),
		reliable.Retry(reliable.RetryPolicy{InProcess: time.Second}))
	check(err)
	publisher, err := reliable.NewPublisher[Booking](ctx, client, reliable.ToQueue(bookings))
	check(err)
	for _, text := range []string{"a", "b", "c"} {
		for _, customer := range []string{"ada", "bob"} {
			check(publisher.Publish(ctx, Booking{customer, text}, reliable.Header("customer", customer)))
		}
	}
	all.Wait()
	fmt.Println(got["ada"], got["bob"])
	// Output: abc abc
}

// Middleware sees the message before the handler and the error after.
func ExampleUse() {
	measure := func(next reliable.HandlerFunc) reliable.HandlerFunc {
		return func(ctx context.Context, d *reliable.Delivery) error {
			begun := time.Now()
			err := next(ctx, d)
			fmt.Println(d.Type, "attempt", d.Attempt, err, time.Since(begun) < time.Minute)
			return err
		}
	}
	attempts(func(int) error { return nil }, reliable.Use(measure))
	// Output: Order attempt 1 <nil> true
}

// The handler's context ends after a second, and its error counts as any other.
func ExampleTimeout() {
	calls, end := attempts(func(int) error { return context.DeadlineExceeded },
		reliable.Timeout(time.Second), reliable.Retry(reliable.RetryPolicy{MaxAttempts: 2, Backoff: reliable.Schedule(0)}))
	fmt.Println(calls, end)
	// Output: 2 dead-letter
}

// Five failures in a row, and the consumer leaves the messages where they are for a
// while.
func ExampleBreaker() {
	calls, end := attempts(func(attempt int) error {
		if attempt < 3 {
			return errors.New("no answer")
		}
		return nil
	}, reliable.Breaker(2, time.Millisecond), reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)}))
	fmt.Println(calls, end)
	// Output: 3 done
}

// At most a thousand handlers begin in a second, up to ten of them at once.
func ExampleRateLimit() {
	fmt.Println(attempts(func(int) error { return nil }, reliable.RateLimit(1000, 10)))
	// Output: 1 done
}

// The end of a program: what has begun is finished, and what is not comes again
// without counting.
func ExampleClient_Run() {
	embedded := broker.Embedded("")
	defer embedded.Shutdown(context.Background())
	ctx, stop := context.WithCancel(context.Background()) // in a program: signal.NotifyContext
	client, err := reliable.Open(ctx, reliable.Via(embedded), reliable.Config{})
	check(err)
	orders := reliable.Queue{Name: "orders"}
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		stop() // in the middle of the work
		<-time.After(10 * time.Millisecond)
		fmt.Println("finished, interrupted:", ctx.Err() != nil)
		return nil
	}, reliable.DrainTimeout(20*time.Second))
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	check(err)
	_, err = publisher.PublishAsync(context.Background(), Order{ID: 7})
	check(err)
	fmt.Println(client.Run(ctx))
	// Output:
	// finished, interrupted: false
	// <nil>
}

// One consumer is stopped, the others go on.
func ExampleConsumer_Stop() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	consumer, err := reliable.Consume(ctx, client, reliable.Queue{Name: "orders"},
		func(ctx context.Context, m *reliable.Message[Order]) error { return nil }, reliable.Prefetch(50), reliable.Exclusive())
	check(err)
	check(consumer.Stop(ctx))
	fmt.Println(consumer.Queue().Name, len(client.Health().Consumers))
	// Output: orders 0
}

// For the readiness probe of the program, and a page about its state.
func ExampleClient_Ready() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	_, err := reliable.Consume(ctx, client, reliable.Queue{Name: "orders"},
		func(ctx context.Context, m *reliable.Message[Order]) error { return nil })
	check(err)
	fmt.Println("ready:", client.Ready() == nil)
	var h reliable.Health = client.Health()
	fmt.Println("connected for publishing:", h.Publish.Up, "blocked:", h.Publish.Blocked)
	for _, c := range h.Consumers {
		fmt.Println("consumer of", c.Queue, "subscribed:", c.Err == nil)
	}
	// Output:
	// ready: true
	// connected for publishing: true blocked: false
	// consumer of orders subscribed: true
}

// Numbers of what happens. Package otel has a whole one for OpenTelemetry.
func ExampleObserver() {
	ctx := context.Background()
	embedded := broker.Embedded("")
	defer embedded.Shutdown(ctx)
	settled := make(chan reliable.Outcome)
	client, err := reliable.Open(ctx, reliable.Via(embedded), reliable.Config{Observer: reliable.Observer{
		Publish: func(ctx context.Context, p *reliable.Publishing) func(error) {
			p.Headers["trace"] = "4711"
			return func(err error) { fmt.Println("published", p.Type, "to", p.Key, err) }
		},
		Settled: func(d *reliable.Delivery, o reliable.Outcome) { settled <- o },
	}})
	check(err)
	defer client.Close(ctx)
	orders := reliable.Queue{Name: "orders"}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	check(err)
	check(publisher.Publish(ctx, Order{ID: 7}))
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		fmt.Println("trace", m.Headers["trace"])
		return nil
	})
	check(err)
	fmt.Println(<-settled)
	// Output:
	// published Order to orders <nil>
	// trace 4711
	// done
}
