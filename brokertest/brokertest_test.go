package brokertest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
)

func connect(t *testing.T, b *brokertest.Broker) (*amqp.Connection, *amqp.Channel) {
	t.Helper()
	conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: b.Dial})
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

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatal("closed, expected a value")
		}
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came in 5 s")
	}
	panic("unreachable")
}

func TestPublishConsumeConfirm(t *testing.T) {
	b := brokertest.New(t)
	_, ch := connect(t, b)
	q, err := ch.QueueDeclare("orders", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 100))
	for i := range 100 {
		err := ch.PublishWithContext(context.Background(), "", q.Name, true, false,
			amqp.Publishing{DeliveryMode: 2, MessageId: fmt.Sprint(i), Body: []byte(fmt.Sprint("body ", i))})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if c := receive(t, confirms); !c.Ack || c.DeliveryTag != uint64(i+1) {
			t.Fatalf("confirm %d: %+v", i, c)
		}
	}
	if err := ch.Qos(10, 0, false); err != nil {
		t.Fatal(err)
	}
	ds, err := ch.Consume(q.Name, "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		d := receive(t, ds)
		if string(d.Body) != fmt.Sprint("body ", i) || d.MessageId != fmt.Sprint(i) || d.Redelivered {
			t.Fatalf("delivery %d: %q id %q redelivered %v", i, d.Body, d.MessageId, d.Redelivered)
		}
		if err := d.Ack(false); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClockExpiresMessages(t *testing.T) {
	b := brokertest.New(t)
	b.Clock.Freeze()
	_, ch := connect(t, b)
	for _, q := range []string{"work", "dead"} {
		args := amqp.Table{}
		if q == "work" {
			args = amqp.Table{"x-message-ttl": int32(3600_000), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
		}
		if _, err := ch.QueueDeclare(q, true, false, false, false, args); err != nil {
			t.Fatal(err)
		}
	}
	if err := ch.PublishWithContext(context.Background(), "", "work", false, false, amqp.Publishing{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if q, err := ch.QueueDeclarePassive("work", true, false, false, false, nil); err != nil || q.Messages != 1 {
		t.Fatalf("%+v %v", q, err)
	}
	b.Clock.Advance(time.Hour - time.Millisecond)
	if _, ok, err := ch.Get("dead", true); ok || err != nil {
		t.Fatalf("dead-lettered before its time: %v", err)
	}
	b.Clock.Advance(2 * time.Millisecond)
	d, ok, err := ch.Get("dead", true)
	if err != nil || !ok {
		t.Fatalf("not dead-lettered: %v", err)
	}
	death := d.Headers["x-death"].([]any)[0].(amqp.Table)
	if death["reason"] != "expired" || death["queue"] != "work" || death["count"] != int64(1) {
		t.Fatalf("x-death: %v", death)
	}
}

func TestHeldConfirms(t *testing.T) {
	b := brokertest.New(t)
	_, ch := connect(t, b)
	ch.QueueDeclare("q", false, false, true, false, nil)
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	b.HoldConfirms()
	d, err := ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{Body: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	// The message is there, and its confirm is not.
	if _, ok, err := ch.Get("q", true); !ok || err != nil {
		t.Fatalf("message not there: %v", err)
	}
	select {
	case <-d.Done():
		t.Fatal("confirmed while confirms are held")
	default:
	}
	b.ReleaseConfirms()
	receive(t, closed(d.Done()))
	if !d.Acked() {
		t.Fatal("nacked")
	}
}

// closed turns the closing of a channel into a value.
func closed(c <-chan struct{}) <-chan bool {
	out := make(chan bool, 1)
	go func() { <-c; out <- true }()
	return out
}

func TestCutConnectionsRedeliver(t *testing.T) {
	b := brokertest.New(t)
	conn, ch := connect(t, b)
	ch.QueueDeclare("q", true, false, false, false, nil)
	ch.PublishWithContext(context.Background(), "", "q", false, false, amqp.Publishing{Body: []byte("x")})
	ds, err := ch.Consume("q", "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := receive(t, ds); d.Redelivered {
		t.Fatal("first delivery is marked redelivered")
	}
	gone := conn.NotifyClose(make(chan *amqp.Error, 1))
	b.CutConnections()
	receive(t, gone)
	_, ch = connect(t, b)
	ds, err = ch.Consume("q", "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := receive(t, ds); !d.Redelivered || string(d.Body) != "x" {
		t.Fatalf("redelivered=%v body=%q", d.Redelivered, d.Body)
	}
}

func TestNewIsFast(t *testing.T) {
	// Not a timing assertion: the benchmark below measures, this only shows
	// that many brokers live side by side.
	for range 50 {
		b := brokertest.New(t)
		connect(t, b)
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		brokertest.New(b)
	}
}

func TestManagementHandlerFollowsRestarts(t *testing.T) {
	b := brokertest.NewDurable(t)
	h := b.ManagementHandler()
	_, ch := connect(t, b)
	if _, err := ch.QueueDeclare("kept", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	b.CrashAndRestart()
	r := httptest.NewRequest(http.MethodGet, "/api/queues/%2F/kept", nil)
	r.SetBasicAuth("guest", "guest")
	r.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
