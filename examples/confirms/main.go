// Command confirms shows what a publisher learns of its messages, and how a
// consumer handles each of them once although some come twice.
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

// Payment is what the messages carry. An Order of "" ends the lesson.
type Payment struct {
	Order string
	Cents int
}

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
	payments := reliable.Exchange{Name: "lesson.payments", Kind: "topic"}
	publisher, err := reliable.NewPublisher[Payment](ctx, client, reliable.ToExchange(payments, "paid"))
	if err != nil {
		return err
	}

	err = publisher.Publish(ctx, Payment{"7", 990}, reliable.Key("nobody"))
	fmt.Println("no queue wants it:", errors.Is(err, reliable.ErrUnroutable))

	// Three consumers of the same messages: each has a queue of its own.
	store := dedup.NewMemory(0, nil) // gone with the program: see the page for those that stay
	accounts := []*account{{name: "naive"}, {name: "by id"}, {name: "by order"}}
	options := [][]reliable.ConsumeOption{
		nil,
		{reliable.Idempotent("by-id", store)},
		{reliable.Idempotent("by-order", store, reliable.DedupKey(func(d *reliable.Delivery) string { return d.CorrelationID }))},
	}
	for i, a := range accounts {
		a.done = make(chan struct{})
		queue := reliable.Queue{Name: fmt.Sprintf("lesson.payments.%d", i), Bind: []reliable.Bind{{Exchange: payments, Key: "paid"}}}
		if _, err := reliable.Consume(ctx, client, queue, a.charge, options[i]...); err != nil {
			return err
		}
	}

	for _, p := range []struct{ id, order string }{
		{"p-1", "7"},
		{"p-1", "7"}, // the publisher had no confirm, so it sent it again
		{"p-2", "7"}, // a customer who clicked twice: another message, the same order
		{"p-3", "8"},
		{"end", ""},
	} {
		err := publisher.Publish(ctx, Payment{p.order, 990}, reliable.ID(p.id), reliable.CorrelationID("order-"+p.order))
		fmt.Printf("publish %-3s  order %-1s  confirmed: %t\n", p.id, p.order, err == nil)
	}
	for _, a := range accounts {
		select {
		case <-a.done:
			fmt.Printf("%-8s  charged %d times, %d cents\n", a.name, a.charges, a.cents)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// account is what a handler charges. It belongs to its consumer until done.
type account struct {
	name    string
	charges int
	cents   int
	done    chan struct{}
}

func (a *account) charge(ctx context.Context, m *reliable.Message[Payment]) error {
	if m.Body.Order == "" {
		close(a.done)
		return nil
	}
	a.charges++
	a.cents += m.Body.Cents
	return nil
}
