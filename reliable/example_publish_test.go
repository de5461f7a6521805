package reliable_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/reliable"
)

// check stands for what a program does about errors.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// AMQP_URL decides. A broker that is named and cannot be reached is an error, and
// never a reason to work with another one.
func ExampleFromEnv() {
	ctx := context.Background()
	embedded := broker.Embedded("") // "" is in memory; a directory keeps what is confirmed
	defer embedded.Shutdown(ctx)

	os.Unsetenv("AMQP_URL")
	client, err := reliable.Open(ctx, reliable.FromEnv(embedded), reliable.Config{})
	check(err)
	fmt.Println("without AMQP_URL:", client.Ready())
	client.Close(ctx)

	os.Setenv("AMQP_URL", "amqp://guest:guest@127.0.0.1:1/") // nobody is there
	defer os.Unsetenv("AMQP_URL")
	_, err = reliable.Open(ctx, reliable.FromEnv(embedded), reliable.Config{})
	fmt.Println("with one that does not answer:", err != nil)
	// Output:
	// without AMQP_URL: <nil>
	// with one that does not answer: true
}

// The nodes of a cluster; whichever answers is used, also after a loss.
func ExampleToURL() {
	node, err := broker.Open(broker.Config{})
	check(err)
	defer node.Shutdown(context.Background())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go node.Serve(listener)

	client, err := reliable.Open(context.Background(), reliable.ToURL(
		"amqp://guest:guest@127.0.0.1:1/", // is down
		"amqp://guest:guest@"+listener.Addr().String()+"/",
	), reliable.Config{Name: "billing"})
	check(err)
	defer client.Close(context.Background())
	fmt.Println(client.Health().Publish.Up)
	// Output: true
}

// An exchange, a queue that is bound to it, and a key made from the value.
func ExampleToExchange() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	events := reliable.Exchange{Name: "events", Kind: "topic"}
	harbours := reliable.Queue{Name: "harbours", Bind: []reliable.Bind{{Exchange: events, Key: "order.Rostock"}}}
	seen := make(chan string)
	_, err := reliable.Consume(ctx, client, harbours, func(ctx context.Context, m *reliable.Message[Order]) error {
		seen <- fmt.Sprintf("order %d by key %s", m.Body.ID, m.Key)
		return nil
	})
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToExchange(events, ""),
		reliable.KeyFunc(func(o Order) string { return "order." + o.City }))
	check(err)
	check(publisher.Publish(ctx, Order{7, "Rostock"}))
	fmt.Println(<-seen)

	fmt.Println(errors.Is(publisher.Publish(ctx, Order{8, "Bern"}), reliable.ErrUnroutable)) // no queue wants it
	check(publisher.Publish(ctx, Order{8, "Bern"}, reliable.Key("order.Rostock")))           // for this message only
	fmt.Println(<-seen)
	// Output:
	// order 7 by key order.Rostock
	// true
	// order 8 by key order.Rostock
}

// Many messages, and which of them failed.
func ExamplePublisher_PublishAll() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	events := reliable.Exchange{Name: "events", Kind: "direct"}
	check(client.Declare(ctx, bound(client, reliable.Queue{Name: "paid", Bind: []reliable.Bind{{Exchange: events, Key: "paid"}}})))
	publisher, err := reliable.NewPublisher[string](ctx, client, reliable.ToExchange(events, ""),
		reliable.KeyFunc(func(what string) string { return what }))
	check(err)

	err = publisher.PublishAll(ctx, slices.Values([]string{"paid", "refunded", "paid"}))
	var failed *reliable.BatchError
	if errors.As(err, &failed) {
		for position, err := range failed.Errs {
			fmt.Println("message", position, "is unroutable:", errors.Is(err, reliable.ErrUnroutable))
		}
	}
	// Output: message 1 is unroutable: true
}

// bound is what a queue needs.
func bound(client *reliable.Client, q reliable.Queue) reliable.Topology {
	t, err := client.Topology(q)
	check(err)
	return t
}

// The properties that a message can have.
func ExamplePublishOption() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	orders := reliable.Queue{Name: "orders"}
	seen := make(chan *reliable.Delivery)
	_, err := reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[[]byte]) error {
		seen <- m.Delivery
		return nil
	})
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders), reliable.MessageType("order.v2"))
	check(err)
	check(publisher.Publish(ctx, Order{ID: 7},
		reliable.ID("order-7"), // the same each time that this is published
		reliable.CorrelationID("cart-3"),
		reliable.Header("tenant", "north"),
		reliable.Priority(5),
	))
	check(publisher.Publish(ctx, Order{ID: 8}, reliable.ID("order-8"), reliable.Type("order.v3")))
	d := <-seen
	fmt.Println(d.ID, d.Type, d.CorrelationID, d.Headers["tenant"], d.Priority)
	d = <-seen
	fmt.Println(d.ID, d.Type)
	// Output:
	// order-7 order.v2 cart-3 north 5
	// order-8 order.v3
}

// What a publish says when its deadline comes while the broker is away. The id is
// known, so it can be published again and recognized.
func ExamplePublishError() {
	embedded := broker.Embedded("")
	client, err := reliable.Open(context.Background(), reliable.Via(embedded), reliable.Config{})
	check(err)
	defer client.Close(context.Background())
	publisher, err := reliable.NewPublisher[Order](context.Background(), client, reliable.ToQueue(reliable.Queue{Name: "orders"}))
	check(err)
	embedded.Shutdown(context.Background()) // the broker is away

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err = publisher.Publish(ctx, Order{ID: 7}, reliable.ID("order-7"))
	var failed *reliable.PublishError
	if errors.As(err, &failed) {
		fmt.Println(failed.ID, failed.Kind == reliable.ErrUnconfirmed, errors.Is(err, context.DeadlineExceeded))
	}
	// Output: order-7 true true
}

// A message for a moment that is known. It waits in the broker.
func ExampleAt() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	reminders := reliable.Queue{Name: "reminders"}
	publisher, err := reliable.NewPublisher[string](ctx, client, reliable.ToQueue(reminders))
	check(err)
	check(publisher.Publish(ctx, "call the bank", reliable.At(time.Now().Add(48*time.Hour))))
	err = publisher.Publish(ctx, "in a year", reliable.After(365*24*time.Hour))
	fmt.Println(err)
	// Output: reliable: the delay of 8760h0m0s is too long, at most 72h49m3.75s are possible
}

// XML is a codec that is not JSON.
type XML struct{}

func (XML) ContentType() string                { return "application/xml" }
func (XML) Marshal(v any) ([]byte, error)      { return xml.Marshal(v) }
func (XML) Unmarshal(body []byte, v any) error { return xml.Unmarshal(body, v) }

func ExampleCodec() {
	embedded := broker.Embedded("")
	defer embedded.Shutdown(context.Background())
	ctx := context.Background()
	client, err := reliable.Open(ctx, reliable.Via(embedded), reliable.Config{Codec: XML{}})
	check(err)
	defer client.Close(ctx)
	orders := reliable.Queue{Name: "orders"}
	seen := make(chan string)
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		seen <- fmt.Sprintf("%s: %d from %s", m.ContentType, m.Body.ID, m.Raw)
		return nil
	})
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	check(err)
	check(publisher.Publish(ctx, Order{7, "Rostock"}))
	fmt.Println(<-seen)
	// Output: application/xml: 7 from <Order><ID>7</ID><City>Rostock</City></Order>
}

// What a queue needs, to be declared by somebody who may: here for RabbitMQ 4.3,
// without being connected to one.
func ExampleTopologyFor() {
	t, err := reliable.TopologyFor("RabbitMQ", "4.3.0", reliable.Auto, reliable.Queue{Name: "orders"})
	check(err)
	for _, q := range t.Queues {
		if q.Name == "orders" || q.Name == "orders.dlq" {
			fmt.Println(q.Name, q.Arguments["x-queue-type"], q.Arguments["x-dead-letter-exchange"])
		}
	}
	exchange, key := reliable.DelayRoute(reliable.Quorum, time.Second, "orders")
	fmt.Println("a retry after a second is published to", exchange, "with", key)
	// Output:
	// orders.dlq quorum <nil>
	// orders quorum wrn.v1.dlx
	// a retry after a second is published to wrn.v1.d250.L02 with 0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.orders
}
