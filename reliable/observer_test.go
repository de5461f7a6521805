package reliable_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/outbox"
)

func TestObserver(t *testing.T) {
	b := brokertest.New(t)
	var published, ended, settled claimtest.Log[string]
	c := open(t, b, reliable.Config{Observer: reliable.Observer{
		Publish: func(ctx context.Context, p *reliable.Publishing) func(error) {
			published.Add(p.Exchange + "/" + p.Key)
			p.Headers["traceparent"] = "00-trace"
			return func(err error) {
				if err != nil {
					ended.Add("failed")
				} else {
					ended.Add("done")
				}
			}
		},
		Settled: func(d *reliable.Delivery, o reliable.Outcome) { settled.Add(string(o)) },
	}})
	var traces claimtest.Log[any]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		traces.Add(m.Headers["traceparent"])
		switch {
		case m.Body.ID == 1:
			return reliable.Drop(errors.New("x"))
		case m.Body.ID == 2 && m.Attempt == 1:
			return errors.New("x")
		case m.Body.ID == 3:
			return reliable.Permanent(errors.New("x"))
		}
		return nil
	}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)}))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 4)
	wantKind(t, publisher[order](t, c, reliable.ToExchange(reliable.Exchange{Name: "none", Kind: "fanout"}, "")).Publish(within(t, patience), order{}), reliable.ErrUnroutable)
	until(t, "all is settled", func() bool { return settled.Len() == 5 })
	got := settled.All()
	slices.Sort(got)
	if !slices.Equal(got, []string{"dead-letter", "done", "done", "dropped", "retry"}) {
		t.Errorf("settled: %v", got)
	}
	if got := ended.All(); !slices.Equal(got, []string{"done", "done", "done", "done", "failed"}) || published.Len() != 5 || published.All()[4] != "none/" {
		t.Errorf("published %v, ended %v", published.All(), got)
	}
	for _, trace := range traces.All() { // it goes with the message through its retries
		if trace != "00-trace" {
			t.Errorf("headers without the trace: %v", traces.All())
		}
	}
}

func TestOutboxPublisher(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	publisher[order](t, c, reliable.ToQueue(orders)) // declares the queue
	db, box := openOutbox(t)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	message := outbox.Message{ID: "o-1", RoutingKey: "orders", Body: []byte("x"), Headers: map[string]any{"nested": map[string]any{"a": []any{int64(1)}}}}
	if err := box.Add(t.Context(), tx, message); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	p, err := reliable.NewOutboxPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	relay, err := outbox.NewRelay(box, p, outbox.RelayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	until(t, "it is published", func() bool { return relay.Confirmed() == 1 })
	cancel()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the relay does not end")
	}
	if got := drain(t, plain(t, b), "orders"); len(got) != 1 || got[0].MessageId != "o-1" || got[0].Headers["nested"] == nil {
		t.Errorf("%+v", got)
	}
}
