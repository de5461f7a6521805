// Command minimal is the lesson's smallest program: a durable queue, one message
// in, one message out, acknowledged.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/examples/internal/plain"
)

// Message is what the body holds, as JSON.
type Message struct {
	ID      string `json:"id"`
	Payload string `json:"payload"`
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	conn, err := plain.FromEnv()() // AMQP_URL, or a broker inside this process
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if _, err := ch.QueueDeclare("demo.q", true, false, false, false, nil); err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	body, err := json.Marshal(Message{ID: "m1", Payload: "hello"})
	if err != nil {
		return err
	}
	confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", "demo.q", true, false, amqp.Publishing{
		MessageId: "m1", ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: body,
	})
	if err != nil {
		return err
	}
	if ok, err := confirm.WaitContext(ctx); err != nil || !ok {
		return fmt.Errorf("not confirmed: %v", err)
	}
	d, found, err := ch.Get("demo.q", false) // not acknowledged by being sent
	if err != nil || !found {
		return fmt.Errorf("no message in demo.q: %v", err)
	}
	fmt.Printf("got: %s\n", d.Body)
	return d.Ack(false)
}
