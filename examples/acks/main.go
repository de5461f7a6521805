// Command acks shows what becomes of messages whose consumer dies, with automatic
// and with manual acknowledgement, and of those that a consumer refuses.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/examples/internal/plain"
)

const queue, deadQueue = "lesson.acks", "lesson.acks.dead"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	connect := plain.FromEnv()
	conn, err := connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := declare(ch); err != nil {
		return err
	}
	for _, autoAck := range []bool{true, false} {
		if err := publish(ctx, ch, "m1", "m2", "m3"); err != nil {
			return err
		}
		if err := consumeAndDie(connect, autoAck); err != nil {
			return err
		}
		if err := showWhatIsLeft(ctx, ch, autoAck); err != nil {
			return err
		}
	}
	if err := refuse(ctx, ch); err != nil {
		return err
	}
	for _, q := range []string{queue, deadQueue} { // leave nothing behind
		if _, err := ch.QueueDelete(q, false, false, false); err != nil {
			return err
		}
	}
	return nil
}

// declare makes a durable queue whose refused messages go to another one.
func declare(ch *amqp.Channel) error {
	toDead := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": deadQueue}
	for name, arguments := range map[string]amqp.Table{queue: toDead, deadQueue: nil} {
		if _, err := ch.QueueDeclare(name, true, false, false, false, arguments); err != nil {
			return err
		}
		if _, err := ch.QueuePurge(name, false); err != nil { // of a run that was interrupted
			return err
		}
	}
	return ch.Confirm(false)
}

func publish(ctx context.Context, ch *amqp.Channel, bodies ...string) error {
	for _, body := range bodies {
		// Only a persistent message in a durable queue survives a restart of the broker.
		confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
		if err != nil {
			return err
		}
		if _, err := confirm.WaitContext(ctx); err != nil {
			return err
		}
	}
	return nil
}

// consumeAndDie is a consumer that gets three messages, finishes one, and dies.
func consumeAndDie(connect func() (*amqp.Connection, error), autoAck bool) error {
	conn, err := connect()
	if err != nil {
		return err
	}
	defer conn.Close() // the crash: two messages are in its memory
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	deliveries, err := ch.Consume(queue, "", autoAck, false, false, false, nil)
	if err != nil {
		return err
	}
	var got []amqp.Delivery
	for len(got) < 3 {
		got = append(got, <-deliveries)
	}
	if autoAck {
		return nil // there is nothing to say: the broker has forgotten all three
	}
	return got[0].Ack(false) // now, and only now, the broker forgets it
}

func showWhatIsLeft(ctx context.Context, ch *amqp.Channel, autoAck bool) error {
	fmt.Printf("auto_ack=%t: the consumer got 3, finished 1 and died. Left:\n", autoAck)
	if autoAck {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		fmt.Printf("  %d messages\n", q.Messages)
		return err
	}
	for range 2 {
		d, err := take(ctx, ch, queue)
		if err != nil {
			return err
		}
		fmt.Printf("  %s redelivered=%t\n", d.Body, d.Redelivered)
		if err := d.Ack(false); err != nil {
			return err
		}
	}
	return nil
}

// refuse gives a message back, and refuses it for good the second time.
func refuse(ctx context.Context, ch *amqp.Channel) error {
	if err := publish(ctx, ch, "m4"); err != nil {
		return err
	}
	for _, requeue := range []bool{true, false} {
		d, err := take(ctx, ch, queue)
		if err != nil {
			return err
		}
		fmt.Printf("nack %s requeue=%t (redelivered=%t)\n", d.Body, requeue, d.Redelivered)
		if err := d.Nack(false, requeue); err != nil {
			return err
		}
	}
	d, err := take(ctx, ch, deadQueue)
	if err != nil {
		return err
	}
	fmt.Printf("%s is in %s, because it was %s in %s\n", d.Body, deadQueue, d.Headers["x-first-death-reason"], d.Headers["x-first-death-queue"])
	return d.Ack(false)
}

// take waits for a message: the broker gives it back when it notices that its
// consumer is gone.
func take(ctx context.Context, ch *amqp.Channel, from string) (amqp.Delivery, error) {
	for {
		d, found, err := ch.Get(from, false)
		if found || err != nil {
			return d, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return d, ctx.Err()
		}
	}
}
