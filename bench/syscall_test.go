package bench

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/loadgen"
)

// countedListener counts what a broker's connections do.
type countedListener struct {
	net.Listener
	reads, writes atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{nc, l}, nil
}

type countedConn struct {
	net.Conn
	l *countedListener
}

func (c countedConn) Read(b []byte) (int, error)  { c.l.reads.Add(1); return c.Conn.Read(b) }
func (c countedConn) Write(b []byte) (int, error) { c.l.writes.Add(1); return c.Conn.Write(b) }

// TestSystemCallsPerMessage: where clients write many messages at once, the broker
// reads and writes many at once. It gathers what there is, so it makes fewer calls
// the busier it is, and the bounds hold on any machine.
func TestSystemCallsPerMessage(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  loadgen.Config
		most float64 // reads and writes of the broker per message
	}{
		"transient, no ack":       {loadgen.Config{AutoAck: true, PublishCount: 100_000}, 0.02},
		"confirmed, acknowledged": {loadgen.Config{Persistent: true, Confirm: 5000, AckEvery: 100, Prefetch: 5000, PublishCount: 100_000}, 0.03},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := broker.Open(broker.Config{})
			if err != nil {
				t.Fatal(err)
			}
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &countedListener{Listener: inner}
			done := make(chan error, 1)
			go func() { done <- b.Serve(l) }()
			defer func() {
				ctx, cancel := contextDone()
				defer cancel()
				b.Shutdown(ctx)
				<-done
			}()
			cfg := c.cfg
			cfg.Producers, cfg.Consumers, cfg.Queues, cfg.BodyBytes, cfg.Batched = 1, 1, []string{"q"}, 16, true
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			target := &loadgen.Broker{Dial: loadgen.DialTCP(inner.Addr().String()), Login: loadgen.Login{User: "guest", Password: "guest", VHost: "/"}}
			rep, err := loadgen.Run(ctx, target, &cfg)
			if err != nil || rep.Received != cfg.PublishCount {
				t.Fatalf("%+v, %v", rep, err)
			}
			calls := l.reads.Load() + l.writes.Load()
			if per := float64(calls) / float64(rep.Received); per > c.most {
				t.Errorf("%.4f reads and writes per message, want at most %g", per, c.most)
			} else {
				t.Logf("%.4f reads and writes per message", per)
			}
		})
	}
}
