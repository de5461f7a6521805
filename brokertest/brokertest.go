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
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
)

// Broker is a broker for the duration of a test.
type Broker struct {
	*broker.Broker
	// Clock is the broker's time: it runs with the machine's until the test
	// moves or freezes it.
	Clock *Clock

	t      testing.TB
	listen sync.Once
	addr   string
}

// New starts a broker and ends it with the test. At most one Config may be
// given; its Clock is replaced.
func New(t testing.TB, config ...broker.Config) *Broker {
	t.Helper()
	var c broker.Config
	if len(config) > 0 {
		c = config[0]
	}
	clock := NewClock()
	c.Clock = clock
	inner, err := broker.Open(c)
	if err != nil {
		t.Fatalf("brokertest: %v", err)
	}
	b := &Broker{Broker: inner, Clock: clock, t: t}
	t.Cleanup(b.stop)
	return b
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
	b.listen.Do(func() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.t.Fatalf("brokertest: %v", err)
		}
		b.addr = l.Addr().String()
		go b.Serve(l) // ends with Shutdown
	})
	return b.addr
}

// CutConnections drops every connection without a word, as a network failure
// would.
func (b *Broker) CutConnections() { b.Faults().CutConnections() }

// HoldConfirms keeps publisher confirms back until ReleaseConfirms.
func (b *Broker) HoldConfirms() { b.Faults().HoldConfirms() }

// ReleaseConfirms sends the confirms that HoldConfirms kept back.
func (b *Broker) ReleaseConfirms() { b.Faults().ReleaseConfirms() }
