package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Embed is a broker that is opened when somebody connects to it for the first
// time. Make it with Embedded.
type Embed struct {
	config Config

	mu     sync.Mutex
	broker *Broker
	err    error // why it cannot be opened any more
}

// Embedded is a broker for a program that may turn out not to need it, because it
// is told of a real one: the first connection opens it, with the data directory
// dir, or in memory if dir is empty. Its DialContext and Dial are what clients
// take:
//
//	client, err := reliable.Open(ctx, reliable.FromEnv(broker.Embedded("")), reliable.Config{})
//
// It lives until Shutdown or the end of the process; a data directory survives
// both.
func Embedded(dir string) *Embed { return &Embed{config: Config{Dir: dir}} }

// Broker opens the broker unless that has happened. If it cannot be opened, for
// example because another process uses the directory, the next call tries again.
func (e *Embed) Broker() (*Broker, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broker == nil && e.err == nil {
		b, err := Open(e.config)
		if err != nil {
			return nil, fmt.Errorf("the embedded broker: %w", err)
		}
		e.broker = b
	}
	return e.broker, e.err
}

// Dial connects to the broker inside the process; see Broker.Dial.
func (e *Embed) Dial(network, addr string) (net.Conn, error) {
	return e.DialContext(context.Background(), network, addr)
}

// DialContext connects to the broker inside the process; see Broker.DialContext.
func (e *Embed) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	b, err := e.Broker()
	if err != nil {
		return nil, err
	}
	return b.DialContext(ctx, network, addr)
}

// Shutdown ends the broker if it was opened; see Broker.Shutdown. It cannot be
// opened again.
func (e *Embed) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	b := e.broker
	if e.err == nil {
		e.err = fmt.Errorf("the embedded broker: %w", ErrClosed)
	}
	e.broker = nil
	e.mu.Unlock()
	if b == nil {
		return nil
	}
	if err := b.Shutdown(ctx); err != nil && !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}
