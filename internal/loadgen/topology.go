package loadgen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// notFound is the reply code of a passive declare that finds nothing.
const notFound = 404

// dial connects, logs in, and ends the connection when ctx ends.
func (b *Broker) dial(ctx context.Context) (*Client, error) {
	nc, err := b.Dial(ctx)
	if err != nil {
		return nil, err
	}
	limit := b.LoginTimeout
	if limit == 0 {
		limit = defaultLoginTimeout
	}
	login, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var c *Client
	err = during(login, nc, func() (err error) { c, err = Handshake(nc, b.Login); return err })
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() == nil && login.Err() != nil:
		err = fmt.Errorf("no answer within %s: the broker may have no room for more connections (%w)", limit, err)
	}
	nc.Close()
	return nil, err
}

// during does something with a connection that the end of ctx cuts short.
func during(ctx context.Context, nc net.Conn, do func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now()) })
	err := do()
	if !stop() && err == nil {
		return ctx.Err()
	}
	return err
}

// topology is what a load needs, and what of it was made for it.
type topology struct {
	broker   *Broker
	cfg      *Config
	server   string
	queues   []string // declared here
	exchange bool     // declared here
}

// declare makes the queues, the exchange and the bindings. What is there already
// is used as it is.
func (t *topology) declare(ctx context.Context) error {
	c, err := t.broker.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Leave()
	t.server = c.Server()
	if t.cfg.Predeclared {
		return nil
	}
	return during(ctx, c.nc, func() error { return t.declareWith(c) })
}

func (t *topology) declareWith(c *Client) error {
	// exists asks with a channel that does not outlive the answer no.
	exists := func(passive wire.Method, ok wire.MethodID) (bool, error) {
		if err := c.CallOn(probeChannel, &wire.ChannelOpen{}, wire.IDChannelOpenOk); err != nil {
			return false, err
		}
		err := c.CallOn(probeChannel, passive, ok)
		var closed *CloseError
		if errors.As(err, &closed) && closed.Channel && closed.Code == notFound {
			return false, c.send(probeChannel, &wire.ChannelCloseOk{})
		}
		if err != nil {
			return false, err
		}
		return true, c.CallOn(probeChannel, &wire.ChannelClose{}, wire.IDChannelCloseOk)
	}
	if name := t.cfg.Exchange; name != "" {
		there, err := exists(&wire.ExchangeDeclare{Exchange: name, Type: t.cfg.exchangeType(), Passive: true}, wire.IDExchangeDeclareOk)
		if err != nil {
			return fmt.Errorf("exchange %s: %w", name, err)
		}
		if !there {
			m := &wire.ExchangeDeclare{Exchange: name, Type: t.cfg.exchangeType(), Durable: true}
			if err := c.Call(m, wire.IDExchangeDeclareOk); err != nil {
				return fmt.Errorf("exchange %s: %w", name, err)
			}
			t.exchange = true
		}
	}
	for _, q := range t.cfg.Queues {
		there, err := exists(&wire.QueueDeclare{Queue: q, Passive: true}, wire.IDQueueDeclareOk)
		if err != nil {
			return fmt.Errorf("queue %s: %w", q, err)
		}
		if !there {
			m := &wire.QueueDeclare{Queue: q, Durable: true, AutoDelete: t.cfg.AutoDelete, Arguments: t.cfg.QueueArgs}
			if err := c.Call(m, wire.IDQueueDeclareOk); err != nil {
				return fmt.Errorf("queue %s: %w", q, err)
			}
			t.queues = append(t.queues, q)
		}
		if t.cfg.Exchange != "" {
			m := &wire.QueueBind{Queue: q, Exchange: t.cfg.Exchange, RoutingKey: t.cfg.key(q)}
			if err := c.Call(m, wire.IDQueueBindOk); err != nil {
				return fmt.Errorf("binding %s to %s: %w", q, t.cfg.Exchange, err)
			}
		}
	}
	return nil
}

// probeChannel asks whether something exists.
const probeChannel = 2

// cleanUpTime is how long the broker may take to delete what was declared.
const cleanUpTime = 60 * time.Second

// cleanUp deletes what declare has made. It does so after the end of the run's
// context, too.
func (t *topology) cleanUp() error {
	if len(t.queues) == 0 && !t.exchange {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
	defer cancel()
	c, err := t.broker.dial(ctx)
	if err != nil {
		return fmt.Errorf("deleting what was declared for the load (%d queues such as %s): %w", len(t.queues), t.cfg.Queues[0], err)
	}
	defer c.Leave()
	_ = c.nc.SetDeadline(time.Now().Add(cleanUpTime))
	for _, q := range t.queues {
		if err := c.Call(&wire.QueueDelete{Queue: q}, wire.IDQueueDeleteOk); err != nil {
			return fmt.Errorf("deleting queue %s, which was declared for the load: %w", q, err)
		}
	}
	if t.exchange {
		if err := c.Call(&wire.ExchangeDelete{Exchange: t.cfg.Exchange}, wire.IDExchangeDeleteOk); err != nil {
			return fmt.Errorf("deleting exchange %s, which was declared for the load: %w", t.cfg.Exchange, err)
		}
	}
	return nil
}

// leaveTime is how long a broker may take to answer connection.close.
const leaveTime = 2 * time.Second

// Leave closes the connection as the protocol wants it, and drops it if the
// broker does not answer soon. Nobody else may use it any more.
func (c *Client) Leave() {
	defer c.nc.Close()
	_ = c.nc.SetDeadline(time.Now().Add(leaveTime))
	_ = c.CallOn(0, &wire.ConnectionClose{ReplyCode: 200, ReplyText: "done"}, wire.IDConnectionCloseOk) // it is dropped all the same
}

// DialTCP makes a Dial for an address.
func DialTCP(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) }
}
