package reliable_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

func consume[T any](t testing.TB, c *reliable.Client, q reliable.Queue, h reliable.Handler[T], options ...reliable.ConsumeOption) *reliable.Consumer {
	t.Helper()
	consumer, err := reliable.Consume(within(t, patience), c, q, h, options...)
	if err != nil {
		t.Fatal(err)
	}
	return consumer
}

// count is how many messages are in a queue, ready or not.
func count(t testing.TB, ch *amqp.Channel, queue string) int {
	t.Helper()
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

func publishAll(t testing.TB, p *reliable.Publisher[order], n int) {
	t.Helper()
	err := p.PublishAll(within(t, patience), func(yield func(order) bool) {
		for i := range n {
			if !yield(order{i}) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestConsume(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var got claimtest.Log[*reliable.Message[order]]
	consumer := consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		got.Add(m)
		return nil
	}, reliable.Concurrency(4))
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 1000)
	until(t, "all are handled", func() bool { return got.Len() == 1000 })
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, plain(t, b), "orders"); n != 0 {
		t.Fatalf("%d messages were not acknowledged", n)
	}
	m := got.All()[0]
	if m.Attempt != 1 || m.Generation != 0 || m.Key != "orders" || m.Exchange != "" || m.Queue != "orders" || len(m.ID) != 36 || m.Type != "order" || m.Redelivered {
		t.Errorf("%+v", m.Delivery)
	}
}

func TestDecisions(t *testing.T) {
	b := brokertest.New(t)
	b.Clock.Freeze()
	c := open(t, b)
	cause := errors.New("cause")
	var attempts sync.Map
	var done claimtest.Log[int]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		attempts.Store(m.Body.ID, m.Attempt)
		switch m.Body.ID {
		case 1:
			return reliable.Permanent(cause)
		case 2:
			return reliable.Drop(cause)
		case 3:
			if m.Attempt == 1 {
				return reliable.RetryAfter(cause, time.Hour)
			}
		case 4:
			if _, again := attempts.LoadOrStore("snoozed", true); !again {
				return reliable.Snooze(time.Hour)
			}
		case 5:
			panic("bang")
		case 6:
			return fmt.Errorf("wrapped: %w", reliable.Permanent(cause))
		}
		done.Add(m.Body.ID)
		return nil
	}, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 2, Backoff: reliable.Schedule(time.Minute)}))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 7)
	ch := plain(t, b)
	until(t, "two dead letters", func() bool { return count(t, ch, "orders.dlq") == 2 })
	until(t, "three wait", func() bool { return count(t, ch, "orders") == 0 && waiting(t, ch) == 3 })
	if got := done.All(); !slices.Equal(got, []int{0}) {
		t.Errorf("done: %v", got)
	}
	for range 350 { // a bit less than an hour
		b.Clock.Advance(10 * time.Second)
	}
	if got := done.All(); !slices.Equal(got, []int{0}) {
		t.Errorf("done before the hour: %v", got)
	}
	until(t, "the others are done", func() bool {
		b.Clock.Advance(10 * time.Second)
		return done.Len() == 3
	})
	until(t, "the panic is a dead letter", func() bool { return count(t, ch, "orders.dlq") == 3 })
	for id, want := range map[int]int{3: 2, 4: 1, 5: 2} {
		if n, _ := attempts.Load(id); n != want {
			t.Errorf("message %d had %v attempts, expected %d", id, n, want)
		}
	}
	reasons := map[string]int{}
	for _, d := range drain(t, ch, "orders.dlq") {
		reasons[fmt.Sprint(d.Headers["wrn-reason"])]++
		if d.Headers["wrn-error"] == "" || d.Headers["wrn-queue"] != "orders" || d.Headers["wrn-first-failed"] == "" {
			t.Errorf("headers of a dead letter: %v", d.Headers)
		}
	}
	if reasons["permanent"] != 2 || reasons["attempts"] != 1 {
		t.Errorf("reasons: %v", reasons)
	}
}

// waiting is how many messages are in the delay network.
func waiting(t testing.TB, ch *amqp.Channel) (n int) {
	t.Helper()
	for i := range 20 {
		n += count(t, ch, fmt.Sprintf("wrn.v1.d250.L%02d", i))
	}
	return n
}

func TestUnreadable(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	consume(t, c, orders, func(context.Context, *reliable.Message[order]) error { return nil })
	if err := publisher[string](t, c, reliable.ToQueue(orders)).Publish(within(t, patience), "no JSON"); err != nil {
		t.Fatal(err)
	}
	ch := plain(t, b)
	until(t, "it is a dead letter", func() bool { return count(t, ch, "orders.dlq") == 1 })
	if d := drain(t, ch, "orders.dlq")[0]; d.Headers["wrn-reason"] != "unreadable" || string(d.Body) != "no JSON" {
		t.Errorf("%v %s", d.Headers, d.Body)
	}
}

// A late acknowledgement, on a channel that is gone, settles nothing.
func TestStaleAcknowledgements(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	const n = 20
	var runs sync.Map
	release := make(chan struct{})
	var begun, finished atomic.Int32
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		if _, again := runs.LoadOrStore(m.ID, true); !again {
			begun.Add(1)
			<-release // the first run of each outlives its connection
			return nil
		}
		finished.Add(1)
		return nil
	}, reliable.Concurrency(n), reliable.Prefetch(n))
	p := publisher[order](t, c, reliable.ToQueue(orders))
	publishAll(t, p, n)
	until(t, "all are held", func() bool { return begun.Load() == n })
	b.CutConnections()
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	publishAll(t, p, n) // deliveries with the same tags on the new channel
	close(release)
	until(t, "the first ones come again", func() bool { return finished.Load() == n && begun.Load() == 2*n })
	ch := plain(t, b)
	until(t, "all are acknowledged", func() bool { return count(t, ch, "orders") == 0 })
	if h := c.Health(); h.Consume.Epoch != 2 {
		t.Errorf("the consume connection was lost %d times", h.Consume.Epoch-1)
	}
}

func TestResubscribesAfterServerCancel(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var got claimtest.Log[int]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		got.Add(m.Body.ID)
		return nil
	})
	ch := plain(t, b)
	if _, err := ch.QueueDelete("orders", false, false, false); err != nil {
		t.Fatal(err)
	}
	until(t, "the queue is there again, and consumed", func() bool {
		q, err := ch.QueueDeclarePassive("orders", true, false, false, false, nil)
		if err != nil {
			ch = plain(t, b)
		}
		return err == nil && q.Consumers == 1
	})
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 3)
	until(t, "its messages are handled", func() bool { return got.Len() == 3 })
}

func TestConcurrencyIsExact(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var now, most atomic.Int32
	var done atomic.Int32
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-time.After(time.Millisecond)
		done.Add(1)
		return nil
	}, reliable.Concurrency(5))
	p := publisher[order](t, c, reliable.ToQueue(orders))
	publishAll(t, p, 50)
	b.CutConnections()
	publishAll(t, p, 50)
	until(t, "all are handled", func() bool { return done.Load() >= 100 })
	if most.Load() != 5 {
		t.Errorf("%d handlers at once", most.Load())
	}
}

func TestPartitions(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var mu sync.Mutex
	busy := map[string]bool{}
	seen := map[string][]int{}
	var total atomic.Int32
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		key := m.Headers["customer"].(string)
		mu.Lock()
		if busy[key] {
			t.Errorf("two messages of %s at once", key)
		}
		busy[key] = true
		seen[key] = append(seen[key], m.Body.ID)
		mu.Unlock()
		<-time.After(time.Millisecond)
		mu.Lock()
		busy[key] = false
		mu.Unlock()
		total.Add(1)
		return nil
	}, reliable.Concurrency(8), reliable.Prefetch(50), reliable.PartitionBy(func(d *reliable.Delivery) string { return d.Headers["customer"].(string) }))
	p := publisher[order](t, c, reliable.ToQueue(orders))
	for i := range 100 {
		if _, err := p.PublishAsync(within(t, patience), order{i}, reliable.Header("customer", fmt.Sprint("c", i%7))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all are handled", func() bool { return total.Load() == 100 })
	for key, ids := range seen {
		if !slices.IsSorted(ids) {
			t.Errorf("%s: %v", key, ids)
		}
	}
}

func TestTimeout(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		<-ctx.Done()
		return ctx.Err()
	}, reliable.Timeout(10*time.Millisecond), reliable.Retry(reliable.RetryPolicy{MaxAttempts: 1}))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 1)
	ch := plain(t, b)
	until(t, "it is a dead letter", func() bool { return count(t, ch, "orders.dlq") == 1 })
	if d := drain(t, ch, "orders.dlq")[0]; d.Headers["wrn-error"] != context.DeadlineExceeded.Error() || d.Headers["wrn-reason"] != "attempts" {
		t.Errorf("%v", d.Headers)
	}
}

func TestInProcess(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var seen claimtest.Log[string]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		seen.Add(fmt.Sprint(m.Body.ID, "/", m.Attempt, "/", m.LastError))
		if m.Body.ID == 0 && m.Attempt < 3 {
			return fmt.Errorf("failure %d", m.Attempt)
		}
		return nil
	}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(time.Millisecond), InProcess: time.Second}))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 2)
	until(t, "both are done", func() bool { return seen.Len() == 4 })
	if got := seen.All(); !slices.Equal(got, []string{"0/1/", "0/2/failure 1", "0/3/failure 2", "1/1/"}) {
		t.Errorf("%q", got)
	}
}

func TestPause(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var down atomic.Bool
	down.Store(true)
	var failed atomic.Int32
	var attempts claimtest.Log[int]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		if down.Load() {
			failed.Add(1)
			return reliable.Pause(errors.New("the database is away"), 300*time.Millisecond)
		}
		attempts.Add(m.Attempt)
		return nil
	})
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 20)
	until(t, "the consumer pauses", func() bool { return failed.Load() > 0 && c.Ready() != nil })
	down.Store(false)
	until(t, "all are handled", func() bool { return attempts.Len() == 20 })
	for _, n := range attempts.All() {
		if n != 1 {
			t.Fatalf("a pause has counted: attempts %v", attempts.All())
		}
	}
	if failed.Load() > 8 {
		t.Errorf("%d messages were tried during the pause", failed.Load())
	}
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestDrainGivesBack(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var begun atomic.Int32
	consumer := consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		begun.Add(1)
		<-ctx.Done()
		if context.Cause(ctx) != reliable.ErrDraining {
			t.Errorf("cause %v", context.Cause(ctx))
		}
		return ctx.Err()
	}, reliable.Concurrency(4), reliable.DrainTimeout(20*time.Millisecond))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 30)
	until(t, "handlers are busy", func() bool { return begun.Load() == 4 })
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	got := drain(t, plain(t, b), "orders")
	if len(got) != 30 {
		t.Fatalf("%d messages are in the queue", len(got))
	}
	for _, d := range got {
		if n, ok := d.Headers["wrn-attempt"]; ok && n != int64(1) {
			t.Errorf("a drain has counted: %v", d.Headers)
		}
	}
}

func TestDrainFinishes(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	release := make(chan struct{})
	var begun, done atomic.Int32
	consumer := consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		begun.Add(1)
		<-release
		done.Add(1)
		return ctx.Err()
	}, reliable.Concurrency(2), reliable.Prefetch(5))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 30)
	until(t, "handlers are busy", func() bool { return begun.Load() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Stop(within(t, patience)) }()
	until(t, "it takes no more", func() bool {
		q, err := plain(t, b).QueueDeclarePassive("orders", true, false, false, false, nil)
		return err == nil && q.Consumers == 0
	})
	close(release)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if done.Load() != 5 { // where a requeue counts, what was handed out is finished
		t.Errorf("%d were finished", done.Load())
	}
	if n := count(t, plain(t, b), "orders"); n != 25 {
		t.Errorf("%d messages are left", n)
	}
}

func TestMiddleware(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var order_ claimtest.Log[string]
	mark := func(name string) reliable.Middleware {
		return func(next reliable.HandlerFunc) reliable.HandlerFunc {
			return func(ctx context.Context, d *reliable.Delivery) error {
				order_.Add(name + " before")
				err := next(ctx, d)
				order_.Add(fmt.Sprint(name, " after: ", err))
				return nil
			}
		}
	}
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error { panic("bang") }, reliable.Use(mark("outer"), mark("inner")))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 1)
	want := []string{"outer before", "inner before", "inner after: panic: bang", "outer after: <nil>"}
	until(t, "handled", func() bool { return order_.Len() == len(want) })
	if !slices.Equal(order_.All(), want) {
		t.Errorf("%q", order_.All())
	}
}

func TestConsumeRefuses(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	nothing := func(context.Context, *reliable.Message[order]) error { return nil }
	for name, err := range map[string]error{
		"concurrency": second(reliable.Consume(within(t, patience), c, orders, nothing, reliable.Concurrency(-1))),
		"prefetch":    second(reliable.Consume(within(t, patience), c, orders, nothing, reliable.Concurrency(10), reliable.Prefetch(9))),
		"attempts":    second(reliable.Consume(within(t, patience), c, orders, nothing, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 1001}))),
		"wildcard":    second(reliable.Consume(within(t, patience), c, reliable.Queue{Name: "a.#.b"}, nothing)),
		"no name":     second(reliable.Consume(within(t, patience), c, reliable.Queue{}, nothing)),
		"nil handler": second(reliable.Consume[order](within(t, patience), c, orders, nil)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A queue that exists with other arguments.
	if _, err := plain(t, b).QueueDeclare("other", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	_, err := reliable.Consume(within(t, patience), c, reliable.Queue{Name: "other"}, nothing)
	var refused *amqp.Error
	if !errors.As(err, &refused) || refused.Code != amqp.PreconditionFailed || !strings.Contains(err.Error(), "Queue.Existing") {
		t.Errorf("a queue with other arguments: %v", err)
	}
}

func second[A any](_ A, err error) error { return err }
