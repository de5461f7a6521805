package reliabletest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/reliabletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within is a context for a call that has to end.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// handled collects what a handler saw.
type handled struct {
	mu   sync.Mutex
	list []reliable.Delivery
}

func (h *handled) all() []reliable.Delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

// consume handles orders by what next says about the n-th call, from 1.
func consume(t *testing.T, b *reliabletest.Broker, next func(n int) error, options ...reliable.ConsumeOption) *handled {
	t.Helper()
	h := new(handled)
	_, err := reliable.Consume(within(t), b.Client(), orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = append(h.list, *m.Delivery)
		return next(len(h.list))
	}, options...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func fine(int) error { return nil }

func TestPointsOfCuts(t *testing.T) {
	failing := func(n int) error {
		if n == 1 {
			return errors.New("once more")
		}
		return nil
	}
	for _, c := range []struct {
		point       reliabletest.Point
		next        func(int) error
		calls       int
		redelivered bool // the last call
	}{
		{reliabletest.BeforeDelivery, fine, 1, true},
		{reliabletest.BeforeAck, fine, 2, true},
		// The copy for the retry is what is published.
		{reliabletest.BeforePublish, failing, 2, false},
	} {
		t.Run(c.point.String(), func(t *testing.T) {
			b := reliabletest.New(t)
			h := consume(t, b, c.next, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(time.Minute)}))
			cut := b.CutAt(c.point)
			reliabletest.Publish(b, orders, Order{1})
			b.Advance(time.Hour)
			calls := h.all()
			if !cut.Happened() || len(calls) != c.calls || calls[len(calls)-1].Redelivered != c.redelivered {
				t.Errorf("happened: %v, calls: %+v", cut.Happened(), calls)
			}
		})
	}
}

// A confirm that is lost makes a message arrive twice; a publish that is lost does not.
func TestCutPublisher(t *testing.T) {
	for point, arrived := range map[reliabletest.Point]int{reliabletest.BeforeConfirm: 2, reliabletest.BeforePublish: 1} {
		b := reliabletest.New(t)
		p, err := reliable.NewPublisher[Order](within(t), b.Client(), reliable.ToQueue(orders))
		if err != nil {
			t.Fatal(err)
		}
		cut := b.CutAt(point)
		if err := p.Publish(within(t), Order{1}); err != nil || !cut.Happened() {
			t.Fatal(err, cut.Happened())
		}
		reliabletest.Expect(t, b.Published(), Order{1})
		if sent := b.Published()[0].Sent; point == reliabletest.BeforeConfirm && sent != 2 {
			t.Errorf("%v: sent %d times", point, sent)
		}
		h := consume(t, b, fine)
		b.Settle()
		if n := len(h.all()); n != arrived {
			t.Errorf("%v: %d messages arrived", point, n)
		}
	}
}

func TestFaultThatIsTakenBack(t *testing.T) {
	b := reliabletest.New(t)
	h := consume(t, b, fine)
	cut := b.CutAt(reliabletest.BeforeAck)
	if cut.Cancel() {
		t.Error("it has happened")
	}
	reliabletest.Publish(b, orders, Order{1})
	b.Settle()
	if len(h.all()) != 1 || cut.Happened() {
		t.Error("it was not taken back")
	}
}

func TestCrashKeepsEverything(t *testing.T) {
	b := reliabletest.New(t)
	h := consume(t, b, func(n int) error {
		if n <= 20 {
			return errors.New("not yet")
		}
		return nil
	}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(time.Hour)}))
	for i := range 20 {
		reliabletest.Publish(b, orders, Order{i})
	}
	b.Settle()
	b.CrashAndRestart()
	b.ExpectWaiting(20)
	b.Advance(2 * time.Hour)
	b.ExpectWaiting(0)
	b.ExpectDeadLetters(orders)
	seen := map[string]bool{}
	for _, d := range h.all() {
		if d.Attempt == 2 {
			seen[d.ID] = true
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d of 20 came again", len(seen))
	}
}

func TestLeasesFollowTheClock(t *testing.T) {
	b := reliabletest.New(t)
	store := b.Store()
	// Somebody took the message, and died.
	life := dedup.Lifetimes{Lease: time.Minute, Keep: time.Hour}
	if _, err := store.Begin(within(t), dedup.Key{Consumer: "test", ID: "one"}, dedup.Attempt{Number: 1}, life); err != nil {
		t.Fatal(err)
	}
	h := consume(t, b, fine, reliable.Idempotent("test", store))
	reliabletest.Publish(b, orders, Order{1}, reliable.ID("one"))
	b.Advance(59 * time.Second)
	if len(h.all()) != 0 {
		t.Error("the message was handled while its lease was held")
	}
	b.Advance(time.Minute)
	if n := len(h.all()); n != 1 {
		t.Errorf("after the lease the message was handled %d times", n)
	}
}

func TestBlockedAndHeld(t *testing.T) {
	b := reliabletest.New(t)
	c := b.Client()
	p, err := reliable.NewPublisher[Order](within(t), c, reliable.ToQueue(orders))
	if err != nil {
		t.Fatal(err)
	}
	b.Block()
	if _, err := p.PublishAsync(within(t), Order{1}); err != nil { // waits at the broker
		t.Fatal(err)
	}
	b.WaitFor("the block", func() bool { return c.Health().Publish.Blocked })
	ctx, cancel := context.WithTimeout(within(t), 10*time.Millisecond)
	defer cancel()
	if err := p.Publish(ctx, Order{2}); !errors.Is(err, reliable.ErrBlocked) {
		t.Errorf("%v", err)
	}
	b.Unblock()
	if err := p.Publish(within(t), Order{3}); err != nil {
		t.Error(err)
	}
	b.HoldConfirms()
	r, err := p.PublishAsync(within(t), Order{4})
	if err != nil {
		t.Fatal(err)
	}
	reliabletest.Expect(t, b.Published(), Order{1}, Order{3})
	b.ReleaseConfirms()
	b.Settle()
	if err := r.Wait(within(t)); err != nil {
		t.Error(err)
	}
	reliabletest.Expect(t, b.Published(), Order{1}, Order{3}, Order{4})
}

func TestPublished(t *testing.T) {
	b := reliabletest.New(t)
	c := b.Client()
	events := reliable.Exchange{Name: "events", Kind: "topic"}
	p, err := reliable.NewPublisher[Order](within(t), c, reliable.ToExchange(events, "order.new"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(within(t), Order{1}); !errors.Is(err, reliable.ErrUnroutable) {
		t.Fatal(err)
	}
	late, err := reliable.NewPublisher[Order](within(t), c, reliable.ToQueue(orders))
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Publish(within(t), Order{2}, reliable.After(90*time.Second), reliable.ID("two"), reliable.Header("trace", "x")); err != nil {
		t.Fatal(err)
	}
	list := b.Published()
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	m := list[0]
	if m.ID != "two" || m.Exchange != "" || m.Key != "orders" || m.Delay != 90*time.Second || m.Sent != 1 || !m.Persistent ||
		m.Type != "Order" || m.ContentType != "application/json" || m.Headers["trace"] != "x" || m.Published.IsZero() {
		t.Errorf("%+v", m)
	}
	b.ExpectWaiting(1)
	if got := b.PublishedToExchange("events"); len(got) != 0 {
		t.Errorf("an unroutable message: %+v", got)
	}
}

// A plain client is heard, too, also with bodies of many frames.
func TestPlainClient(t *testing.T) {
	b := reliabletest.New(t)
	conn, err := amqp.DialConfig("amqp://guest:guest@test/", amqp.Config{Dial: b.Dial})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("orders", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	bodies := []string{"", strings.Repeat("x", 500_000), "small"}
	for _, body := range bodies {
		if err := ch.PublishWithContext(t.Context(), "", "orders", true, false, amqp.Publishing{Body: []byte(body),
			Headers: amqp.Table{"at": time.Unix(5, 0), "list": []any{int32(1), amqp.Table{"a": "b"}}}}); err != nil {
			t.Fatal(err)
		}
	}
	b.Settle()
	reliabletest.Expect(t, b.PublishedTo(orders), bodies...)
	if h := fmt.Sprint(b.Published()[0].Headers["list"]); h != "[1 map[a:b]]" {
		t.Error(h)
	}
}

func TestComplaints(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(*exampleTB)
		says []string
	}{
		"a handler that hangs": {func(t *exampleTB) {
			b := reliabletest.New(t)
			b.Patience = 50 * time.Millisecond
			_, err := reliable.Consume(context.Background(), b.Client(), orders, func(ctx context.Context, m *reliable.Message[Order]) error {
				<-ctx.Done()
				return ctx.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
			reliabletest.Publish(b, orders, Order{1})
			b.Settle()
		}, []string{`queue "orders" has 0 messages that wait and 1 that handlers have not settled`}},
		"a condition that does not hold": {func(t *exampleTB) {
			b := reliabletest.New(t)
			b.Patience = time.Millisecond
			b.WaitFor("the end of days", func() bool { return false })
		}, []string{"waited 1ms for the end of days"}},
		"confirms that are held": {func(t *exampleTB) {
			b := reliabletest.New(t)
			b.Patience = 50 * time.Millisecond
			p, err := reliable.NewPublisher[Order](context.Background(), b.Client(), reliable.ToQueue(orders))
			if err != nil {
				t.Fatal(err)
			}
			b.HoldConfirms()
			if _, err := p.PublishAsync(context.Background(), Order{1}); err != nil {
				t.Fatal(err)
			}
			b.WaitFor("the publish", func() bool { return len(b.DeadLetters(orders)) == 0 })
			b.Settle()
		}, []string{"1 published messages are not confirmed"}},
		"another dead letter": {func(t *exampleTB) {
			b := reliabletest.New(t)
			_, err := reliable.Consume(context.Background(), b.Client(), orders, func(ctx context.Context, m *reliable.Message[Order]) error {
				return reliable.Permanent(errors.New("closed shop"))
			})
			if err != nil {
				t.Fatal(err)
			}
			reliabletest.Publish(b, orders, Order{1}, reliable.ID("first"))
			b.Settle()
			b.ExpectDeadLetters(orders, reliabletest.Dead{ID: "first", Reason: reliable.ReasonAttempts, Error: "closed"}, reliabletest.Dead{})
		}, []string{`- id first, reason attempts, error with "closed"`, "- any dead letter", `+ first: permanent after 1 attempts, "permanent: closed shop", body {"ID":1}`}},
		"messages in another order": {func(t *exampleTB) {
			b := reliabletest.New(t)
			p, err := reliable.NewPublisher[string](context.Background(), b.Client(), reliable.ToQueue(orders))
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range []string{"b", "a"} {
				if err := p.Publish(context.Background(), body); err != nil {
					t.Fatal(err)
				}
			}
			reliabletest.ExpectInAnyOrder(t, b.Published(), "a", "b") // fine
			reliabletest.Expect(t, b.Published(), "a", "b")
		}, []string{"- a\n  b\n+ a"}},
		"time that goes back":  {func(t *exampleTB) { reliabletest.New(t).Advance(-1) }, []string{"does not go back"}},
		"a frame that is none": {func(t *exampleTB) { reliabletest.New(t).CutAtFrame(0) }, []string{"count from 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			said := complaint(c.f)
			for _, want := range c.says {
				if !strings.Contains(said, want) {
					t.Errorf("it says\n%s\nand not\n%s", said, want)
				}
			}
		})
	}
}
