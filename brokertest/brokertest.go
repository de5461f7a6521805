// Package brokertest gives a test a WarrenMQ broker of its own, as
// net/http/httptest gives it a web server: started in a moment, ended with the
// test, with a clock that the test can move and failures that it can cause.
//
//	func TestOrders(t *testing.T) {
//		b := brokertest.New(t)
//		conn, err := amqp.DialConfig(b.URL(), amqp.Config{Dial: b.Dial})
//		…
//		b.Clock.Advance(time.Hour) // every TTL below an hour has passed
//	}
package brokertest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/vfs"
)

// Broker is a broker for the duration of a test. Its methods may be called from
// any goroutine.
type Broker struct {
	// Clock is the broker's time: it runs with the machine's until the test
	// moves or freezes it.
	Clock *Clock

	t      testing.TB
	config broker.Config
	memory *vfs.MemFS // the disk of NewDurable

	mu    sync.Mutex
	inner *broker.Broker
	disk  *vfs.Fault // nil without a data directory
	full  bool       // FillDisk
	port  *listener  // nil until somebody asks for the address
}

// New starts a broker and ends it with the test. At most one Config may be
// given; its Clock is replaced.
func New(t testing.TB, config ...broker.Config) *Broker {
	t.Helper()
	b := &Broker{t: t}
	if len(config) > 0 {
		b.config = config[0]
	}
	b.begin()
	return b
}

func (b *Broker) begin() {
	b.t.Helper()
	b.Clock = NewClock()
	b.config.Clock = b.Clock
	b.mu.Lock()
	defer b.mu.Unlock()
	b.start()
	b.t.Cleanup(b.stop)
}

// start opens a broker, and lets it have the port. Called with b.mu held.
func (b *Broker) start() {
	b.t.Helper()
	if b.config.Dir != "" {
		b.mount()
	}
	inner, err := broker.Open(b.config)
	if err != nil {
		b.t.Fatalf("brokertest: %v", err)
	}
	b.inner = inner
	if b.port != nil {
		go inner.Serve(b.port.next()) // ends with Shutdown
	}
}

// current is the broker that runs now.
func (b *Broker) current() *broker.Broker {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inner
}

// stop ends the broker. Clients that the test left open are cut at once.
func (b *Broker) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if b.ConnectionCount() > 0 {
		cancel()
	}
	b.Shutdown(ctx) // an error only says that clients were cut
}

// URL is the broker's address with user and password. The first call starts a
// TCP listener on a free loopback port; a client that uses Dial does not need
// the port, but any URL will do for it.
func (b *Broker) URL() string { return fmt.Sprintf("amqp://guest:guest@%s/", b.Addr()) }

// Addr is the host and port of the listener that URL names.
func (b *Broker) Addr() string {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.port == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.t.Fatalf("brokertest: %v", err)
		}
		b.port = &listener{Listener: l}
		go b.inner.Serve(b.port.next()) // ends with Shutdown
		go b.port.run()                 // ends with stop
	}
	return b.port.Listener.Addr().String()
}

// Dial connects to the broker inside the process. The arguments are ignored; see
// broker.Broker.
func (b *Broker) Dial(network, addr string) (net.Conn, error) {
	return b.current().Dial(network, addr)
}

// DialContext is Dial with a context, which does not bound the connection's life.
func (b *Broker) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return b.current().DialContext(ctx, network, addr)
}

// Serve accepts connections from another listener until Shutdown or a crash.
func (b *Broker) Serve(l net.Listener) error { return b.current().Serve(l) }

// Shutdown ends the broker before the test does; see broker.Broker.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.port != nil {
		b.port.Listener.Close() // nobody is left to accept for
	}
	return b.inner.Shutdown(ctx)
}

// ManagementHandler answers RabbitMQ's management HTTP API; see broker.Broker. It
// leads to the broker that runs, also after a CrashAndRestart.
func (b *Broker) ManagementHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.current().ManagementHandler().ServeHTTP(w, r)
	})
}

// Err is why the broker has stopped confirming, nil if it has not.
func (b *Broker) Err() error { return b.current().Err() }

// ConnectionCount is the number of client connections.
func (b *Broker) ConnectionCount() int { return b.current().ConnectionCount() }

// CutConnections drops every connection without a word, as a network failure
// would.
func (b *Broker) CutConnections() { b.current().Faults().CutConnections() }

// HoldConfirms keeps publisher confirms back until ReleaseConfirms.
func (b *Broker) HoldConfirms() { b.current().Faults().HoldConfirms() }

// ReleaseConfirms sends the confirms that HoldConfirms kept back.
func (b *Broker) ReleaseConfirms() { b.current().Faults().ReleaseConfirms() }
