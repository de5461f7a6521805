package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
)

func openAt(t *testing.T, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Open(broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func channel(t *testing.T, b *broker.Broker) *amqp.Channel {
	t.Helper()
	conn, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: b.Dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func shutdown(t *testing.T, b *broker.Broker) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestWhatSurvives publishes, crashes or shuts down, and looks what is there.
func TestWhatSurvives(t *testing.T) {
	for _, end := range []string{"crash", "shutdown"} {
		t.Run(end, func(t *testing.T) {
			dir := t.TempDir()
			b := openAt(t, dir)
			ch := channel(t, b)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(ch.ExchangeDeclare("x", "topic", true, false, false, false, nil))
			must(ch.ExchangeDeclare("gone", "topic", false, false, false, false, nil))
			_, err := ch.QueueDeclare("q", true, false, false, false, nil)
			must(err)
			_, err = ch.QueueDeclare("transient", false, false, false, false, nil)
			must(err)
			_, err = ch.QueueDeclare("deleted", true, false, false, false, nil)
			must(err)
			must(ch.QueueBind("q", "a.#", "x", false, nil))
			must(ch.QueueBind("q", "b.#", "x", false, nil))
			must(ch.QueueUnbind("q", "b.#", "x", nil))
			must(ch.Confirm(false))
			for i := range 500 {
				mode := uint8(amqp.Persistent)
				if i%10 == 9 {
					mode = amqp.Transient
				}
				c, err := ch.PublishWithDeferredConfirm("x", "a.b", false, false, amqp.Publishing{
					DeliveryMode: mode, MessageId: fmt.Sprint(i), Body: []byte(fmt.Sprint("body ", i))})
				must(err)
				if i == 499 || i%100 == 0 {
					if ok := c.Wait(); !ok {
						t.Fatal("nacked")
					}
				}
			}
			// The first ten are acknowledged, the next five handed out.
			for i := range 15 {
				d, ok, err := ch.Get("q", false)
				must(err)
				if !ok {
					t.Fatal("queue is empty")
				}
				if i < 10 {
					must(d.Ack(false))
				}
			}
			_, err = ch.QueueDelete("deleted", false, false, false)
			must(err)
			if end == "crash" {
				b.Faults().Crash()
			} else {
				shutdown(t, b)
			}

			b = openAt(t, dir)
			ch = channel(t, b)
			must(ch.ExchangeDeclarePassive("x", "topic", true, false, false, false, nil))
			must(ch.PublishWithContext(context.Background(), "x", "a.new", false, false, amqp.Publishing{DeliveryMode: 2, MessageId: "new"}))
			must(ch.PublishWithContext(context.Background(), "x", "b.no", false, false, amqp.Publishing{DeliveryMode: 2, MessageId: "no"}))
			seen := map[string]bool{}
			var order []string
			for {
				d, ok, err := ch.Get("q", true)
				must(err)
				if !ok {
					break
				}
				if seen[d.MessageId] {
					t.Errorf("message %s twice", d.MessageId)
				}
				seen[d.MessageId] = true
				order = append(order, d.MessageId)
			}
			for i := range 500 {
				id := fmt.Sprint(i)
				transient := i%10 == 9
				switch {
				case transient && seen[id]:
					t.Errorf("transient message %s survived", id)
				case !transient && i >= 10 && !seen[id]:
					t.Errorf("message %s is lost", id)
				case i < 9 && seen[id] && end == "shutdown":
					t.Errorf("message %s was acknowledged before an orderly shutdown and is back", id)
				}
			}
			if len(order) == 0 || order[len(order)-1] != "new" || seen["no"] {
				t.Errorf("bindings are not as they were: last %v, unbound key %v", order[max(0, len(order)-1):], seen["no"])
			}
			if _, err := ch.QueueDeclarePassive("deleted", true, false, false, false, nil); err == nil {
				t.Error("a deleted queue is back")
			}
			ch = channel(t, b)
			if _, err := ch.QueueDeclarePassive("transient", false, false, false, false, nil); err == nil {
				t.Error("a transient queue survived")
			}
			shutdown(t, b)
		})
	}
}
