package reliable_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

// A namespace has a delay network and dead letters of its own, and leaves the usual
// ones alone.
func TestNamespace(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b, reliable.Config{Namespace: "stage.two"})
	topo, err := c.Topology(orders)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range topo.Exchanges {
		if !strings.HasPrefix(e.Name, "stage.two.wrn.v1.") {
			t.Errorf("exchange %s", e.Name)
		}
	}
	var seen claimtest.Log[reliable.Delivery]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[string]) error {
		seen.Add(*m.Delivery)
		if m.Attempt == 1 {
			return errors.New("once more")
		}
		return reliable.Permanent(errors.New("no"))
	}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(time.Second)}))
	p := publisher[string](t, c, reliable.ToQueue(orders))
	if err := p.Publish(within(t, patience), "later", reliable.After(time.Minute)); err != nil {
		t.Fatal(err)
	}
	until(t, "it is a dead letter", func() bool {
		b.Clock.Advance(time.Second)
		letters, _ := claimtest.Scan(c.DeadLetters(orders), reliable.Filter{})
		return len(letters) == 1
	})
	for _, d := range seen.All() {
		if d.Exchange != "" || d.Key != "orders" {
			t.Errorf("attempt %d: published to %q with %q", d.Attempt, d.Exchange, d.Key)
		}
	}
	// One whose queue is gone.
	gone := reliable.Queue{Name: "gone"}
	if err := publisher[string](t, c, reliable.ToQueue(gone)).Publish(within(t, patience), "later", reliable.After(time.Second)); err != nil {
		t.Fatal(err)
	}
	ch := plain(t, b)
	if _, err := ch.QueueDelete("gone", false, false, false); err != nil {
		t.Fatal(err)
	}
	var lost []reliable.DeadLetter
	until(t, "it is lost", func() bool {
		b.Clock.Advance(time.Second)
		lost, _ = claimtest.Scan(c.Lost(), reliable.Filter{})
		return len(lost) == 1
	})
	if lost[0].Queue != "gone" || lost[0].Reason != reliable.ReasonNoQueue || lost[0].Exchange != "" {
		t.Errorf("%+v", lost[0])
	}
	var refused *amqp.Error
	if err := ch.ExchangeDeclarePassive("wrn.v1.dlx", "direct", true, false, false, false, nil); !errors.As(err, &refused) || refused.Code != amqp.NotFound {
		t.Errorf("the usual network: %v", err)
	}
}

func TestNamespaceRefused(t *testing.T) {
	for _, name := range []string{"amq.own", strings.Repeat("n", 201)} {
		_, err := reliable.Open(within(t, patience), reliable.Via(brokertest.New(t)), reliable.Config{Namespace: name})
		if err == nil || !strings.Contains(err.Error(), "Config.Namespace") {
			t.Errorf("%.10s…: %v", name, err)
		}
	}
}

// A passive client declares nothing, says who has to, and works once that was done.
func TestPassive(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b, reliable.Config{Passive: true})
	done := make(chan string, 1)
	handle := func(ctx context.Context, m *reliable.Message[string]) error { done <- m.Body; return nil }
	_, err := reliable.Consume(within(t, patience), c, orders, handle)
	var refused *amqp.Error
	if !errors.As(err, &refused) || refused.Code != amqp.NotFound || !strings.Contains(err.Error(), "Config.Passive") {
		t.Fatalf("without a topology: %v", err)
	}
	other := open(t, b)
	topo, err := other.Topology(orders)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Declare(within(t, patience), topo); err != nil {
		t.Fatal(err)
	}
	consume(t, c, orders, handle)
	if err := publisher[string](t, c, reliable.ToQueue(orders)).Publish(within(t, patience), "hello", reliable.After(reliable.DelayUnit)); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != "hello" {
		t.Errorf("%q", got)
	}
}
