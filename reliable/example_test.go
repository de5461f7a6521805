package reliable_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
)

type Order struct {
	ID   int
	City string
}

// A publisher and a consumer that lose nothing. With AMQP_URL set, the same
// program uses the broker there.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := reliable.Open(ctx, reliable.FromEnv(broker.Embedded("")), reliable.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := reliable.Queue{Name: "orders"}
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		fmt.Println("shipping order", m.Body.ID, "to", m.Body.City)
		cancel() // an example ends
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	if err != nil {
		fmt.Println(err)
	}
	if err := publisher.Publish(ctx, Order{7, "Rostock"}); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Println(err)
	}
	if err := client.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: shipping order 7 to Rostock
}

// connect is what the examples begin with.
func connect() (*reliable.Client, func()) {
	embedded := broker.Embedded("")
	client, err := reliable.Open(context.Background(), reliable.Via(embedded), reliable.Config{})
	if err != nil {
		panic(err)
	}
	return client, func() {
		client.Close(context.Background())
		embedded.Shutdown(context.Background())
	}
}

func ExampleConsume_decisions() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	orders := reliable.Queue{Name: "orders"}
	done := make(chan struct{})
	_, err := reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		switch {
		case m.Body.City == "":
			return reliable.Permanent(errors.New("no city")) // a dead letter now
		case m.Attempt == 1:
			return errors.New("the printer is out of paper") // comes again, by the policy
		}
		fmt.Println("attempt", m.Attempt, "after:", m.LastError)
		close(done)
		return nil
	}, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 5, Backoff: reliable.Exponential(250*time.Millisecond, time.Hour)}))
	if err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	if err != nil {
		fmt.Println(err)
	}
	if err := publisher.Publish(ctx, Order{8, "Kyoto"}); err != nil {
		fmt.Println(err)
	}
	<-done
	// Output: attempt 2 after: the printer is out of paper
}

func ExamplePublisher_Publish() {
	client, end := connect()
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	events := reliable.Exchange{Name: "events", Kind: "topic"}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToExchange(events, "order.created"))
	if err != nil {
		fmt.Println(err)
	}
	err = publisher.Publish(ctx, Order{9, "Quito"}, reliable.ID("order-9"))
	switch {
	case err == nil:
		fmt.Println("the broker has it, in a queue")
	case errors.Is(err, reliable.ErrUnroutable):
		fmt.Println("no queue is bound to events") // it is nowhere
	case errors.Is(err, reliable.ErrUnconfirmed):
		fmt.Println("unknown: publish it again with the same id")
	}
	// Output: no queue is bound to events
}

func ExamplePublisher_PublishAsync() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(reliable.Queue{Name: "orders"}), reliable.Window(100))
	if err != nil {
		fmt.Println(err)
	}
	var receipts []*reliable.Receipt
	for i := range 1000 {
		r, err := publisher.PublishAsync(ctx, Order{ID: i}) // waits while 100 are on their way
		if err != nil {
			fmt.Println(err)
			return
		}
		receipts = append(receipts, r)
	}
	confirmed := 0
	for _, r := range receipts {
		if r.Wait(ctx) == nil {
			confirmed++
		}
	}
	fmt.Println(confirmed, "confirmed")
	// Output: 1000 confirmed
}

func ExampleAfter() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	reminders := reliable.Queue{Name: "reminders"}
	begun, waited := time.Now(), make(chan time.Duration)
	_, err := reliable.Consume(ctx, client, reminders, func(ctx context.Context, m *reliable.Message[string]) error {
		waited <- time.Since(begun)
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[string](ctx, client, reliable.ToQueue(reminders))
	if err != nil {
		fmt.Println(err)
	}
	if err := publisher.Publish(ctx, "stand up", reliable.After(500*time.Millisecond)); err != nil {
		fmt.Println(err)
	}
	fmt.Println("not too early:", <-waited >= 500*time.Millisecond)
	// Output: not too early: true
}

func ExampleMux() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	type Refund struct{ Order int }
	events := reliable.Queue{Name: "events"}
	seen := make(chan string)
	mux := reliable.NewMux(client)
	reliable.Handle(mux, "", func(ctx context.Context, m *reliable.Message[Order]) error {
		seen <- fmt.Sprint("order ", m.Body.ID)
		return nil
	})
	reliable.Handle(mux, "", func(ctx context.Context, m *reliable.Message[Refund]) error {
		seen <- fmt.Sprint("refund of order ", m.Body.Order)
		return nil
	})
	if _, err := mux.Consume(ctx, events); err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[Refund](ctx, client, reliable.ToQueue(events))
	if err != nil {
		fmt.Println(err)
	}
	if err := publisher.Publish(ctx, Refund{7}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-seen)
	// Output: refund of order 7
}

func ExampleConsumeBatch() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	rows := reliable.Queue{Name: "rows"}
	done := make(chan int)
	_, err := reliable.ConsumeBatch(ctx, client, rows, reliable.Batch{Size: 100, Wait: time.Second},
		func(ctx context.Context, messages []*reliable.Message[Order]) error {
			done <- len(messages) // one INSERT for all of them
			return nil
		})
	if err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(rows))
	if err != nil {
		fmt.Println(err)
	}
	err = publisher.PublishAll(ctx, func(yield func(Order) bool) {
		for i := range 100 {
			if !yield(Order{ID: i}) {
				return
			}
		}
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-done, "rows at once")
	// Output: 100 rows at once
}

func ExampleIdempotent() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	orders := reliable.Queue{Name: "orders"}
	done := make(chan string, 10)
	_, err := reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		done <- m.ID
		return nil
	}, reliable.Idempotent("shipping", dedup.NewMemory(0, nil)))
	if err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	if err != nil {
		fmt.Println(err)
	}
	for _, id := range []string{"order-7", "order-7", "order-8"} { // published again, to be sure
		if err := publisher.Publish(ctx, Order{ID: 7}, reliable.ID(id)); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(<-done)
	fmt.Println(<-done)
	// Output:
	// order-7
	// order-8
}

func ExampleDeadLetters_Redrive() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	orders := reliable.Queue{Name: "orders"}
	shipped := make(chan int)
	_, err := reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		if m.Body.City == "" {
			return reliable.Permanent(errors.New("no city"))
		}
		shipped <- m.Body.ID
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	if err != nil {
		fmt.Println(err)
	}
	if err := publisher.Publish(ctx, Order{ID: 7}); err != nil {
		fmt.Println(err)
	}
	dead := client.DeadLetters(orders)
	for found := false; !found; {
		for letter, err := range dead.Scan(ctx, reliable.Filter{Reason: reliable.ReasonPermanent}) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println("dead:", letter.Error)
			found = true
		}
	}
	report, err := dead.Redrive(ctx, reliable.Filter{}, reliable.RedriveOptions{Edit: func(d *reliable.DeadLetter) {
		d.Body = []byte(`{"ID":7,"City":"Lima"}`)
	}})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println("sent back:", report.Done)
	fmt.Println("shipped:", <-shipped)
	// Output:
	// dead: permanent: no city
	// sent back: 1
	// shipped: 7
}
