package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/internal/nowait"
)

// goodbye bounds the closing handshake of a connection.
const goodbye = 2 * time.Second

// missedHeartbeats is how many heartbeats a write may hang.
const missedHeartbeats = 3

// DialFunc opens a transport connection. ctx bounds the opening only.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Conn is one connection. It is over at the latest when the Link has a newer one.
type Conn struct {
	*amqp.Connection
	Epoch   uint64
	Address string // without the password

	raw     *corked
	blocked atomic.Bool
	blocks  chan amqp.Blocking
	done    chan struct{}
	reason  *amqp.Error // set before done is closed
	closing sync.Once
}

// Done is closed when the connection is over.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Over says whether Done is closed.
func (c *Conn) Over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Err is why the connection is over. It may be called after Done.
func (c *Conn) Err() error {
	if c.reason == nil {
		return amqp.ErrClosed
	}
	return c.reason
}

// Blocked says whether the broker accepts no publishes now.
func (c *Conn) Blocked() bool { return c.blocked.Load() }

// Cork gathers what is written until Uncork, which has to follow soon.
func (c *Conn) Cork() { c.raw.Cork() }

// Uncork writes what was gathered since Cork.
func (c *Conn) Uncork() { c.raw.Uncork() }

// TryCork is for who must not wait for the peer: nobody who writes does until
// TryUncork, which has to follow at once. It may refuse.
func (c *Conn) TryCork() bool { return c.raw.TryCork() }

// TryUncork ends what TryCork began.
func (c *Conn) TryUncork() { c.raw.TryUncork() }

// Cut ends the connection without a word, as a network failure does.
func (c *Conn) Cut() { c.raw.Conn.Close() }

// patience is how long a write may hang.
func (c *Conn) patience() time.Duration {
	if beat := c.Config.Heartbeat; beat > 0 {
		return missedHeartbeats * beat
	}
	return time.Minute
}

// close says goodbye, for as long as ctx allows and goodbye at most.
func (c *Conn) close(ctx context.Context) {
	c.closing.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, goodbye)
		defer cancel()
		defer context.AfterFunc(ctx, c.Cut)()
		_ = c.Connection.Close() // whatever it says, the connection is over
		c.Cut()
	})
}

// dial connects to one address and logs in.
func (c *Config) dial(parent context.Context, address string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(parent, c.ConnectTimeout)
	defer cancel()
	conn := &Conn{Address: Shown(address), blocks: make(chan amqp.Blocking, 4), done: make(chan struct{})}
	unwatch := func() bool { return true }
	defer func() { unwatch() }() // before cancel
	client := c.Client
	client.Dial = func(network, addr string) (net.Conn, error) {
		raw, err := c.transport(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn.raw = &corked{Conn: raw, now: nowait.Writer(raw)}
		// Cut rather than give the transport a deadline, which the client clears.
		unwatch = context.AfterFunc(ctx, conn.Cut)
		return conn.raw, nil
	}
	inner, err := amqp.DialConfig(address, client)
	if err != nil {
		if conn.raw != nil {
			conn.Cut() // after some failures the client leaves it open
		}
		return nil, fmt.Errorf("cannot connect to %s: %w", conn.Address, explain(parent, ctx, err, c.ConnectTimeout))
	}
	conn.Connection = inner
	inner.NotifyBlocked(conn.blocks)
	closes := inner.NotifyClose(make(chan *amqp.Error, 1))
	go func() {
		conn.reason = <-closes // nil when the channel is closed, with an end of our own
		close(conn.done)
	}()
	return conn, nil
}

func (c *Config) transport(ctx context.Context, network, addr string) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// explain replaces errors that only follow from a bound by the bound, and those
// that quote the URL by what they say about it.
func explain(parent, ctx context.Context, err error, bound time.Duration) error {
	var bad *url.Error
	switch {
	case errors.As(err, &bad):
		return bad.Err
	case parent.Err() != nil:
		return context.Cause(parent)
	case ctx.Err() != nil:
		return fmt.Errorf("no answer within %v", bound)
	}
	return err
}

// Shown is an AMQP URL without its password; a hint if it is not one.
func Shown(address string) string {
	uri, err := amqp.ParseURI(address)
	if err != nil {
		return "the given URL"
	}
	shown := url.URL{Scheme: uri.Scheme, Host: net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)), Path: "/"}
	if uri.Vhost != "/" {
		shown.Path += uri.Vhost
	}
	return shown.String()
}
