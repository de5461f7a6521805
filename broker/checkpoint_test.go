package broker_test

import (
	"fmt"
	"path/filepath"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestRestartFromCheckpoint fills a queue with enough that the shutdown writes a
// checkpoint, and then goes on after it: restarts see both.
func TestRestartFromCheckpoint(t *testing.T) {
	dir := t.TempDir()
	b := openAt(t, dir)
	ch := channel(t, b)
	_, err := ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-max-priority": 3})
	must(t, err)
	must(t, ch.ExchangeDeclare("x", "direct", true, false, false, false, nil))
	must(t, ch.QueueBind("q", "k", "x", false, nil))
	must(t, ch.Confirm(false))
	const n = 2000
	publish := func(ch *amqp.Channel, from, to int) {
		t.Helper()
		var last *amqp.DeferredConfirmation
		for i := from; i < to; i++ {
			p := amqp.Publishing{DeliveryMode: 2, Priority: uint8(i % 4), MessageId: fmt.Sprint(i), Body: make([]byte, 16<<10)}
			if i%5 == 0 {
				p.Expiration = "3600000"
			}
			last, err = ch.PublishWithDeferredConfirm("x", "k", false, false, p)
			must(t, err)
		}
		if !last.Wait() {
			t.Fatal("nacked")
		}
	}
	publish(ch, 0, n)
	gone := map[string]bool{}
	for range 100 {
		d, ok, err := ch.Get("q", false)
		must(t, err)
		if !ok {
			t.Fatal("empty")
		}
		must(t, d.Ack(false))
		gone[d.MessageId] = true
	}
	_, err = ch.QueueDeclarePassive("q", true, false, false, false, nil) // the acks have arrived
	must(t, err)
	shutdown(t, b)
	if found, _ := filepath.Glob(filepath.Join(dir, "ckpt-*")); len(found) != 1 {
		t.Fatalf("checkpoints: %v, want one", found)
	}

	for round := range 3 {
		b = openAt(t, dir)
		ch = channel(t, b)
		q, err := ch.QueueDeclarePassive("q", true, false, false, false, nil)
		must(t, err)
		if want := n - 100 + 10*round; q.Messages != want {
			t.Fatalf("round %d: %d messages, want %d", round, q.Messages, want)
		}
		must(t, ch.Confirm(false))
		publish(ch, n+10*round, n+10*round+10)
		if round%2 == 0 {
			b.Faults().Crash()
		} else {
			shutdown(t, b)
		}
	}
	b = openAt(t, dir)
	ch = channel(t, b)
	lastOf := map[uint8]int{}
	seen := 0
	for {
		d, ok, err := ch.Get("q", true)
		must(t, err)
		if !ok {
			break
		}
		var i int
		fmt.Sscan(d.MessageId, &i)
		if gone[d.MessageId] || len(d.Body) != 16<<10 {
			t.Fatalf("message %s: acknowledged %v, %d bytes", d.MessageId, gone[d.MessageId], len(d.Body))
		}
		if last, ok := lastOf[d.Priority]; ok && i <= last {
			t.Fatalf("message %d of priority %d after %d", i, d.Priority, last)
		}
		lastOf[d.Priority] = i
		seen++
	}
	if want := n - 100 + 30; seen != want {
		t.Fatalf("%d messages, want %d", seen, want)
	}
	shutdown(t, b)
}
