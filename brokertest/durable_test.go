package brokertest_test

import (
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/brokertest"
)

// dialURL connects over TCP, to an address that was asked for before.
func dialURL(t *testing.T, url string) (*amqp.Connection, *amqp.Channel) {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return conn, ch
}

func confirmed(t *testing.T, ch *amqp.Channel, queue, body string) {
	t.Helper()
	c, err := ch.PublishWithDeferredConfirm("", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Wait() {
		t.Fatalf("%s is nacked", body)
	}
}

func durableQueue(t *testing.T, ch *amqp.Channel, name string) {
	t.Helper()
	if _, err := ch.QueueDeclare(name, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
}

// TestCrashAndRestart crashes several times: what was confirmed is there, under
// the same address and the same Dial.
func TestCrashAndRestart(t *testing.T) {
	for _, where := range []string{"memory", "directory"} {
		t.Run(where, func(t *testing.T) {
			var b *brokertest.Broker
			if where == "memory" {
				b = brokertest.NewDurable(t)
			} else {
				b = brokertest.New(t, broker.Config{Dir: t.TempDir()})
			}
			url, dial := b.URL(), b.Dial
			for round := range 4 {
				conn, ch := dialURL(t, url)
				durableQueue(t, ch, "q")
				for i := range 10 {
					confirmed(t, ch, "q", fmt.Sprint(round, " ", i))
				}
				gone := conn.NotifyClose(make(chan *amqp.Error, 1))
				b.CrashAndRestart()
				select {
				case <-gone:
				case <-time.After(10 * time.Second):
					t.Fatal("the client does not notice the crash")
				}
			}
			conn, err := amqp.DialConfig("amqp://guest:guest@anywhere/", amqp.Config{Dial: dial})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ch, err := conn.Channel()
			if err != nil {
				t.Fatal(err)
			}
			for i := range 40 {
				d, ok, err := ch.Get("q", true)
				if want := fmt.Sprint(i/10, " ", i%10); err != nil || !ok || string(d.Body) != want {
					t.Fatalf("got %q, %t, %v; want %q", d.Body, ok, err, want)
				}
			}
		})
	}
}

// TestCrashKeepsWhatWasDelivered: a message that was out comes again, marked.
func TestCrashKeepsWhatWasDelivered(t *testing.T) {
	b := brokertest.NewDurable(t)
	_, ch := connect(t, b)
	durableQueue(t, ch, "q")
	confirmed(t, ch, "q", "first")
	if d, ok, err := ch.Get("q", false); err != nil || !ok || d.Redelivered {
		t.Fatal(d.Redelivered, ok, err)
	}
	confirmed(t, ch, "q", "second") // the delivery is on the disk with it
	b.CrashAndRestart()
	_, ch = connect(t, b)
	d, ok, err := ch.Get("q", true)
	if err != nil || !ok || string(d.Body) != "first" || !d.Redelivered {
		t.Errorf("got %q, redelivered %t, %t, %v", d.Body, d.Redelivered, ok, err)
	}
}

// TestFullDisk fills the disk: publishers are blocked and told so, consumers go
// on, and after it is freed everything goes on within a second.
func TestFullDisk(t *testing.T) {
	b := brokertest.NewDurable(t)
	publisher, ch := connect(t, b)
	durableQueue(t, ch, "q")
	confirmed(t, ch, "q", "before")
	blocked := publisher.NotifyBlocked(make(chan amqp.Blocking, 2))

	b.FillDisk()
	during, err := ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{DeliveryMode: 2, Body: []byte("during")})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case x := <-blocked:
		if !x.Active || x.Reason != "low on disk" {
			t.Errorf("blocked: %+v", x)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the publisher is not blocked")
	}
	_, consumer := connect(t, b)
	if d, ok, err := consumer.Get("q", false); err != nil || !ok || string(d.Body) != "before" || d.Ack(false) != nil {
		t.Errorf("while the disk is full: %q, %t, %v", d.Body, ok, err)
	}
	b.FreeDisk()
	freed := time.Now()
	select {
	case x := <-blocked:
		if x.Active || time.Since(freed) > time.Second {
			t.Errorf("%s after the disk is freed: %+v", time.Since(freed), x)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the publisher stays blocked")
	}
	if !during.Wait() {
		t.Error("what was published meanwhile is nacked")
	}
	confirmed(t, ch, "q", "after")
	if err := b.Err(); err != nil {
		t.Error(err)
	}
}
