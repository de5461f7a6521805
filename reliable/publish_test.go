package reliable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
)

var orders = reliable.Queue{Name: "orders"}

func TestPublish(t *testing.T) {
	b := brokertest.New(t)
	p := publisher[order](t, open(t, b), reliable.ToQueue(orders))
	before := time.Now().Add(-time.Second)
	if err := p.Publish(within(t, patience), order{7}, reliable.Header("tenant", "a"), reliable.CorrelationID("c")); err != nil {
		t.Fatal(err)
	}
	got := drain(t, plain(t, b), "orders")
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	d := got[0]
	var o order
	if err := json.Unmarshal(d.Body, &o); err != nil || o.ID != 7 {
		t.Errorf("body %s: %v", d.Body, err)
	}
	if d.DeliveryMode != amqp.Persistent || d.ContentType != "application/json" || len(d.MessageId) != 36 || d.MessageId[14] != '7' ||
		d.Type != "order" || d.Timestamp.Before(before) || d.Headers["tenant"] != "a" || d.CorrelationId != "c" {
		t.Errorf("properties: %+v", d)
	}
}

func TestPublishKinds(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	if err := publisher[[]byte](t, c, reliable.ToQueue(orders)).Publish(within(t, patience), []byte{0, 1}, reliable.ID("id-1")); err != nil {
		t.Fatal(err)
	}
	if err := publisher[string](t, c, reliable.ToQueue(orders), reliable.MessageType("note")).Publish(within(t, patience), "hello"); err != nil {
		t.Fatal(err)
	}
	got := drain(t, plain(t, b), "orders")
	if len(got) != 2 || string(got[0].Body) != "\x00\x01" || got[0].MessageId != "id-1" || got[0].ContentType != "application/octet-stream" ||
		string(got[1].Body) != "hello" || got[1].Type != "note" {
		t.Fatalf("%+v", got)
	}
}

func TestPublishToExchange(t *testing.T) {
	b := brokertest.New(t)
	events := reliable.Exchange{Name: "events", Kind: "topic"}
	p := publisher[order](t, open(t, b), reliable.ToExchange(events, "order.other"),
		reliable.KeyFunc(func(o order) string { return fmt.Sprintf("order.%d", o.ID) }))
	details := wantKind(t, p.Publish(within(t, patience), order{1}), reliable.ErrUnroutable)
	if details.Exchange != "events" || details.Key != "order.1" || len(details.ID) != 36 || !details.Sent {
		t.Errorf("%+v", details)
	}
	ch := plain(t, b)
	ch.QueueDeclare("q", true, false, false, false, nil)
	if err := ch.QueueBind("q", "order.2", "events", false, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(within(t, patience), order{2}); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(within(t, patience), order{1}, reliable.Key("order.2")); err != nil {
		t.Fatal(err)
	}
	wantKind(t, p.Publish(within(t, patience), order{3}), reliable.ErrUnroutable)
	if got := drain(t, ch, "q"); len(got) != 2 {
		t.Fatalf("%d messages", len(got))
	}
}

// A message to an exchange that does not exist makes the server close the channel.
// It fails, and the others on the channel do not.
func TestOnlyTheCulpritFails(t *testing.T) {
	b := brokertest.New(t)
	ch := plain(t, b)
	p := publisher[order](t, open(t, b), reliable.ToExchange(reliable.Exchange{Name: "later"}, "k"))
	wantKind(t, p.Publish(within(t, patience), order{1}), reliable.ErrUnroutable)
	if err := ch.ExchangeDeclare("later", "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	ch.QueueDeclare("q", true, false, false, false, nil)
	ch.QueueBind("q", "", "later", false, nil)
	if err := p.Publish(within(t, patience), order{2}); err != nil {
		t.Fatal(err)
	}
	// Too large for the server, which closes the channel: the neighbours survive.
	small := brokertest.New(t, broker.Config{MaxMessageBytes: 1000})
	q := publisher[string](t, open(t, small), reliable.ToQueue(orders))
	var receipts []*reliable.Receipt
	for i := range 50 {
		body := fmt.Sprint(i)
		if i == 20 {
			body = strings.Repeat("x", 2000)
		}
		r, err := q.PublishAsync(within(t, patience), body)
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	for i, r := range receipts {
		err := r.Wait(within(t, patience))
		if i == 20 {
			wantKind(t, err, reliable.ErrNacked)
			var refused *amqp.Error
			if !errors.As(err, &refused) || refused.Code != amqp.PreconditionFailed {
				t.Errorf("no reason of the server's in %v", err)
			}
		} else if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	seen := map[string]bool{}
	for _, d := range drain(t, plain(t, small), "orders") {
		seen[string(d.Body)] = true
	}
	if len(seen) != 49 {
		t.Errorf("%d messages arrived", len(seen))
	}
}

func TestNacked(t *testing.T) {
	b := brokertest.New(t)
	full := reliable.Queue{Name: "full", Arguments: amqp.Table{"x-max-length": int64(1)}}
	p := publisher[order](t, open(t, b), reliable.ToQueue(full))
	if err := p.Publish(within(t, patience), order{1}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, p.Publish(within(t, patience), order{2}), reliable.ErrNacked)
}

func TestUnconfirmed(t *testing.T) {
	b := brokertest.New(t)
	p := publisher[order](t, open(t, b), reliable.ToQueue(orders))
	b.HoldConfirms()
	begun := time.Now()
	details := wantKind(t, p.Publish(within(t, 100*time.Millisecond), order{1}), reliable.ErrUnconfirmed)
	if late := time.Since(begun) - 100*time.Millisecond; late > 10*50*time.Millisecond {
		t.Errorf("%v after the deadline", late)
	}
	if !details.Sent || !errors.Is(details, context.DeadlineExceeded) {
		t.Errorf("%+v", details)
	}
	r, err := p.PublishAsync(within(t, patience), order{2})
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, r.Wait(within(t, 10*time.Millisecond)), reliable.ErrUnconfirmed)
	if r.Err() != nil {
		t.Errorf("the outcome is known before the confirm: %v", r.Err())
	}
	b.ReleaseConfirms()
	if err := r.Wait(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestBlocked(t *testing.T) {
	b := brokertest.NewDurable(t)
	c := open(t, b)
	p := publisher[order](t, c, reliable.ToQueue(orders))
	b.FillDisk()
	// The broker tells a connection when it publishes; what it published waits there.
	first, err := p.PublishAsync(within(t, patience), order{0})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the client knows that the broker blocks", func() bool { return c.Ready() != nil })
	begun := time.Now()
	details := wantKind(t, p.Publish(within(t, 100*time.Millisecond), order{1}), reliable.ErrBlocked)
	if late := time.Since(begun) - 100*time.Millisecond; late > 10*50*time.Millisecond {
		t.Errorf("%v after the deadline", late)
	}
	if details.Sent {
		t.Error("it is said to have been sent")
	}
	r, err := p.PublishAsync(within(t, patience), order{2})
	if err != nil {
		t.Fatal(err)
	}
	b.FreeDisk()
	if err := r.Wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, plain(t, b), "orders"); len(got) != 2 || string(got[1].Body) != `{"id":2}` {
		t.Fatalf("a message that was ErrBlocked was sent: %v", got)
	}
}

// What is unconfirmed when the connection is lost is sent again with the same id.
func TestSentAgain(t *testing.T) {
	b := brokertest.New(t)
	p := publisher[order](t, open(t, b), reliable.ToQueue(orders))
	b.HoldConfirms()
	var ids []string
	var receipts []*reliable.Receipt
	for i := range 100 {
		r, err := p.PublishAsync(within(t, patience), order{i})
		if err != nil {
			t.Fatal(err)
		}
		receipts, ids = append(receipts, r), append(ids, r.ID())
	}
	ch := plain(t, b)
	until(t, "all are in the queue", func() bool {
		q, err := ch.QueueDeclarePassive("orders", true, false, false, false, nil)
		return err == nil && q.Messages == 100
	})
	b.CutConnections()
	b.ReleaseConfirms()
	for i, r := range receipts {
		if err := r.Wait(within(t, patience)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	var got []string
	for _, d := range drain(t, plain(t, b), "orders") {
		got = append(got, d.MessageId)
	}
	if !slices.Equal(got, append(slices.Clone(ids), ids...)) {
		t.Fatalf("%d messages, expected each of 100 twice, in order", len(got))
	}
}

func TestCutAgainAndAgain(t *testing.T) {
	b := brokertest.New(t)
	p := publisher[order](t, open(t, b), reliable.ToQueue(orders), reliable.Window(50))
	const messages = 5000
	confirmed := map[string]bool{}
	var open []*reliable.Receipt
	for i := range messages {
		r, err := p.PublishAsync(within(t, patience), order{i})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
		if i%250 == 100 {
			b.CutConnections()
		}
	}
	for _, r := range open {
		if err := r.Wait(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		confirmed[r.ID()] = true
	}
	arrived := map[string]bool{}
	for _, d := range drain(t, plain(t, b), "orders") {
		arrived[d.MessageId] = true
	}
	for id := range confirmed {
		if !arrived[id] {
			t.Errorf("%s is confirmed and absent", id)
		}
	}
	if len(arrived) != messages {
		t.Errorf("%d of %d messages arrived", len(arrived), messages)
	}
}

func TestPublishAll(t *testing.T) {
	b := brokertest.New(t)
	p := publisher[order](t, open(t, b), reliable.ToQueue(reliable.Queue{Name: "few", Arguments: amqp.Table{"x-max-length": int64(95)}}), reliable.Window(10))
	err := p.PublishAll(within(t, patience), func(yield func(order) bool) {
		for i := range 100 {
			if !yield(order{i}) {
				return
			}
		}
	})
	var batch *reliable.BatchError
	if !errors.As(err, &batch) || len(batch.Errs) != 5 || batch.Errs[95] == nil || !errors.Is(err, reliable.ErrNacked) {
		t.Fatal(err)
	}
	if got := drain(t, plain(t, b), "few"); len(got) != 95 {
		t.Fatalf("%d messages", len(got))
	}
}

func TestClosed(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	p := publisher[order](t, c, reliable.ToQueue(orders))
	if err := c.Close(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if details := wantKind(t, p.Publish(within(t, patience), order{1}), reliable.ErrClosed); details.Sent {
		t.Error("it is said to have been sent")
	}
	if _, err := reliable.NewPublisher[order](within(t, patience), c, reliable.ToQueue(orders)); err == nil {
		t.Error("a publisher of a closed client")
	}
}

func TestPublisherClose(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	p := publisher[order](t, c, reliable.ToQueue(orders))
	r, err := p.PublishAsync(within(t, patience), order{1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, p.Publish(within(t, patience), order{2}), reliable.ErrClosed)
	if err := c.Close(within(t, patience)); err != nil {
		t.Fatal(err)
	}
}

// Close waits for confirms, and does not wait longer than its context.
func TestCloseWaits(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	p := publisher[order](t, c, reliable.ToQueue(orders))
	b.HoldConfirms()
	r, err := p.PublishAsync(within(t, patience), order{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Close: %v", err)
	}
	wantKind(t, r.Wait(within(t, patience)), reliable.ErrUnconfirmed)
}

func TestBadMessages(t *testing.T) {
	b := brokertest.New(t)
	p := publisher[order](t, open(t, b), reliable.ToQueue(orders))
	long := strings.Repeat("x", 256)
	for name, option := range map[string]reliable.PublishOption{
		"long id":        reliable.ID(long),
		"long type":      reliable.Type(long),
		"priority":       reliable.Priority(10),
		"header type":    reliable.Header("h", struct{}{}),
		"header name":    reliable.Header(long, 1),
		"nested name":    reliable.Header("t", amqp.Table{long: 1}),
		"our header":     reliable.Header("wrn-attempt", 1),
		"large headers":  reliable.Header("h", strings.Repeat("x", 100<<10)),
		"key to a queue": reliable.Key("k"),
		"long delay":     reliable.After(reliable.MaxDelay + 1),
	} {
		if err := p.Publish(within(t, patience), order{1}, option); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := p.Publish(within(t, patience), order{1}); err != nil {
		t.Fatalf("after the bad ones: %v", err)
	}
}
