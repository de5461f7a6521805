package reliable_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
)

func TestMain(m *testing.M) {
	childProcess()
	goleak.VerifyTestMain(m)
}

// patience bounds what a test waits for. It is far more than anything takes.
const patience = 20 * time.Second

type order struct {
	ID int `json:"id"`
}

// within is a context for a call that has to end.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// open opens a client that connects again quickly, and closes it with the test.
func open(t testing.TB, b reliable.Dialer, config ...reliable.Config) *reliable.Client {
	t.Helper()
	c := reliable.Config{}
	if len(config) > 0 {
		c = config[0]
	}
	c.MinPause, c.MaxPause = time.Millisecond, 20*time.Millisecond
	if testing.Verbose() && c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	client, err := reliable.Open(within(t, patience), reliable.Via(b), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		client.Close(ctx) // what is unsettled is the test's intention
	})
	return client
}

func publisher[T any](t testing.TB, c *reliable.Client, to reliable.Route, options ...reliable.PublisherOption) *reliable.Publisher[T] {
	t.Helper()
	p, err := reliable.NewPublisher[T](within(t, patience), c, to, options...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// plain is a connection of the official client, to look at the broker from outside.
func plain(t testing.TB, b *brokertest.Broker) *amqp.Channel {
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

// drain takes all messages of a queue.
func drain(t testing.TB, ch *amqp.Channel, queue string) (got []amqp.Delivery) {
	t.Helper()
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return got
		}
		got = append(got, d)
	}
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-time.After(time.Millisecond)
	}
}

func wantKind(t testing.TB, err error, kind error) *reliable.PublishError {
	t.Helper()
	var details *reliable.PublishError
	if !errors.Is(err, kind) || !errors.As(err, &details) {
		t.Fatalf("error is %v, expected a PublishError that is %q", err, kind)
	}
	return details
}

// publishPlain publishes without a message id, as foreign programs do.
func publishPlain(t testing.TB, ch *amqp.Channel, queue, body string) {
	t.Helper()
	if err := ch.PublishWithContext(t.Context(), "", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}
