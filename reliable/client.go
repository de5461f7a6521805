package reliable

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/internal/link"
	"github.com/warrenmq/warren/reliable/internal/uid"
)

// Client is a program's access to one broker or cluster. Make it with Open, end
// it with Close or Run.
type Client struct {
	config    Config
	transport Transport
	server    server
	queues    QueueType // what Auto means here
	ids       uid.Generator
	publish   *link.Link

	declaring sync.Mutex // held around declarations, so that they have one order
	declared  Topology   // what is declared again on a new connection
	renewed   map[*link.Link]uint64

	consuming chan struct{} // capacity 1: one element while the consume connection is opened

	mu        sync.Mutex
	consume   *link.Link // nil until there is a consumer
	copies    *lane      // for retries and dead letters, nil until there is a consumer
	lanes     map[*lane]struct{}
	consumers map[*Consumer]struct{}
	closed    bool
}

// Open connects to the broker. It tries every address once, within ctx and the
// ConnectTimeout; that no broker can be reached is an error. From then on lost
// connections come back by themselves.
func Open(ctx context.Context, t Transport, config Config) (*Client, error) {
	if t.err != nil {
		return nil, t.err
	}
	if err := checkURLs(t.URLs); err != nil {
		return nil, err
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, transport: t, consuming: make(chan struct{}, 1), renewed: map[*link.Link]uint64{},
		lanes: map[*lane]struct{}{}, consumers: map[*Consumer]struct{}{}}
	if c.publish, err = c.open(ctx, "publish"); err != nil {
		return nil, err
	}
	conn, err := c.publish.Conn(ctx, 0)
	if err != nil {
		c.publish.Close(ctx)
		return nil, fmt.Errorf("reliable: %w", err)
	}
	c.server = serverOf(conn.Properties)
	if c.queues = config.Queues; c.queues == Auto {
		if c.queues = c.server.queueType(); c.queues == Classic {
			config.Logger.Warn("the server has no quorum queues as needed; classic ones are used, which can lose dead letters and delayed messages when a node fails",
				"product", c.server.product, "version", fmt.Sprintf("%d.%d", c.server.major, c.server.minor))
		}
	}
	return c, nil
}

// open opens a supervised connection for one role.
func (c *Client) open(ctx context.Context, role string) (*link.Link, error) {
	l, err := link.Open(ctx, c.linkConfig(role))
	if err != nil {
		return nil, fmt.Errorf("reliable: %w", err)
	}
	return l, nil
}

func (c *Client) linkConfig(role string) link.Config {
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(c.config.Name + " (" + role + ")")
	return link.Config{
		Addresses: c.transport.URLs, Dial: c.transport.dial(), Role: role, Logger: c.config.Logger,
		Client:         amqp.Config{Heartbeat: c.config.Heartbeat, Properties: properties, TLSClientConfig: c.transport.TLS},
		ConnectTimeout: c.config.ConnectTimeout, MinPause: c.config.MinPause, MaxPause: c.config.MaxPause,
	}
}

// consumeLink is the connection for consuming, opened when it is first needed,
// and the lane for the copies that consumers publish.
func (c *Client) consumeLink(ctx context.Context) (*link.Link, *lane, error) {
	select {
	case c.consuming <- struct{}{}:
		defer func() { <-c.consuming }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("reliable: connect to consume: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	l, copies, closed := c.consume, c.copies, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return nil, nil, ErrClosed
	case l != nil:
		return l, copies, nil
	}
	l, err := c.openAgain(ctx, "consume")
	if err != nil {
		return nil, nil, err
	}
	copies = newLane(c, copyWindow)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		l.Close(ctx)
		return nil, nil, ErrClosed
	}
	defer c.mu.Unlock()
	c.consume, c.copies = l, copies
	c.startLane(copies)
	return l, copies, nil
}

// openAgain opens another connection to servers that the client has been connected
// to. They may be away just now, as at any other time, so it tries until ctx ends,
// unless a server refuses it.
func (c *Client) openAgain(ctx context.Context, role string) (*link.Link, error) {
	begun := time.Now()
	for attempt := 0; ; attempt++ {
		if _, err := connection(ctx, c.publish, 0); err != nil { // it knows when they are back, and of Close
			return nil, fmt.Errorf("reliable: connect to %s: %w", role, err)
		}
		l, err := c.open(ctx, role)
		if err == nil || ctx.Err() != nil || serverRefused(err) && !serverRecovers(err, begun) {
			return l, err
		}
		c.config.Logger.Warn("cannot connect", "role", role, "error", err)
		select {
		case <-time.After(c.linkConfig(role).Pause(attempt)):
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
}

// connection waits for a connection of l newer than epoch; see link.Link.Conn.
func connection(ctx context.Context, l *link.Link, epoch uint64) (*link.Conn, error) {
	conn, err := l.Conn(ctx, epoch)
	if errors.Is(err, link.ErrClosed) {
		err = ErrClosed
	}
	return conn, err
}

// newLane starts a lane that Close ends.
func (c *Client) newLane(window int) (*lane, error) {
	l := newLane(c, window)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.startLane(l)
	return l, nil
}

// startLane is called with c.mu, while the client is not closed.
func (c *Client) startLane(l *lane) {
	c.lanes[l] = struct{}{}
	go l.run()
}

// typeOf is the type of a queue in this client.
func (c *Client) typeOf(t QueueType) QueueType {
	if t == Auto {
		return c.queues
	}
	return t
}

// Run waits until ctx ends, and then closes the client: consumers finish what
// they have begun, each within its drain timeout, and publishers wait for their
// confirms. Its error is that of Close.
func (c *Client) Run(ctx context.Context) error {
	<-ctx.Done()
	return c.Close(context.WithoutCancel(ctx))
}

// Close ends the client. Consumers take no further messages and finish what they
// have, each within its drain timeout; publishers wait for confirms; then the
// connections are closed. When ctx ends it goes on at once: what is unsettled
// comes back to its queue, and what is unconfirmed is ErrUnconfirmed. The error
// says what was cut short. A second call returns nil.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	consumers, lanes, consume := c.consumers, c.lanes, c.consume
	c.consumers, c.lanes = nil, nil
	c.mu.Unlock()

	var errs []error
	var wg sync.WaitGroup
	var mu sync.Mutex
	each := func(end func(context.Context) error) {
		wg.Go(func() {
			err := end(ctx)
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
	}
	for consumer := range consumers {
		each(consumer.stop)
	}
	wg.Wait() // before the lanes: a consumer publishes copies
	for l := range lanes {
		each(l.close)
	}
	wg.Wait()
	if consume != nil {
		consume.Close(ctx)
	}
	c.publish.Close(ctx)
	return errors.Join(errs...)
}
