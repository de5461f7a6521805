package reliabletest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
)

const (
	// patience is how long the methods that wait do so unless told otherwise.
	patience = 10 * time.Second
	// closeTimeout is what handlers get that still run when the test has ended.
	closeTimeout = 100 * time.Millisecond
)

// Broker is a broker for the duration of a test, with everything that happens on
// the connections that were made through it. Make it with New.
type Broker struct {
	// Clock is the time of the broker and of its clients. It is frozen. Advance of
	// the Broker, not of the Clock, lets what is due on the way happen in between.
	Clock *brokertest.Clock
	// Patience is how long, on the machine's clock, the methods that wait do so
	// before they end the test: 10 s. Set it before the first of them.
	Patience time.Duration

	t      testing.TB
	inner  *brokertest.Broker
	config reliable.Config
	own    *reliable.Client // the test's, to publish and to look at dead letters
	copier copier           // makes the copies of Duplicate

	mu     sync.Mutex
	record record   // guarded by mu, as all below
	faults []*Fault // those that wait for their moment
	twice  int      // Duplicate: how many messages are still to come twice
}

// New starts a broker that ends with the test. Its disk is in memory, so it
// survives CrashAndRestart. At most one Config may be given: that of the clients,
// in which what is zero is set so that they connect again within milliseconds.
// Clock is replaced, and Codec is that of Publish and Expect, too.
func New(t testing.TB, config ...reliable.Config) *Broker {
	t.Helper()
	if len(config) > 1 {
		t.Fatal("reliabletest: New takes at most one Config")
	}
	b := &Broker{t: t, Patience: patience, inner: brokertest.NewDurable(t, broker.Config{})}
	b.Clock = b.inner.Clock
	b.Clock.Freeze()
	if len(config) > 0 {
		b.config = config[0]
	}
	b.config.Clock = b.Clock
	if b.config.MinPause == 0 && b.config.MaxPause == 0 {
		b.config.MinPause, b.config.MaxPause = time.Millisecond, 20*time.Millisecond
	}
	if b.config.Codec == nil {
		b.config.Codec = reliable.JSON{}
	}
	b.record.begin()
	b.copier.to = b.inner.Dial
	t.Cleanup(b.copier.close)
	b.own = b.open(reliable.Via(ownDialer{b}))
	return b
}

// Client opens a client, and closes it with the test. Handlers that still run then
// have their context ended after 100 ms.
func (b *Broker) Client() *reliable.Client {
	b.t.Helper()
	return b.open(b.Transport())
}

func (b *Broker) open(to reliable.Transport) *reliable.Client {
	b.t.Helper()
	ctx, cancel := b.patience()
	defer cancel()
	c, err := reliable.Open(ctx, to, b.config)
	if err != nil {
		b.t.Fatalf("reliabletest: %v", err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		c.Close(ctx) // what is unsettled is the test's intention
	})
	return c
}

// patience is a context for a call that has to end.
func (b *Broker) patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), b.Patience)
}

// Transport leads a program here that opens its own client. Give that one the
// Clock in its Config, or its retries and leases follow the machine's.
func (b *Broker) Transport() reliable.Transport { return reliable.Via(b) }

// DialContext connects to the broker; the arguments are ignored. With it a Broker is
// a reliable.Dialer.
func (b *Broker) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return b.dial(ctx, network, addr, false)
}

// Dial is DialContext for clients that want it so, as the Config of amqp091-go does.
func (b *Broker) Dial(network, addr string) (net.Conn, error) {
	return b.dial(context.Background(), network, addr, false)
}

// ownDialer connects the test itself, whose messages are not the program's.
type ownDialer struct{ b *Broker }

func (d ownDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d.b.dial(ctx, network, addr, true)
}

func (b *Broker) dial(ctx context.Context, network, addr string, own bool) (net.Conn, error) {
	conn, err := b.inner.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return newLine(b, conn, own), nil
}

// Store is an empty store of handled messages whose leases follow the Clock.
func (b *Broker) Store() dedup.Store { return dedup.NewMemory(0, b.Clock.Now) }

// Publish publishes v to a queue, as somebody else than the program would: it is not
// among what Published returns. It returns when the broker has the message, and ends
// the test if that does not come to pass within the broker's Patience.
func Publish[T any](b *Broker, to reliable.Queue, v T, options ...reliable.PublishOption) {
	b.t.Helper()
	ctx, cancel := b.patience()
	defer cancel()
	p, err := reliable.NewPublisher[T](ctx, b.own, reliable.ToQueue(to))
	if err != nil {
		b.t.Fatalf("reliabletest: %v", err)
	}
	defer p.Close(ctx) // nothing is left to wait for
	if err := p.Publish(ctx, v, options...); err != nil {
		b.t.Fatalf("reliabletest: %v", err)
	}
}
