// Command prefetch shows what a consumer is sent without and with a bound, and how
// work is shared between a slow and a fast consumer.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/examples/internal/plain"
)

const queue = "lesson.prefetch"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	conn, err := plain.FromEnv()()
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Println("A consumer that acknowledges nothing; 1000 messages:")
	for _, prefetch := range []int{0, 10} {
		if err := flood(ctx, conn, prefetch); err != nil {
			return err
		}
	}
	fmt.Println("A slow and a fast consumer; 20 messages:")
	for _, prefetch := range []int{0, 1} {
		if err := share(ctx, conn, prefetch); err != nil {
			return err
		}
	}
	return nil
}

// fill makes a new queue of this connection, and a channel that confirms.
func fill(ctx context.Context, conn *amqp.Connection, n int) (*amqp.Channel, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
		return nil, err
	}
	if _, err := ch.QueueDeclare(queue, false, false, true, false, nil); err != nil {
		return nil, err
	}
	return ch, publish(ctx, ch, n)
}

func publish(ctx context.Context, ch *amqp.Channel, n int) error {
	var last *amqp.DeferredConfirmation
	for range n {
		var err error
		if last, err = ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, amqp.Publishing{}); err != nil {
			return err
		}
	}
	if last == nil {
		return nil
	}
	_, err := last.WaitContext(ctx)
	return err
}

// consume starts a consumer on a channel of its own. The prefetch of a consumer is
// what the channel is told before it begins; 0 means no bound.
func consume(conn *amqp.Connection, prefetch int) (<-chan amqp.Delivery, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return nil, err
	}
	return ch.Consume(queue, "", false, false, false, false, nil)
}

// flood counts what a consumer is sent that is never done.
func flood(ctx context.Context, conn *amqp.Connection, prefetch int) error {
	ch, err := fill(ctx, conn, 1000)
	if err != nil {
		return err
	}
	deliveries, err := consume(conn, prefetch)
	if err != nil {
		return err
	}
	want := prefetch
	if want == 0 {
		want = 1000
	}
	var last amqp.Delivery
	for range want {
		last = <-deliveries
	}
	waiting, err := ch.QueueDeclarePassive(queue, false, false, true, false, nil)
	if err != nil {
		return err
	}
	fmt.Printf("  prefetch %d: it holds %d, %d wait at the broker\n", prefetch, want, waiting.Messages)
	if prefetch == 0 {
		return nil
	}
	if err := last.Ack(false); err != nil { // there is room for one more
		return err
	}
	<-deliveries
	if waiting, err = ch.QueueDeclarePassive(queue, false, false, true, false, nil); err != nil {
		return err
	}
	fmt.Printf("  after an ack it got one more: %d wait\n", waiting.Messages)
	return nil
}

// share gives work to two consumers. The slow one is not done with its first
// message before all the others have been handled.
func share(ctx context.Context, conn *amqp.Connection, prefetch int) error {
	ch, err := fill(ctx, conn, 0)
	if err != nil {
		return err
	}
	slow, err := consume(conn, prefetch)
	if err != nil {
		return err
	}
	fast, err := consume(conn, prefetch)
	if err != nil {
		return err
	}
	if err := publish(ctx, ch, 20); err != nil {
		return err
	}
	held := <-slow
	want := 19 // all but the one that is held
	if prefetch == 0 {
		want = 10 // the others were promised to the slow one long ago
	}
	for range want {
		d := <-fast
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	// Nothing is left at the broker, and the fast one has nothing to do.
	waiting, err := ch.QueueDeclarePassive(queue, false, false, true, false, nil)
	if err != nil {
		return err
	}
	fmt.Printf("  prefetch %d: the fast one handled %d, %d wait at the broker, %d with the slow one\n",
		prefetch, want, waiting.Messages, 20-want-waiting.Messages)
	return held.Ack(false)
}
