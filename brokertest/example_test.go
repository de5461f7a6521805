package brokertest_test

import (
	"context"
	"fmt"
	"log"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
)

// A message waits in a queue with a time to live of one hour. The test moves
// the clock, and finds the message among the dead letters with the reason.
func Example() {
	t := new(testing.T) // stands for the t of func TestReminders(t *testing.T)
	b := brokertest.New(t)
	defer b.Shutdown(context.Background()) // a real test needs no such line

	conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: b.Dial})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		log.Fatal(err)
	}
	for name, args := range map[string]amqp.Table{
		"late": nil,
		"reminders": {
			"x-message-ttl":             int32(time.Hour / time.Millisecond),
			"x-dead-letter-exchange":    "",
			"x-dead-letter-routing-key": "late",
		},
	} {
		if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
			log.Fatal(err)
		}
	}
	if err := ch.Confirm(false); err != nil {
		log.Fatal(err)
	}
	sent, err := ch.PublishWithDeferredConfirm("", "reminders", true, false, amqp.Publishing{Body: []byte("call back")})
	if err != nil {
		log.Fatal(err)
	}
	sent.Wait() // the message is in its queue

	b.Clock.Advance(time.Hour + time.Second)

	d, ok, err := ch.Get("late", true)
	if err != nil || !ok {
		log.Fatal("nothing among the dead letters: ", err)
	}
	death := d.Headers["x-death"].([]any)[0].(amqp.Table)
	fmt.Printf("%s: %s in %s\n", d.Body, death["reason"], death["queue"])
	// Output: call back: expired in reminders
}

// While confirms are held a publisher waits, as it would for a slow disk.
func ExampleBroker_HoldConfirms() {
	t := new(testing.T) // stands for the t of the test
	b := brokertest.New(t)
	defer b.Shutdown(context.Background())

	conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: b.Dial})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ch.QueueDeclare("orders", true, false, false, false, nil); err != nil {
		log.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		log.Fatal(err)
	}
	b.HoldConfirms()
	sent, err := ch.PublishWithDeferredConfirm("", "orders", true, false, amqp.Publishing{Body: []byte("1")})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err = sent.WaitContext(ctx)
	fmt.Println("held:", err)

	b.ReleaseConfirms()
	fmt.Println("released:", sent.Wait())
	// Output:
	// held: context deadline exceeded
	// released: true
}

// A worker takes an order and the broker crashes before the worker is done: the
// order comes again, marked as redelivered.
func ExampleBroker_CrashAndRestart() {
	t := new(testing.T) // stands for the t of the test
	b := brokertest.NewDurable(t)
	defer b.Shutdown(context.Background())

	channel := func() *amqp.Channel {
		conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: b.Dial})
		if err != nil {
			log.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			log.Fatal(err)
		}
		return ch
	}
	ch := channel()
	if _, err := ch.QueueDeclare("orders", true, false, false, false, nil); err != nil {
		log.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		log.Fatal(err)
	}
	for _, body := range []string{"order 1", "order 2"} {
		sent, err := ch.PublishWithDeferredConfirm("", "orders", true, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
		if err != nil || !sent.Wait() { // from here on it survives
			log.Fatal(err)
		}
		if body == "order 1" {
			if _, _, err := ch.Get("orders", false); err != nil {
				log.Fatal(err)
			}
		}
	}

	b.CrashAndRestart()

	ch = channel()
	for range 2 {
		d, _, err := ch.Get("orders", true)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s, redelivered: %t\n", d.Body, d.Redelivered)
	}
	// Output:
	// order 1, redelivered: true
	// order 2, redelivered: false
}
