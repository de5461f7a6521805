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
			fillBroker(t, channel(t, b))
			if end == "crash" {
				b.Faults().Crash()
			} else {
				shutdown(t, b)
			}
			b = openAt(t, dir)
			checkBroker(t, channel(t, b), end == "shutdown")
			ch := channel(t, b)
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fillBroker declares this and that, publishes 500 messages to q, every tenth of
// them transient, acknowledges the first ten and takes five more.
func fillBroker(t *testing.T, ch *amqp.Channel) {
	t.Helper()
	must(t, ch.ExchangeDeclare("x", "topic", true, false, false, false, nil))
	for name, durable := range map[string]bool{"q": true, "transient": false, "deleted": true} {
		_, err := ch.QueueDeclare(name, durable, false, false, false, nil)
		must(t, err)
	}
	must(t, ch.QueueBind("q", "a.#", "x", false, nil))
	must(t, ch.QueueBind("q", "b.#", "x", false, nil))
	must(t, ch.QueueUnbind("q", "b.#", "x", nil))
	must(t, ch.Confirm(false))
	for i := range 500 {
		mode := uint8(amqp.Persistent)
		if i%10 == 9 {
			mode = amqp.Transient
		}
		c, err := ch.PublishWithDeferredConfirm("x", "a.b", false, false, amqp.Publishing{
			DeliveryMode: mode, MessageId: fmt.Sprint(i), Body: []byte(fmt.Sprint("body ", i))})
		must(t, err)
		if (i == 498 || i%100 == 0) && !c.Wait() {
			t.Fatal("nacked")
		}
	}
	for i := range 15 {
		d, ok, err := ch.Get("q", false)
		must(t, err)
		if !ok {
			t.Fatal("queue is empty")
		}
		if i < 10 {
			must(t, d.Ack(false))
		}
	}
	_, err := ch.QueueDelete("deleted", false, false, false)
	must(t, err)
}

// checkBroker looks whether what fillBroker left is there. acked says that the
// acknowledged messages have to be gone: after a crash they may be back.
func checkBroker(t *testing.T, ch *amqp.Channel, acked bool) {
	t.Helper()
	must(t, ch.ExchangeDeclarePassive("x", "topic", true, false, false, false, nil))
	for id, key := range map[string]string{"new": "a.new", "no": "b.no"} {
		must(t, ch.PublishWithContext(context.Background(), "x", key, false, false, amqp.Publishing{DeliveryMode: 2, MessageId: id}))
	}
	seen := map[string]bool{}
	last := ""
	for {
		d, ok, err := ch.Get("q", true)
		must(t, err)
		if !ok {
			break
		}
		last = d.MessageId
		if seen[last] {
			t.Errorf("message %s twice", last)
		}
		seen[last] = true
	}
	for i := range 500 {
		id := fmt.Sprint(i)
		transient := i%10 == 9
		switch {
		case transient && seen[id]:
			t.Errorf("transient message %s survived", id)
		case !transient && i >= 10 && !seen[id]:
			t.Errorf("message %s is lost", id)
		case acked && i < 10 && seen[id]:
			t.Errorf("message %s was acknowledged before an orderly shutdown and is back", id)
		}
	}
	if last != "new" || seen["no"] {
		t.Errorf("bindings are not as they were: last %q, unbound key %v", last, seen["no"])
	}
}
