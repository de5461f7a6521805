// Command routing shows how exchanges, bindings and routing keys decide which
// queues get a message.
package main

import (
	"context"
	"fmt"
	"log"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/examples/internal/plain"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	conn, err := plain.FromEnv()()
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
	if err := ch.Confirm(false); err != nil { // so that we know when a message is in its queues
		return err
	}
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	for _, m := range []struct{ exchange, key string }{
		{"lesson.direct", "error"}, {"lesson.direct", "info"}, {"lesson.direct", "debug"},
		{"lesson.topic", "order.eu.paid"}, {"lesson.topic", "order.us.failed"}, {"lesson.topic", "order"}, {"lesson.topic", "user.eu.created"},
		{"lesson.fanout", "whatever"},
		{"", "lesson.mail"},
	} {
		// mandatory: what reaches no queue comes back instead of disappearing.
		confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, m.exchange, m.key, true, false, amqp.Publishing{Body: []byte("hello")})
		if err != nil {
			return err
		}
		if _, err := confirm.WaitContext(ctx); err != nil {
			return err
		}
		got, err := whoGotIt(ch, returns)
		if err != nil {
			return err
		}
		fmt.Printf("%-13s  %-15s  -> %s\n", m.exchange, m.key, got)
	}
	return nil
}

// declare makes three queues, which go with the connection because they are
// exclusive, and binds them.
func declare(ch *amqp.Channel) error {
	for _, queue := range queues() {
		if _, err := ch.QueueDeclare(queue, false, false, true, false, nil); err != nil {
			return err
		}
	}
	for _, kind := range []string{"direct", "topic", "fanout"} {
		// auto-delete: an exchange goes with its last binding.
		if err := ch.ExchangeDeclare("lesson."+kind, kind, false, true, false, false, nil); err != nil {
			return err
		}
	}
	for _, b := range []struct{ exchange, key, queue string }{
		{"lesson.direct", "error", "lesson.alarm"},
		{"lesson.direct", "error", "lesson.archive"},
		{"lesson.direct", "info", "lesson.archive"},
		{"lesson.topic", "*.*.failed", "lesson.alarm"}, // * is one word
		{"lesson.topic", "order.#", "lesson.archive"},  // # is any number of words, also none
		{"lesson.topic", "order.eu.*", "lesson.mail"},
		{"lesson.fanout", "", "lesson.alarm"},
		{"lesson.fanout", "", "lesson.archive"},
		{"lesson.fanout", "", "lesson.mail"},
	} {
		if err := ch.QueueBind(b.queue, b.key, b.exchange, false, nil); err != nil {
			return err
		}
	}
	return nil
}

func queues() []string { return []string{"lesson.alarm", "lesson.archive", "lesson.mail"} }

// whoGotIt takes the message out of every queue that has it.
func whoGotIt(ch *amqp.Channel, returns <-chan amqp.Return) (string, error) {
	select {
	case r := <-returns: // it comes before the confirm
		return fmt.Sprintf("no queue: returned with %d %s", r.ReplyCode, r.ReplyText), nil
	default:
	}
	var got []string
	for _, queue := range queues() {
		_, found, err := ch.Get(queue, true)
		if err != nil {
			return "", err
		}
		if found {
			got = append(got, strings.TrimPrefix(queue, "lesson."))
		}
	}
	return strings.Join(got, ", "), nil
}
