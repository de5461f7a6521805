package reliable_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
)

// A message that is alone in its window is written by its publisher.

// counting is a dialer that knows how its connections are written to, and can have
// them take nothing.
type counting struct {
	*brokertest.Broker
	now atomic.Int64 // writes that do not wait

	mu    sync.Mutex
	stuck chan struct{} // closed when writes go on; nil while they do
}

func (c *counting) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.Broker.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &counted{conn, c}, nil
}

// stick has the connections take nothing until the function it returns is called.
func (c *counting) stick() (free func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stuck := make(chan struct{})
	c.stuck = stuck
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stuck = nil
		close(stuck)
	}
}

func (c *counting) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck
}

type counted struct {
	net.Conn
	c *counting
}

func (c *counted) Write(b []byte) (int, error) {
	if stuck := c.c.wait(); stuck != nil {
		<-stuck
	}
	return c.Conn.Write(b)
}

func (c *counted) WriteNow(b []byte) (int, error) {
	c.c.now.Add(1)
	if c.c.wait() != nil {
		return 0, nil
	}
	return c.Conn.(interface{ WriteNow([]byte) (int, error) }).WriteNow(b)
}

func TestLoneMessagesAreWrittenByTheirPublisher(t *testing.T) {
	c := &counting{Broker: brokertest.New(t)}
	p := publisher[order](t, open(t, c), reliable.ToQueue(orders))
	until(t, "the channel is open", func() bool { // until then the writer takes them
		if err := p.Publish(within(t, patience), order{0}); err != nil {
			t.Fatal(err)
		}
		return c.now.Load() > 0
	})
	before := c.now.Load()
	for i := range 100 {
		if err := p.Publish(within(t, patience), order{i}); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.now.Load() - before; n != 100 {
		t.Errorf("%d of 100 messages were written by their publisher", n)
	}
	big := publisher[[]byte](t, open(t, c), reliable.ToQueue(orders))
	before = c.now.Load()
	for range 10 {
		if err := big.Publish(within(t, patience), make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.now.Load() - before; n != 0 {
		t.Errorf("%d of 10 large messages were", n)
	}
}

// The deadline holds although the connection takes nothing, and what it did not take
// follows, in order.
func TestLoneMessageHonoursItsDeadline(t *testing.T) {
	c := &counting{Broker: brokertest.New(t)}
	p := publisher[order](t, open(t, c), reliable.ToQueue(orders))
	until(t, "the channel is open", func() bool {
		if err := p.Publish(within(t, patience), order{0}); err != nil {
			t.Fatal(err)
		}
		return c.now.Load() > 0
	})
	drain(t, plain(t, c.Broker), "orders")
	free := c.stick()
	for i := range 3 { // the first is alone, and those behind it are not
		begun := time.Now()
		wantKind(t, p.Publish(within(t, 50*time.Millisecond), order{i}), reliable.ErrUnconfirmed)
		if late := time.Since(begun) - 50*time.Millisecond; late > 10*50*time.Millisecond {
			t.Errorf("%v after the deadline", late)
		}
	}
	free()
	if err := p.Publish(within(t, patience), order{3}); err != nil {
		t.Fatal(err)
	}
	got := drain(t, plain(t, c.Broker), "orders")
	if len(got) < 2 || string(got[0].Body) != `{"id":0}` || string(got[len(got)-1].Body) != `{"id":3}` {
		t.Fatalf("%d messages arrived: %v", len(got), got)
	}
}

// What becomes of a lone message that is not confirmed for a while.
func TestLoneMessageInTheAir(t *testing.T) {
	begin := func(t *testing.T, options ...reliable.PublisherOption) (b *brokertest.Broker, client *reliable.Client, p *reliable.Publisher[order]) {
		b = brokertest.New(t)
		client = open(t, b)
		p = publisher[order](t, client, reliable.ToQueue(orders), options...)
		if err := p.Publish(within(t, patience), order{0}); err != nil {
			t.Fatal(err)
		}
		drain(t, plain(t, b), "orders")
		b.HoldConfirms()
		return b, client, p
	}
	// inTheAir publishes in a goroutine and waits until the broker has it.
	inTheAir := func(t *testing.T, b *brokertest.Broker, p *reliable.Publisher[order]) <-chan error {
		result := make(chan error, 1)
		go func() { result <- p.Publish(within(t, patience), order{1}) }()
		ch := plain(t, b)
		until(t, "it is in the queue", func() bool { return count(t, ch, "orders") == 1 })
		return result
	}
	t.Run("its place is free after its publisher gave it up", func(t *testing.T) {
		b, _, p := begin(t, reliable.Window(1))
		wantKind(t, p.Publish(within(t, 20*time.Millisecond), order{1}), reliable.ErrUnconfirmed)
		b.ReleaseConfirms()
		if err := p.Publish(within(t, patience), order{2}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("another one follows", func(t *testing.T) {
		b, _, p := begin(t)
		result := inTheAir(t, b, p)
		r, err := p.PublishAsync(within(t, patience), order{2})
		if err != nil {
			t.Fatal(err)
		}
		ch := plain(t, b)
		until(t, "both are in the queue", func() bool { return count(t, ch, "orders") == 2 })
		b.ReleaseConfirms()
		if err := errors.Join(<-result, r.Wait(within(t, patience))); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("it is sent again on the next connection", func(t *testing.T) {
		b, _, p := begin(t)
		result := inTheAir(t, b, p)
		b.CutConnections()
		b.ReleaseConfirms()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if got := drain(t, plain(t, b), "orders"); len(got) != 2 || got[0].MessageId != got[1].MessageId {
			t.Fatalf("%v", got)
		}
	})
	t.Run("its lane ends", func(t *testing.T) {
		b, client, p := begin(t)
		result := inTheAir(t, b, p)
		if err := client.Close(within(t, 20*time.Millisecond)); err == nil {
			t.Error("Close says that nothing is unconfirmed")
		}
		wantKind(t, <-result, reliable.ErrUnconfirmed)
	})
}

// Each publisher learns what became of its own message, whoever looks after it.
func TestLoneMessagesAmongOthers(t *testing.T) {
	b := brokertest.New(t)
	shop := reliable.Exchange{Name: "shop", Kind: "direct"}
	p := publisher[order](t, open(t, b), reliable.ToExchange(shop, ""))
	ch := plain(t, b)
	ch.QueueDeclare("orders", true, false, false, false, nil)
	if err := ch.QueueBind("orders", "orders", "shop", false, nil); err != nil {
		t.Fatal(err)
	}
	const each = 2000
	var routed atomic.Int64
	var publishers sync.WaitGroup
	for worker := range 3 {
		publishers.Go(func() {
			for i := range each {
				key, want := "orders", error(nil)
				if (i+worker)%3 == 0 {
					key, want = "nowhere", reliable.ErrUnroutable
				}
				var err error
				if i%7 == worker {
					r, submitErr := p.PublishAsync(within(t, patience), order{i}, reliable.Key(key))
					if err = submitErr; err == nil {
						err = r.Wait(within(t, patience))
					}
				} else {
					err = p.Publish(within(t, patience), order{i}, reliable.Key(key))
				}
				if !errors.Is(err, want) {
					t.Errorf("publisher %d, message %d to %s: %v", worker, i, key, err)
					return
				}
				if err == nil {
					routed.Add(1)
				}
			}
		})
	}
	publishers.Wait()
	if n := count(t, ch, "orders"); n != int(routed.Load()) {
		t.Errorf("%d messages in the queue, %d were confirmed", n, routed.Load())
	}
}
