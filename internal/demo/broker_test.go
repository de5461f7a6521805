package demo

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
)

// testBroker gives a test a broker to tell the lesson on: the one AMQP_URL names, a
// RabbitMQ for instance, else a WarrenMQ of the test's own, reached in the process.
func testBroker(t *testing.T) Options {
	t.Helper()
	o := Options{URL: os.Getenv("AMQP_URL"), Out: io.Discard, limits: limits{patience: 2 * time.Second}}
	if o.URL == "" {
		b := brokertest.New(t)
		o.URL, o.Dial = defaultURL, b.Dial
	}
	return o
}

// tell runs the lesson and returns it with all it knows, for tests that look
// behind the report.
func tell(t *testing.T, ctx context.Context, o Options) (*lesson, error) {
	t.Helper()
	l, err := newLesson(o)
	if err != nil {
		t.Fatal(err)
	}
	return l, l.run(ctx)
}

// wantGone checks on a connection of its own that nothing the run had declared
// exists any more.
func wantGone(t *testing.T, o Options, n *names) {
	t.Helper()
	conn, err := amqp.DialConfig(o.URL, amqp.Config{Dial: o.Dial})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	missing := func(what, name string, probe func(ch *amqp.Channel) error) {
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		defer ch.Close()
		var e *amqp.Error
		if err := probe(ch); !asError(err, &e) || e.Code != amqp.NotFound {
			t.Errorf("%s %s: passive declare says %v, want 404", what, name, err)
		}
	}
	for _, q := range n.queues {
		missing("queue", q, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclarePassive(q, true, false, false, false, nil)
			return err
		})
	}
	for _, x := range n.exchanges {
		missing("exchange", x, func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(x, "direct", true, true, false, false, nil)
		})
	}
}

// dialTCP is what a nil Dial means.
func dialTCP(network, addr string) (net.Conn, error) { return net.Dial(network, addr) }
