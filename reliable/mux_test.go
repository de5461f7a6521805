package reliable_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

type refund struct{ Order int }

func TestMux(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	m := reliable.NewMux(c)
	if _, err := m.Consume(within(t, patience), orders); err == nil {
		t.Error("a Mux without handlers")
	}
	var seen claimtest.Log[string]
	reliable.Handle(m, "", func(ctx context.Context, m *reliable.Message[order]) error {
		seen.Add(fmt.Sprint("order ", m.Body.ID))
		return nil
	})
	reliable.Handle(m, "money.back", func(ctx context.Context, m *reliable.Message[refund]) error {
		seen.Add(fmt.Sprint("refund ", m.Body.Order))
		return nil
	})
	if _, err := m.Consume(within(t, patience), orders); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, patience)
	if err := errors.Join(
		publisher[order](t, c, reliable.ToQueue(orders)).Publish(ctx, order{1}),
		publisher[refund](t, c, reliable.ToQueue(orders), reliable.MessageType("money.back")).Publish(ctx, refund{2}),
		publisher[refund](t, c, reliable.ToQueue(orders)).Publish(ctx, refund{3}),
	); err != nil {
		t.Fatal(err)
	}
	ch := plain(t, b)
	until(t, "all are settled", func() bool { return seen.Len() == 2 && count(t, ch, "orders.dlq") == 1 })
	if d := drain(t, ch, "orders.dlq")[0]; d.Headers["wrn-reason"] != reliable.ReasonNoHandler || d.Type != "refund" {
		t.Errorf("%v", d.Headers)
	}
	reliable.Handle(m, "money.back", func(context.Context, *reliable.Message[refund]) error { return nil })
	if _, err := m.Consume(within(t, patience), orders); err == nil {
		t.Error("two handlers for one type")
	}
}

func TestConsumeBatch(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var sizes claimtest.Log[int]
	var handled atomic.Int32
	_, err := reliable.ConsumeBatch(within(t, patience), c, orders, reliable.Batch{Size: 10, Wait: 20 * time.Millisecond},
		func(ctx context.Context, messages []*reliable.Message[order]) error {
			sizes.Add(len(messages))
			failed := map[int]error{}
			for i, m := range messages {
				switch {
				case m.Body.ID == 33:
					failed[i] = reliable.Permanent(errors.New("no"))
				case m.Body.ID == 44 && m.Attempt == 1:
					failed[i] = errors.New("once more")
				default:
					handled.Add(1)
				}
			}
			if len(failed) > 0 {
				return &reliable.BatchError{Errs: failed}
			}
			return nil
		}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)}))
	if err != nil {
		t.Fatal(err)
	}
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 105)
	ch := plain(t, b)
	until(t, "all are settled", func() bool {
		return handled.Load() == 104 && count(t, ch, "orders") == 0 && count(t, ch, "orders.dlq") == 1
	})
	most := 0
	for _, n := range sizes.All() {
		most = max(most, n)
	}
	if most != 10 {
		t.Errorf("the largest batch had %d messages", most)
	}
}

func TestBatchPanics(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	_, err := reliable.ConsumeBatch(within(t, patience), c, orders, reliable.Batch{Size: 3},
		func(ctx context.Context, messages []*reliable.Message[order]) error { panic("bang") },
		reliable.Retry(reliable.RetryPolicy{MaxAttempts: 1}))
	if err != nil {
		t.Fatal(err)
	}
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 4)
	ch := plain(t, b)
	until(t, "all are dead letters", func() bool { return count(t, ch, "orders.dlq") == 4 })
}
