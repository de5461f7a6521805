package broker_test

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestTimersOfADurableBroker: messages and queues in a data directory expire by
// timer, before a restart and after it, and a dead letter is durable again.
func TestTimersOfADurableBroker(t *testing.T) {
	dir := t.TempDir()
	b := openAt(t, dir)
	ch := channel(t, b)
	declare := func(name string, args amqp.Table) {
		t.Helper()
		_, err := ch.QueueDeclare(name, true, false, false, false, args)
		must(t, err)
	}
	declare("dead", nil)
	declare("short", amqp.Table{"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
	declare("long", amqp.Table{"x-message-ttl": 400, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
	declare("unused", amqp.Table{"x-expires": 1})
	must(t, ch.Confirm(false))
	for _, q := range []string{"short", "long"} {
		c, err := ch.PublishWithDeferredConfirm("", q, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(q)})
		must(t, err)
		if !c.Wait() {
			t.Fatal("nacked")
		}
	}
	died := func(count int) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); <-tick.C {
			q, err := ch.QueueDeclarePassive("dead", true, false, false, false, nil)
			must(t, err)
			if q.Messages == count {
				return
			}
		}
		t.Fatalf("%d messages did not die", count)
	}
	died(1)
	b.Faults().Crash()
	b = openAt(t, dir)
	ch = channel(t, b)
	died(2)
	for _, body := range []string{"short", "long"} {
		if d, ok, err := ch.Get("dead", true); err != nil || !ok || string(d.Body) != body {
			t.Errorf("got %q, %v, %v, want %q", d.Body, ok, err, body)
		}
	}
	if _, err := channel(t, b).QueueDeclarePassive("unused", true, false, false, false, nil); err == nil {
		t.Error("the queue did not expire")
	}
	shutdown(t, b)
}
