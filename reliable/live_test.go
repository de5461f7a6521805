package reliable_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

// TestLive goes through the delivery semantics at real brokers:
//
//	WARREN_RELIABLE_URL=amqp://guest:guest@127.0.0.1:5674/ go test ./reliable -run TestLive
func TestLive(t *testing.T) {
	url := os.Getenv("WARREN_RELIABLE_URL")
	if url == "" {
		t.Skip("WARREN_RELIABLE_URL names no broker")
	}
	for _, kind := range []reliable.QueueType{reliable.Auto, reliable.Classic} {
		t.Run(kind.String(), func(t *testing.T) { live(t, url, kind) })
	}
}

func live(t *testing.T, url string, kind reliable.QueueType) {
	config := reliable.Config{Queues: kind}
	if testing.Verbose() {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	c, err := reliable.Open(within(t, patience), reliable.ToURL(url), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(within(t, patience))
	t.Log(c.Health().Server)
	q := reliable.Queue{Name: fmt.Sprintf("live.%s.%d", kind, time.Now().UnixNano())}
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ch.QueueDelete(q.Name, false, false, false)
		ch.QueueDelete(q.DeadLetterQueue(), false, false, false)
	}()
	type event struct {
		at      time.Time
		id      int
		attempt int
		raw     *reliable.Delivery
	}
	var seen log[event]
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		seen.add(event{time.Now(), m.Body.ID, m.Attempt, m.Delivery})
		switch {
		case m.Body.ID == 1 && m.Attempt < 3:
			return errors.New("try again")
		case m.Body.ID == 2:
			return reliable.Permanent(errors.New("never"))
		case m.Body.ID == 3 && m.Attempt == 1:
			return reliable.RetryAfter(errors.New("later"), 1100*time.Millisecond)
		}
		return nil
	}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(500 * time.Millisecond)}), reliable.Concurrency(4))
	p := publisher[order](t, c, reliable.ToQueue(q))
	begun := time.Now()
	publishAll(t, p, 100)
	if err := p.Publish(within(t, patience), order{1000}, reliable.After(750*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	until(t, "all are settled", func() bool { return seen.len() == 104 && count(t, ch, q.DeadLetterQueue()) == 1 })
	for _, e := range seen.all() {
		switch {
		case e.id == 1000:
			t.Logf("a delay of 750ms took %v", e.at.Sub(begun))
			if e.at.Sub(begun) < 750*time.Millisecond || e.raw.Exchange != "" || e.raw.Key != q.Name {
				t.Errorf("%+v", e)
			}
		case e.attempt > 1:
			t.Logf("attempt %d of %d after %v", e.attempt, e.id, e.at.Sub(begun))
			if e.raw.Key != q.Name || e.raw.LastError == "" {
				t.Errorf("%+v", e.raw)
			}
		}
	}
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, ch, q.Name); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	liveDrains(t, c, q, ch)
	liveScans(t, c, q, ch)
}

// liveDrains restarts a consumer again and again with messages on hand.
func liveDrains(t *testing.T, c *reliable.Client, q reliable.Queue, ch *amqp.Channel) {
	const messages = 60
	for round := range 25 {
		var begun atomic.Int32
		consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
			begun.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}, reliable.Concurrency(10), reliable.Prefetch(messages), reliable.DrainTimeout(time.Millisecond))
		if round == 0 {
			publishAll(t, publisher[order](t, c, reliable.ToQueue(q)), messages)
		}
		until(t, "the handlers are busy", func() bool { return begun.Load() == 10 })
		if err := consumer.Stop(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, ch, q.DeadLetterQueue()); n != 1 { // from before
		t.Errorf("drains have made %d dead letters", n-1)
	}
	var attempts log[int]
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		attempts.add(m.Attempt)
		return reliable.Permanent(errors.New("to be scanned"))
	})
	until(t, "all are dead letters", func() bool {
		return attempts.len() >= messages && count(t, ch, q.DeadLetterQueue()) >= messages+1
	})
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	// RabbitMQ can forget the last acknowledgements of a channel that is closed.
	if n := attempts.len(); n > messages+messages/4 {
		t.Errorf("%d messages have become %d", messages, n)
	}
	for _, n := range attempts.all() {
		if n != 1 {
			t.Fatalf("drains have counted: attempts %v", attempts.all())
		}
	}
}

// liveScans looks at the dead letters 50 times, and then takes them back.
func liveScans(t *testing.T, c *reliable.Client, q reliable.Queue, ch *amqp.Channel) {
	ids := func() (ids []string) {
		list, err := scan(c.DeadLetters(q), reliable.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			ids = append(ids, l.ID)
		}
		return ids
	}
	first := ids()
	for i := range 50 {
		if again := ids(); !slices.Equal(first, again) {
			at := 0
			for at < min(len(first), len(again)) && first[at] == again[at] {
				at++
			}
			t.Fatalf("scan %d found %d, the first one %d; they differ from %d on:\n%v\n%v", i, len(again), len(first), at, again[at:], first[at:])
		}
	}
	r, err := c.DeadLetters(q).Redrive(within(t, patience), reliable.Filter{}, reliable.RedriveOptions{})
	if err != nil || r.Done+r.Duplicates != len(first) || r.Failed != 0 {
		t.Errorf("%+v %v", r, err)
	}
	until(t, "all came back", func() bool { return count(t, ch, q.Name) == r.Done })
}
