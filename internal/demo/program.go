package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/warrenmq/warren/reliable"
)

// program is one program that takes part in the story: a client of package reliable
// with connections of its own, which can be kept from being opened, or cut for good,
// as when a program dies.
type program struct {
	client *reliable.Client
	dialer *dialer
	ledger *ledger

	mu         sync.Mutex
	conns      []net.Conn
	dead       bool
	reconnects bool          // it is meant to lose its connections
	gate       chan struct{} // closed while connections may be opened
	duplicate  func(*reliable.Delivery)
}

// connect starts a program that lives until the end of the step.
func (s *stage) connect(ctx context.Context) (*program, error) {
	s.doing = "opening a connection"
	p := &program{dialer: s.dial, ledger: s.ledger, gate: make(chan struct{}), duplicate: func(*reliable.Delivery) {}}
	close(p.gate)
	ctx, cancel := context.WithTimeout(ctx, s.limits.connect)
	defer cancel()
	var err error
	p.client, err = reliable.Open(ctx, reliable.Transport{URLs: []string{s.dial.url}, Dialer: p}, reliable.Config{
		Name: "warren demo", Namespace: strings.TrimSuffix(s.names.prefix, "."),
		Passive:   true, // the stage declares, so that everything goes by itself if the demo is killed
		Heartbeat: 5 * time.Second, ConnectTimeout: s.limits.connect, MinPause: 10 * time.Millisecond, MaxPause: 200 * time.Millisecond,
		Observer: reliable.Observer{Settled: p.settled},
	})
	if err != nil {
		return nil, err
	}
	s.programs = append(s.programs, p)
	return p, nil
}

func (p *program) settled(d *reliable.Delivery, outcome reliable.Outcome) {
	p.ledger.settled(d, outcome)
	if outcome == reliable.OutcomeDuplicate {
		p.mu.Lock()
		tell := p.duplicate
		p.mu.Unlock()
		tell(d)
	}
}

// errDead is that a program which has died opens no more connections.
var errDead = errors.New("this program has died")

// DialContext opens a connection when the gate is open.
func (p *program) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	conn, err := p.dialer.transport(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		_ = conn.Close()
		return nil, errDead
	}
	p.conns = append(p.conns, conn)
	return conn, nil
}

// shut keeps the program from connecting again until the gate is opened.
func (p *program) shut() (open func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gate := make(chan struct{})
	p.gate, p.reconnects = gate, true
	return sync.OnceFunc(func() { close(gate) })
}

// die cuts the program off for good, without a word of AMQP, as a crash or a pulled
// cable does.
func (p *program) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	for _, conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // reset instead of an orderly end
		}
		_ = conn.Close()
	}
}

// close ends the program politely, but within politeFor.
func (p *program) close() {
	ctx, cancel := context.WithTimeout(context.Background(), politeFor)
	defer cancel()
	_ = p.client.Close(ctx) // what it leaves behind is found in the queues
	p.die()
}

// lost says why the numbers of a step cannot add up: a connection was lost in it.
// The program has gone on by itself.
func (p *program) lost() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead || p.reconnects {
		return nil
	}
	h := p.client.Health()
	for _, c := range []reliable.Connection{h.Publish, h.Consume} {
		if c.Epoch > 1 || c.Used && !c.Up {
			return errors.New("a connection was lost in the middle")
		}
	}
	return nil
}

// publisher publishes and counts.
type publisher[T any] struct {
	to     *reliable.Publisher[T]
	ledger *ledger
}

func publish[T any](ctx context.Context, s *stage, p *program, to reliable.Route) (*publisher[T], error) {
	s.doing = "opening a publisher"
	out, err := reliable.NewPublisher[T](ctx, p.client, to)
	return &publisher[T]{to: out, ledger: s.ledger}, err
}

// send publishes without waiting for the confirm. copies is how many queues the
// bindings promise it to: what the arrivals are later compared with.
func (p *publisher[T]) send(ctx context.Context, id string, v T, copies int, options ...reliable.PublishOption) (*reliable.Receipt, error) {
	r, err := p.to.PublishAsync(ctx, v, append(options, reliable.ID(id))...)
	if err != nil {
		return nil, err
	}
	p.ledger.count(func(t *Tally) { t.Published++; t.Routed += copies })
	return r, nil
}

// await waits until the broker has confirmed what was sent. A message that it could
// not route is confirmed, too: dealt with, and the error says how.
func (p *publisher[T]) await(ctx context.Context, receipts ...*reliable.Receipt) error {
	for _, r := range receipts {
		err := r.Wait(ctx)
		unroutable := errors.Is(err, reliable.ErrUnroutable)
		if err == nil || unroutable {
			p.ledger.count(func(t *Tally) { t.Confirmed++ })
		}
		if unroutable {
			p.ledger.count(func(t *Tally) { t.Returned++ })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// publish sends one message and waits for its confirm.
func (p *publisher[T]) publish(ctx context.Context, id string, v T, copies int, options ...reliable.PublishOption) error {
	r, err := p.send(ctx, id, v, copies, options...)
	if err != nil {
		return err
	}
	return p.await(ctx, r)
}

// blocked explains a silence that the broker announced itself.
func (p *program) blocked() string {
	if h := p.client.Health(); h.Publish.Blocked {
		return fmt.Sprintf(" (it has blocked publishers: %s)", h.Publish.Reason)
	}
	return ""
}
