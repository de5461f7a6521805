package reliable_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

// nowhere is an address that refuses connections.
func nowhere(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestFromEnv(t *testing.T) {
	b := brokertest.New(t)
	other := broker.Embedded("")
	publish := func() error {
		c, err := reliable.Open(within(t, patience), reliable.FromEnv(other), reliable.Config{})
		if err != nil {
			return err
		}
		defer c.Close(within(t, patience))
		return publisher[string](t, c, reliable.ToQueue(orders)).Publish(within(t, patience), "hello")
	}
	t.Setenv("AMQP_URL", b.URL())
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, plain(t, b), "orders"); n != 1 {
		t.Fatalf("%d messages at the broker that the environment names", n)
	}
	t.Setenv("AMQP_URL", "amqp://guest:secret@"+nowhere(t)+"/")
	if err := publish(); err == nil {
		t.Fatal("a broker that cannot be reached was replaced")
	} else if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error has the password: %v", err)
	}
	t.Setenv("AMQP_URL", "amqp://guest:secret@"+nowhere(t)+"/, "+b.URL()) // a cluster, one node of which is down
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"secret", "http://secret/", " ", "amqp://guest:secret@host:port/"} {
		t.Setenv("AMQP_URL", bad)
		if err := publish(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("AMQP_URL=%q: %v", bad, err)
		}
	}
	t.Setenv("AMQP_URL", "")
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, plain(t, b), "orders"); n != 2 {
		t.Errorf("%d messages at the broker that the environment does not name", n)
	}
	other.Shutdown(within(t, patience))
}

func TestOpenRefuses(t *testing.T) {
	b := brokertest.New(t)
	for name, open := range map[string]func() (*reliable.Client, error){
		"no URL": func() (*reliable.Client, error) {
			return reliable.Open(within(t, patience), reliable.Transport{}, reliable.Config{})
		},
		"nil dialer": func() (*reliable.Client, error) {
			return reliable.Open(within(t, patience), reliable.Via(nil), reliable.Config{})
		},
		"heartbeat": func() (*reliable.Client, error) {
			return reliable.Open(within(t, patience), reliable.Via(b), reliable.Config{Heartbeat: time.Millisecond})
		},
		"queue type": func() (*reliable.Client, error) {
			return reliable.Open(within(t, patience), reliable.Via(b), reliable.Config{Queues: 7})
		},
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	wrong := strings.Replace(b.URL(), "guest:guest", "guest:wrong", 1)
	var refused *amqp.Error
	if _, err := reliable.Open(within(t, patience), reliable.ToURL(wrong), reliable.Config{}); !errors.As(err, &refused) || refused.Code != amqp.AccessRefused {
		t.Errorf("wrong password: %v", err)
	}
	// A broker that accepts and says nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begun := time.Now()
	_, err = reliable.Open(within(t, 50*time.Millisecond), reliable.ToURL("amqp://guest:guest@"+l.Addr().String()), reliable.Config{})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	_, err = reliable.Open(within(t, patience), reliable.ToURL("amqp://guest:guest@"+l.Addr().String()), reliable.Config{ConnectTimeout: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Error(err)
	}
}

// A program outlives its broker: with a data directory nothing is lost, and in
// memory at least everything is declared again.
func TestBrokerRestarts(t *testing.T) {
	b := brokertest.NewDurable(t)
	c := open(t, b)
	p := publisher[order](t, c, reliable.ToQueue(orders))
	var got claimtest.Log[string]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		got.Add(m.ID)
		return nil
	})
	ids := map[string]bool{}
	for i := range 5 {
		var receipts []*reliable.Receipt
		for j := range 100 {
			r, err := p.PublishAsync(within(t, patience), order{100*i + j})
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, r)
			if j == 50 {
				b.CrashAndRestart()
			}
		}
		for _, r := range receipts {
			if err := r.Wait(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			ids[r.ID()] = true
		}
	}
	until(t, "all are handled", func() bool {
		handled := map[string]bool{}
		for _, id := range got.All() {
			handled[id] = true
		}
		return len(handled) == len(ids)
	})
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Error(err)
	}
}

func TestTopologyComesBack(t *testing.T) {
	var current *brokertest.Broker
	dial := dialFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
		return current.DialContext(ctx, network, addr)
	})
	current = brokertest.New(t)
	c := open(t, dial)
	var got claimtest.Log[int]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error { got.Add(m.Body.ID); return nil })
	p := publisher[order](t, c, reliable.ToExchange(reliable.Exchange{Name: "events", Kind: "fanout"}, ""))
	audit := reliable.Queue{Name: "audit", Bind: []reliable.Bind{{Exchange: reliable.Exchange{Name: "events", Kind: "fanout"}}}}
	consume(t, c, audit, func(ctx context.Context, m *reliable.Message[order]) error { got.Add(-m.Body.ID); return nil })
	old := current
	current = brokertest.New(t) // empty
	old.CutConnections()
	publish := func() error { return p.Publish(within(t, time.Second), order{5}) }
	until(t, "the new broker has everything", func() bool { return publish() == nil })
	until(t, "it arrives", func() bool { return got.Len() > 0 && got.All()[0] == -5 })
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Error(err)
	}
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return f(ctx, network, addr)
}

// The broker may be away when the second connection is opened, by the first Consume.
func TestConsumeWaitsForTheBroker(t *testing.T) {
	b := brokertest.NewDurable(t)
	var away atomic.Int64 // so many attempts fail
	dial := dialFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
		if away.Add(-1) >= 0 {
			return nil, errors.New("connection refused")
		}
		return b.DialContext(ctx, network, addr)
	})
	c := open(t, dial)
	handle := func(context.Context, *reliable.Message[order]) error { return nil }
	away.Store(1 << 40)
	_, err := reliable.Consume(within(t, 50*time.Millisecond), c, orders, handle)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("its time is over: %v", err)
	}
	away.Store(5)
	var got claimtest.Log[int]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error { got.Add(m.Body.ID); return nil })
	if err := publisher[order](t, c, reliable.ToQueue(orders)).Publish(within(t, patience), order{7}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is handled", func() bool { return got.Len() == 1 })

	closed := open(t, dial)
	away.Store(1 << 40)
	result := make(chan error, 1)
	go func() {
		_, err := reliable.Consume(within(t, patience), closed, orders, handle)
		result <- err
	}()
	until(t, "it tries", func() bool { return away.Load() < 1<<40 })
	closed.Close(within(t, patience))
	if err := <-result; !errors.Is(err, reliable.ErrClosed) {
		t.Errorf("Consume of a client that is closed meanwhile: %v", err)
	}
}
