package reliable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Publisher publishes values of one type along one route. Its messages are
// persistent and mandatory, have an id, and are confirmed. A []byte or a string is
// the body as it is; the client's codec makes that of any other type.
//
// Messages reach the broker in the order of the calls of one goroutine, except
// that after a reconnect some can come a second time.
type Publisher[T any] struct {
	client *Client
	lane   *lane
	route  Route
	kind   string // the type of messages
	key    func(T) string

	network sync.Mutex
	delays  bool // the delay network is declared
}

// defaultWindow is how many messages of a publisher may be on their way.
const defaultWindow = 1000

// maxWindow bounds the memory and the work of a reconnect.
const maxWindow = 65535

type publisherConfig struct {
	window int
	kind   *string
	key    any // func(T) string
}

// PublisherOption is about all messages of a publisher.
type PublisherOption func(*publisherConfig)

// Window bounds the messages that wait for their confirm, 1 to 65535; it is 1000
// unless set. Who publishes more waits.
func Window(n int) PublisherOption { return func(c *publisherConfig) { c.window = n } }

// KeyFunc makes the routing key from the value. T has to be that of the publisher.
func KeyFunc[T any](key func(T) string) PublisherOption {
	return func(c *publisherConfig) { c.key = key }
}

// MessageType sets the type of all messages; see Type.
func MessageType(name string) PublisherOption { return func(c *publisherConfig) { c.kind = &name } }

// NewPublisher declares what the route needs, and makes a publisher. ctx bounds
// that only. The client's Close ends the publisher.
func NewPublisher[T any](ctx context.Context, c *Client, to Route, options ...PublisherOption) (*Publisher[T], error) {
	config := publisherConfig{window: defaultWindow}
	for _, o := range options {
		o(&config)
	}
	p := &Publisher[T]{client: c, route: to, kind: reflect.TypeFor[T]().Name()}
	if config.kind != nil {
		p.kind = *config.kind
	}
	if config.key != nil {
		key, ok := config.key.(func(T) string)
		if !ok {
			return nil, fmt.Errorf("reliable: KeyFunc has a %T, a publisher of %v needs a func(%v) string", config.key, reflect.TypeFor[T](), reflect.TypeFor[T]())
		}
		p.key = key
	}
	if config.window < 1 || config.window > maxWindow {
		return nil, fmt.Errorf("reliable: Window is %d, it has to be 1 to %d", config.window, maxWindow)
	}
	if err := to.validate(); err != nil {
		return nil, err
	}
	if err := c.Declare(ctx, to.topology(c)); err != nil {
		return nil, err
	}
	var err error
	p.lane, err = c.newLane(config.window)
	return p, err
}

// Publish publishes v and waits until the broker has confirmed it, or ctx ends.
// nil means: the broker has the message, in at least one queue. Every other
// outcome is a *PublishError.
//
// Without a deadline in ctx it waits for as long as the broker is away or blocks.
func (p *Publisher[T]) Publish(ctx context.Context, v T, options ...PublishOption) error {
	r, err := p.prepare(ctx, v, options)
	if err != nil {
		return err
	}
	return p.lane.publish(ctx, r)
}

// PublishAsync publishes v and does not wait for the confirm, only for a place in
// the window, until ctx ends. The message is not lost when nobody waits for the
// receipt, but only the receipt tells what became of it.
func (p *Publisher[T]) PublishAsync(ctx context.Context, v T, options ...PublishOption) (*Receipt, error) {
	r, err := p.prepare(ctx, v, options)
	if err != nil {
		return nil, err
	}
	if err := p.lane.submit(ctx, r); err != nil {
		return nil, err
	}
	return r, nil
}

// PublishAll publishes values one behind the other without waiting for each
// confirm, and returns when all are settled, or ctx ends. If any failed the error
// is a *BatchError with their positions. The options are for each of them, so ID
// is not among them.
func (p *Publisher[T]) PublishAll(ctx context.Context, values iter.Seq[T], options ...PublishOption) error {
	failed := map[int]error{}
	type position struct {
		at int
		r  *Receipt
	}
	var open []position
	settle := func(n int) {
		for _, o := range open[:n] {
			if err := o.r.Wait(ctx); err != nil {
				failed[o.at] = err
			}
		}
		open = open[:copy(open, open[n:])]
	}
	i := 0
	for v := range values {
		if len(open) == 2*cap(p.lane.slots) { // at least half of them are settled
			settle(cap(p.lane.slots))
		}
		if r, err := p.PublishAsync(ctx, v, options...); err != nil {
			failed[i] = err
		} else {
			open = append(open, position{i, r})
		}
		i++
	}
	settle(len(open))
	if len(failed) > 0 {
		return &BatchError{Errs: failed}
	}
	return nil
}

// Close waits until all messages are settled, or ctx ends, and ends the
// publisher.
func (p *Publisher[T]) Close(ctx context.Context) error {
	p.client.mu.Lock()
	delete(p.client.lanes, p.lane)
	p.client.mu.Unlock()
	return p.lane.close(ctx)
}

// prepare makes the message of v.
func (p *Publisher[T]) prepare(ctx context.Context, v T, options []PublishOption) (*Receipt, error) {
	body, contentType, err := encode(p.client.config.Codec, v)
	if err != nil {
		return nil, err
	}
	now := p.client.config.Clock.Now()
	r := &Receipt{exchange: p.route.exchange.Name, key: p.route.key, message: amqp.Publishing{
		ContentType: contentType, DeliveryMode: amqp.Persistent, Timestamp: now, Type: p.kind, Body: body,
	}}
	if p.key != nil {
		r.key = p.key(v)
	}
	var delay time.Duration
	if len(options) > 0 {
		if delay, err = p.apply(ctx, r, options, now); err != nil {
			return nil, err
		}
	}
	if r.message.MessageId == "" {
		r.message.MessageId = p.client.ids.New(now)
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	p.client.observe(ctx, r, delay)
	return r, nil
}

// apply lets options change the message.
func (p *Publisher[T]) apply(ctx context.Context, r *Receipt, options []PublishOption, now time.Time) (delay time.Duration, err error) {
	o := outgoing{message: r.message, key: r.key}
	for _, option := range options {
		option(&o)
	}
	r.message, r.key = o.message, o.key
	if !o.at.IsZero() {
		o.delay = o.at.Sub(now)
	}
	switch q := p.route.queue; {
	case o.hasKey && q != nil:
		return 0, errors.New("reliable: Key is for ToExchange: a message to a queue has the queue's name for a key")
	case o.delay <= 0:
		return 0, nil
	case q == nil:
		return 0, errors.New("reliable: After and At are for ToQueue: a delayed message has to know its queue")
	case o.delay > MaxDelay:
		return 0, fmt.Errorf("reliable: the delay of %v is too long, at most %v are possible", o.delay, MaxDelay)
	default:
		if err := p.needNetwork(ctx); err != nil {
			return 0, err
		}
		r.exchange, r.key = p.client.networkOf(p.client.typeOf(q.Type)).route(o.delay, q.Name)
		return o.delay, nil
	}
}

// needNetwork declares the delay network before the first delayed message.
func (p *Publisher[T]) needNetwork(ctx context.Context) error {
	p.network.Lock()
	defer p.network.Unlock()
	if p.delays {
		return nil
	}
	t, err := p.client.Topology(*p.route.queue)
	if err != nil {
		return err
	}
	if err := p.client.Declare(ctx, t); err != nil {
		return err
	}
	p.delays = true
	return nil
}

// validate refuses what the protocol cannot express: on the wire it would end the
// connection for everybody.
func (r *Receipt) validate() error {
	if err := r.validateFields(); err != nil {
		return err
	}
	for name := range r.message.Headers {
		if strings.HasPrefix(name, "wrn-") {
			return fmt.Errorf("reliable: header %q: names that begin with wrn- belong to this package", name)
		}
	}
	return nil
}

// validateFields is validate for messages with headers of ours.
func (r *Receipt) validateFields() error {
	m := &r.message
	for _, field := range [...]struct{ name, value string }{
		{"routing key", r.key}, {"message id", m.MessageId}, {"type", m.Type}, {"content type", m.ContentType}, {"correlation id", m.CorrelationId},
	} {
		if len(field.value) > maxShortString {
			return fmt.Errorf("reliable: the %s has %d bytes, at most %d are possible", field.name, len(field.value), maxShortString)
		}
	}
	if m.Priority > 9 {
		return fmt.Errorf("reliable: the priority is %d, it has to be 0 to 9", m.Priority)
	}
	if len(m.Headers) == 0 {
		return nil
	}
	return checkHeaders(m.Headers)
}
