package reliable_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

func TestRateLimit(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var at claimtest.Log[time.Time]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		at.Add(time.Now())
		return nil
	}, reliable.RateLimit(100, 5), reliable.Concurrency(4))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 25)
	until(t, "all are handled", func() bool { return at.Len() == 25 })
	list := at.All()
	if took := list[len(list)-1].Sub(list[0]); took < 150*time.Millisecond { // 20 of them wait 10 ms each
		t.Errorf("25 messages at 100 a second took %v", took)
	}
}

func TestBreaker(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var down atomic.Bool
	down.Store(true)
	var failed, done atomic.Int32
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		if down.Load() {
			failed.Add(1)
			return errors.New("the database is away")
		}
		done.Add(1)
		return nil
	}, reliable.Breaker(3, 200*time.Millisecond), reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)}))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 100)
	until(t, "the consumer pauses", func() bool { return c.Ready() != nil })
	if n := failed.Load(); n < 3 || n > 3+8 { // its steps are taken after the handlers went on
		t.Errorf("%d failures before the pause", n)
	}
	down.Store(false)
	until(t, "all are done", func() bool { return done.Load() == 100 })
	if n := count(t, plain(t, b), "orders.dlq"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}
