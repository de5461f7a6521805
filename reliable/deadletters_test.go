package reliable_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

// allHeaders has every type that a header may have.
var allHeaders = amqp.Table{
	"void": nil, "bool": true, "int8": int8(-8), "uint8": byte(200), "int16": int16(-300), "int32": int32(-70000),
	"int64": int64(-1) << 62, "float32": float32(1.5), "float64": 0.1, "decimal": amqp.Decimal{Scale: 2, Value: 12345},
	"string": "Grüße", "binary": "\xff\x00", "bytes": []byte{0, 1}, "time": time.Unix(1700000000, 0),
	"table": amqp.Table{"nested": []any{int32(1), "two", amqp.Table{"three": false}}},
}

// bury makes n dead letters of the queue, numbered from 0.
func bury(t *testing.T, b *brokertest.Broker, c *reliable.Client, n int, options ...reliable.PublishOption) {
	t.Helper()
	consumer := consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		return reliable.Permanent(fmt.Errorf("failure of %d", m.Body.ID))
	})
	ch := plain(t, b)
	p := publisher[order](t, c, reliable.ToQueue(orders))
	for i := range n {
		if err := p.Publish(within(t, patience), order{i}, options...); err != nil {
			t.Fatal(err)
		}
		until(t, "it is a dead letter", func() bool { return count(t, ch, "orders.dlq") == i+1 })
	}
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
}

func TestScan(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	bury(t, b, c, 20)
	d := c.DeadLetters(orders)
	first, err := claimtest.Scan(d, reliable.Filter{})
	if err != nil || len(first) != 20 {
		t.Fatalf("%d dead letters, %v", len(first), err)
	}
	l := first[3]
	if l.Queue != "orders" || l.Key != "orders" || l.Exchange != "" || l.Reason != "permanent" || l.Error != "permanent: failure of 3" ||
		l.Attempts != 1 || l.Type != "order" || string(l.Body) != `{"id":3}` || l.Headers != nil || l.Died.IsZero() || l.FirstFailed.IsZero() ||
		len(l.History) != 1 || l.History[0].Number != 1 {
		t.Errorf("%+v", l)
	}
	for i := range 50 {
		again, err := claimtest.Scan(d, reliable.Filter{})
		if err != nil || !slices.EqualFunc(first, again, func(a, b reliable.DeadLetter) bool { return a.ID == b.ID }) {
			t.Fatalf("scan %d differs: %d letters, %v", i, len(again), err)
		}
	}
	for name, f := range map[string]struct {
		filter reliable.Filter
		want   int
	}{
		"id":        {reliable.Filter{IDs: []string{l.ID}}, 1},
		"reason":    {reliable.Filter{Reason: "attempts"}, 0},
		"error":     {reliable.Filter{ErrorContains: "of 1"}, 11},
		"queue":     {reliable.Filter{Queue: "orders", Type: "order"}, 20},
		"attempts":  {reliable.Filter{MinAttempts: 2}, 0},
		"time":      {reliable.Filter{DiedAfter: first[9].Died, DiedBefore: time.Now().Add(time.Hour)}, 10},
		"predicate": {reliable.Filter{Match: func(d *reliable.DeadLetter) bool { return bytes.Contains(d.Body, []byte("7")) }}, 2},
	} {
		if got, err := claimtest.Scan(d, f.filter); err != nil || len(got) != f.want {
			t.Errorf("%s: %d letters, %v", name, len(got), err)
		}
	}
	for range d.Scan(t.Context(), reliable.Filter{}) {
		break // the others are given back all the same
	}
	if list, err := claimtest.Scan(d, reliable.Filter{}); len(list) != 20 || err != nil {
		t.Errorf("%d letters, %v", len(list), err)
	}
	if _, err := claimtest.Scan(c.DeadLettersIn("missing"), reliable.Filter{}); err == nil {
		t.Error("a queue that does not exist has dead letters")
	}
}

// The same dead letter twice, as after a connection that was lost at the wrong time.
func TestDuplicateDeadLetters(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	bury(t, b, c, 3)
	d := c.DeadLetters(orders)
	var file bytes.Buffer
	if _, err := d.Export(within(t, patience), reliable.Filter{}, &file); err != nil {
		t.Fatal(err)
	}
	exported := bytes.Clone(file.Bytes())
	if _, err := d.Import(within(t, patience), &file); err != nil {
		t.Fatal(err)
	}
	list, err := claimtest.Scan(d, reliable.Filter{})
	if err != nil || len(list) != 6 || list[2].Duplicate || !list[3].Duplicate {
		t.Fatalf("%d letters, %v", len(list), err)
	}
	for _, o := range []reliable.RedriveOptions{{DryRun: true}, {DryRun: true, Duplicates: true}, {Duplicates: true}, {}} {
		want := reliable.Report{Scanned: 6, Matched: 6, Done: 3, Duplicates: 3}
		if o.Duplicates {
			want.Done, want.Duplicates = 6, 0
		}
		o.To = "elsewhere"
		ch := plain(t, b)
		if _, err := ch.QueueDeclare("elsewhere", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		r, err := d.Redrive(within(t, patience), reliable.Filter{}, o)
		if err != nil || !reflect.DeepEqual(r, want) {
			t.Fatalf("%+v: %+v %v", o, r, err)
		}
		arrived := 0
		if !o.DryRun {
			arrived = r.Done
		}
		if n := len(drain(t, ch, "elsewhere")); n != arrived {
			t.Errorf("%+v: %d messages arrived", o, n)
		}
		left := 6 - r.Done - r.Duplicates
		if o.DryRun {
			left = 6
		}
		if n := count(t, ch, "orders.dlq"); n != left {
			t.Errorf("%+v: %d are left", o, n)
		}
		if o.Duplicates && !o.DryRun { // once more for the last round
			file.Write(exported)
			if _, err := d.Import(within(t, patience), &file); err != nil {
				t.Fatal(err)
			}
			file.Write(exported)
			if _, err := d.Import(within(t, patience), &file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRedrive(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	bury(t, b, c, 10)
	d := c.DeadLetters(orders)
	dry, err := d.Redrive(within(t, patience), reliable.Filter{ErrorContains: "of 3"}, reliable.RedriveOptions{DryRun: true})
	if err != nil || dry.Scanned != 10 || dry.Matched != 1 || dry.Done != 1 {
		t.Fatalf("%+v %v", dry, err)
	}
	begun := time.Now()
	report, err := d.Redrive(within(t, patience), reliable.Filter{}, reliable.RedriveOptions{Limit: 4, PerSecond: 100})
	if err != nil || report.Done != 4 {
		t.Fatalf("%+v %v", report, err)
	}
	if took := time.Since(begun); took < 30*time.Millisecond {
		t.Errorf("4 messages at 100 a second took %v", took)
	}
	report, err = d.Redrive(within(t, patience), reliable.Filter{}, reliable.RedriveOptions{Edit: func(l *reliable.DeadLetter) {
		if string(l.Body) == `{"id":7}` {
			panic("bang")
		}
		l.Body = []byte(`{"id":100}`)
	}})
	if err != nil || report.Done != 5 || report.Failed != 1 || len(report.Errors) != 1 {
		t.Fatalf("%+v %v", report, err)
	}
	var got claimtest.Log[*reliable.Message[order]]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error { got.Add(m); return nil })
	until(t, "they are handled", func() bool { return got.Len() == 9 })
	for i, m := range got.All() {
		if i < 4 && m.Body.ID != i || i >= 4 && m.Body.ID != 100 || m.Attempt != 1 || m.Generation != 1 || m.Key != "orders" || m.LastError != "" {
			t.Errorf("%d: %+v %+v", i, m.Body, m.Delivery)
		}
	}
	// A queue that is gone: it stays a dead letter.
	report, err = d.Redrive(within(t, patience), reliable.Filter{}, reliable.RedriveOptions{To: "missing"})
	if err != nil || report.Failed != 1 || !errors.Is(report.Errors[0], reliable.ErrUnroutable) {
		t.Fatalf("%+v %v", report, err)
	}
	if left, err := d.Purge(within(t, patience), reliable.Filter{}, reliable.PurgeOptions{DryRun: true}); left.Done != 1 || err != nil {
		t.Fatalf("%+v %v", left, err)
	}
	if left, err := d.Purge(within(t, patience), reliable.Filter{}, reliable.PurgeOptions{}); left.Done != 1 || err != nil {
		t.Fatalf("%+v %v", left, err)
	}
	if list, _ := claimtest.Scan(d, reliable.Filter{}); len(list) != 0 {
		t.Errorf("%d letters after the purge", len(list))
	}
}

// What goes to the dead letters and back is the same, byte by byte.
func TestRedriveKeepsIdentity(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	events := reliable.Exchange{Name: "events", Kind: "topic"}
	q := reliable.Queue{Name: "work", Bind: []reliable.Bind{{Exchange: events, Key: "#"}}}
	var fail atomic.Bool
	fail.Store(true)
	var first, second claimtest.Log[*reliable.Delivery]
	consume(t, c, q, func(ctx context.Context, m *reliable.Message[[]byte]) error {
		if fail.Load() {
			first.Add(m.Delivery)
			return errors.New("not now")
		}
		second.Add(m.Delivery)
		return nil
	}, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 2, Backoff: reliable.Schedule(0)}))
	p := publisher[[]byte](t, c, reliable.ToExchange(events, "a.b"))
	options := []reliable.PublishOption{reliable.CorrelationID("c"), reliable.Priority(3)}
	for name, value := range allHeaders {
		options = append(options, reliable.Header(name, value))
	}
	body := []byte{0, 255, 1}
	if err := p.Publish(within(t, patience), body, options...); err != nil {
		t.Fatal(err)
	}
	d := c.DeadLetters(q)
	var letters []reliable.DeadLetter
	until(t, "it is a dead letter", func() bool { letters, _ = claimtest.Scan(d, reliable.Filter{}); return len(letters) == 1 })
	// Also through a file, into another queue of dead letters and back.
	var file bytes.Buffer
	if r, err := d.Export(within(t, patience), reliable.Filter{}, &file); err != nil || r.Done != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if _, err := d.Purge(within(t, patience), reliable.Filter{}, reliable.PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Import(within(t, patience), &file); err != nil || r.Done != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	imported, err := claimtest.Scan(d, reliable.Filter{})
	if err != nil || len(imported) != 1 {
		t.Fatalf("%d letters, %v", len(imported), err)
	}
	if a, b := fmt.Sprintf("%+v", letters[0]), fmt.Sprintf("%+v", imported[0]); a != b || letters[0].Attempts != 2 || len(letters[0].History) != 2 {
		t.Errorf("before the export %s\n after the import %s", a, b)
	}
	fail.Store(false)
	if r, err := d.Redrive(within(t, patience), reliable.Filter{}, reliable.RedriveOptions{}); err != nil || r.Done != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	until(t, "it is handled", func() bool { return second.Len() == 1 })
	was, is := first.All()[0], second.All()[0]
	own := func(h amqp.Table) amqp.Table {
		out := amqp.Table{}
		for name, value := range h {
			if !strings.HasPrefix(name, "wrn-") {
				out[name] = value
			}
		}
		return out
	}
	if !bytes.Equal(was.Raw, is.Raw) || was.ID != is.ID || was.Key != is.Key || was.Exchange != is.Exchange || was.Type != is.Type ||
		was.ContentType != is.ContentType || was.CorrelationID != is.CorrelationID || was.Priority != is.Priority || !was.Published.Equal(is.Published) ||
		!reflect.DeepEqual(own(was.Headers), own(is.Headers)) {
		t.Errorf("was %+v\n is %+v", was, is)
	}
	if is.Attempt != 1 || is.Generation != 1 {
		t.Errorf("attempt %d, generation %d", is.Attempt, is.Generation)
	}
}

// Dead letters of the server's, and of other programs.
func TestForeignDeadLetters(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	consumer := consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error { return nil })
	consumer.Stop(within(t, patience))
	ch := plain(t, b)
	publishPlain(t, ch, "orders", "x")
	m, ok, err := ch.Get("orders", false)
	if err != nil || !ok {
		t.Fatal(err)
	}
	m.Reject(false)
	var list []reliable.DeadLetter
	until(t, "it is a dead letter", func() bool { list, _ = claimtest.Scan(c.DeadLetters(orders), reliable.Filter{}); return len(list) == 1 })
	if l := list[0]; l.Reason != "rejected" || l.Queue != "orders" || l.Key != "orders" || l.Attempts != 0 || l.Died.IsZero() {
		t.Errorf("%+v", l)
	}
	// A queue that is deleted while a message waits for it.
	p := publisher[order](t, c, reliable.ToQueue(reliable.Queue{Name: "gone"}))
	if err := p.Publish(within(t, patience), order{1}, reliable.After(250*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDelete("gone", false, false, false); err != nil {
		t.Fatal(err)
	}
	b.Clock.Advance(time.Second)
	until(t, "it is lost", func() bool { list, _ = claimtest.Scan(c.Lost(), reliable.Filter{}); return len(list) == 1 })
	if l := list[0]; l.Queue != "gone" || l.Reason != reliable.ReasonNoQueue || l.Key != "gone" || l.Exchange != "" {
		t.Errorf("%+v", l)
	}
	ch.QueueDeclare("gone", true, false, false, false, nil)
	if r, err := c.Lost().Redrive(within(t, patience), reliable.Filter{}, reliable.RedriveOptions{}); err != nil || r.Done != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if n := count(t, ch, "gone"); n != 1 {
		t.Errorf("%d messages came back", n)
	}
}

func TestImportRefuses(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	bury(t, b, c, 1)
	for _, line := range []string{"x", `{"properties":{}}`, `{"body":"a","body_base64":"YQ=="}`, `{"headers":{"a":1}}`, `{"headers":{"a":{"int8":300}}}`, `{"headers":{"a":{"x":1}}}`, `{"key":"` + strings.Repeat("k", 300) + `"}`} {
		if _, err := c.DeadLetters(orders).Import(within(t, patience), strings.NewReader(line)); err == nil && !strings.Contains(line, "key") {
			t.Errorf("%s was imported", line)
		}
	}
	var d reliable.DeadLetter
	if err := json.Unmarshal([]byte(`{"id":"x","body_base64":"AP8="}`), &d); err != nil || d.ID != "x" || !bytes.Equal(d.Body, []byte{0, 255}) {
		t.Errorf("%+v %v", d, err)
	}
}
