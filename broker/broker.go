package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/warrenmq/warren/internal/amqpserver"
	"github.com/warrenmq/warren/internal/engine"
)

// ErrClosed is what Serve and Dial return after Shutdown.
var ErrClosed = errors.New("broker: closed")

// Broker is a running broker. Make it with Open, end it with Shutdown.
type Broker struct {
	engine     *engine.Engine
	server     *amqpserver.Server
	management *management
	once       sync.Once
	done       chan struct{}
	failed     chan struct{} // closed when the data directory has failed
}

// Open starts a broker. The error says which field of the Config is wrong.
func Open(c Config) (*Broker, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	users, err := c.users()
	if err != nil {
		return nil, err
	}
	ec := engine.Config{VHosts: c.VHosts, MemoryLimitBytes: c.MemoryLimitBytes, Logger: c.Logger}
	if c.Clock != nil {
		ec.Clock = c.Clock
	}
	b := &Broker{done: make(chan struct{}), failed: make(chan struct{})}
	ready := make(chan struct{})
	ec.Disk = c.disk(func(error) {
		// Nothing more can be confirmed: clients learn it by losing the broker.
		close(b.failed)
		go func() {
			<-ready
			b.server.CutAll()
		}()
	})
	if b.engine, err = engine.New(ec); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b.server = amqpserver.New(amqpserver.Config{
		Engine: b.engine, Users: users, Logger: c.Logger, Version: c.Version,
		FrameMax: c.FrameMax, ChannelMax: c.ChannelMax, HeartbeatSeconds: c.heartbeatSeconds(),
		MaxMessageBytes: uint64(c.MaxMessageBytes), MaxConnections: c.MaxConnections,
		HandshakeTimeout: c.HandshakeTimeout,
	})
	b.management = newManagement(b, &c, users)
	close(ready)
	return b, nil
}

// Serve accepts AMQP connections from l until Shutdown, and then returns
// ErrClosed; any other error is the listener's. It closes l. A broker may serve
// several listeners, each in a call of its own.
func (b *Broker) Serve(l net.Listener) error {
	err := b.server.Serve(l)
	if errors.Is(err, amqpserver.ErrClosed) {
		return ErrClosed
	}
	return err
}

// Dial connects to the broker inside the process. The arguments are ignored, so
// that it fits the Dial field of amqp091-go's Config; whatever host stands in
// the URL, the connection leads here. Both ends report a loopback address.
func (b *Broker) Dial(network, addr string) (net.Conn, error) {
	return b.DialContext(context.Background(), network, addr)
}

// DialContext is Dial with a context, for clients that want one. The connection
// is there at once; ctx does not bound its life.
func (b *Broker) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-b.done:
		return nil, ErrClosed
	default:
	}
	client, server := pipe()
	b.server.ServeConn(server)
	return client, nil
}

// Shutdown stops accepting, tells clients that the broker is going
// (connection.close 320) and waits for them until ctx ends; those that are left
// are cut, and the error is ctx's. A second call returns nil at once.
func (b *Broker) Shutdown(ctx context.Context) error {
	var err error
	b.once.Do(func() {
		close(b.done)
		b.management.close()
		if serr := b.server.Shutdown(ctx); serr != nil {
			err = fmt.Errorf("broker: not every client said goodbye: %w", serr)
		}
		if cerr := b.engine.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("broker: closing the data directory: %w", cerr))
		}
	})
	return err
}

// Err is why the broker has stopped confirming, nil if it has not: a write or a
// sync of the data directory has failed. It does not recover from that; Shutdown
// and Open read back what is on the disk.
func (b *Broker) Err() error { return b.engine.Err() }

// Failed is closed when the data directory fails: Err says why then, and all
// that is left to do is Shutdown.
func (b *Broker) Failed() <-chan struct{} { return b.failed }

// ConnectionCount is the number of client connections.
func (b *Broker) ConnectionCount() int { return b.server.ConnCount() }

// Faults makes things go wrong on purpose, for tests (package brokertest).
func (b *Broker) Faults() Faults { return Faults{b} }

// Faults are failures that a test can cause.
type Faults struct{ b *Broker }

// Crash ends the broker as a kill of its process would: connections are cut,
// nothing more is written. What had been written is read back by the next Open
// of the same Dir.
func (f Faults) Crash() {
	f.b.once.Do(func() {
		close(f.b.done)
		f.b.management.close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.b.engine.Freeze()
		f.b.server.Shutdown(ctx) // the error says that clients were cut
		f.b.engine.Abandon()
	})
}

// CutConnections drops every connection without a word, as a network failure
// would.
func (f Faults) CutConnections() { f.b.server.CutAll() }

// HoldConfirms keeps all publisher confirms back, as a disk that does not
// answer would, until ReleaseConfirms.
func (f Faults) HoldConfirms() { f.b.engine.HoldConfirms() }

// ReleaseConfirms ends HoldConfirms and sends what was kept back.
func (f Faults) ReleaseConfirms() { f.b.engine.ReleaseConfirms() }
