package reliable

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/reliable/internal/link"
)

// ErrDraining is the cause with which a handler's context ends when its consumer
// stops and the drain timeout is over.
var ErrDraining = errors.New("the consumer is stopping")

const (
	// copyWindow is how many copies for retries and dead letters are on their way
	// at once.
	copyWindow = 1000
	// giveBackTime is how long a stopping consumer may take to give back what it
	// has not finished by its drain timeout.
	giveBackTime = 2 * time.Second
)

// Consumer takes messages from a queue until it is stopped. Make it with Consume.
type Consumer struct {
	client *Client
	queue  Queue
	kind   QueueType
	config consumeConfig
	handle HandlerFunc
	link   *link.Link
	copies *lane
	seed   maphash.Seed

	life     context.Context // ends when the consumer stops: no more subscriptions
	endLife  context.CancelFunc
	work     context.Context // that of handlers; ends at the drain timeout
	endWork  context.CancelCauseFunc
	step     context.Context // that of copies; ends when the consumer is given up
	endStep  context.CancelFunc
	handlers sync.WaitGroup // goroutines that handle
	steps    sync.WaitGroup // goroutines that settle failures
	keeper   chan struct{}  // closed when nobody subscribes any more
	paused   atomic.Int64   // until when, in nanoseconds of the client's clock
	pauses   chan struct{}  // capacity 1: paused has been set
	stopping sync.Once
	stopErr  error

	mu      sync.Mutex
	sub     *subscription // the current one, nil while there is none
	changed chan struct{} // closed and replaced when sub changes
	fault   error         // why there is none
	over    bool          // there will be none
	lanes   []chan task   // with PartitionBy, one per handler
}

// Handler handles a message; see Consume.
type Handler[T any] func(ctx context.Context, m *Message[T]) error

// Consume calls handle for each message of a queue, which is declared with its
// dead-letter queue. ctx bounds only that, and waiting for a broker that is away
// just then; the consumer goes on until it is stopped, or the client closed.
//
// The error that handle returns decides about the message:
//
//   - nil: it is done, and acknowledged.
//   - any error: it comes again later, by the retry policy, and after the last
//     attempt becomes a dead letter. So do a panic and a timeout.
//   - Permanent, RetryAfter, Snooze, Drop, Pause: what they say.
//   - an error because the context ended with ErrDraining: the message comes
//     again, and that does not count.
//
// A body that is not a T becomes a dead letter at once; so that T may also be
// []byte or string for the body as it is. A message can come more than once.
func Consume[T any](ctx context.Context, c *Client, from Queue, handle Handler[T], options ...ConsumeOption) (*Consumer, error) {
	if handle == nil {
		return nil, errors.New("reliable: Consume wants a handler, not nil")
	}
	return consume(ctx, c, from, typed(c.config.Codec, handle), options)
}

// typed is a handler that decodes first.
func typed[T any](codec Codec, handle Handler[T]) HandlerFunc {
	return func(ctx context.Context, d *Delivery) error {
		m := &Message[T]{Delivery: d}
		if err := decode(codec, d.ContentType, d.Raw, &m.Body); err != nil {
			return err
		}
		return handle(ctx, m)
	}
}

func consume(ctx context.Context, c *Client, from Queue, handle HandlerFunc, options []ConsumeOption) (*Consumer, error) {
	config, err := consumeConfigOf(options)
	if err != nil {
		return nil, err
	}
	t, err := c.Topology(from)
	if err != nil {
		return nil, err
	}
	if config.timeout >= serverTimeout {
		c.config.Logger.Warn("the handler may take longer than servers wait for an acknowledgement, unless consumer_timeout is raised there",
			"queue", from.Name, "timeout", config.timeout, "usual", serverTimeout)
	}
	l, copies, err := c.consumeLink(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.Declare(ctx, t); err != nil {
		return nil, err
	}
	consumer := &Consumer{client: c, queue: from, kind: c.typeOf(from.Type), config: config, link: l, copies: copies,
		seed: maphash.MakeSeed(), keeper: make(chan struct{}), changed: make(chan struct{}), pauses: make(chan struct{}, 1)}
	consumer.life, consumer.endLife = context.WithCancel(context.Background())
	consumer.work, consumer.endWork = context.WithCancelCause(context.Background())
	consumer.step, consumer.endStep = context.WithCancel(context.Background())
	consumer.handle = contain(handle)
	for _, m := range slices.Backward(config.middleware) {
		consumer.handle = m(consumer.handle)
	}
	consumer.handle = contain(consumer.handle)
	if err := consumer.begin(ctx); err != nil {
		return nil, err
	}
	return consumer, nil
}

// begin subscribes for the first time, so that what is wrong shows in an error,
// and starts the goroutines.
func (c *Consumer) begin(ctx context.Context) error {
	var sub *subscription
	begun := time.Now()
	for epoch := uint64(0); sub == nil; {
		conn, err := connection(ctx, c.link, epoch)
		if err != nil {
			return fmt.Errorf("reliable: consume from %q: %w", c.queue.Name, err)
		}
		sub, err = c.subscribe(ctx, conn)
		switch {
		case err == nil:
		case ctx.Err() != nil || serverRefused(err) && !serverRecovers(err, begun):
			return fmt.Errorf("reliable: consume from %q: %w", c.queue.Name, err)
		default:
			select { // the connection broke off
			case <-conn.Done():
				epoch = conn.Epoch
			case <-ctx.Done():
			}
		}
	}
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	if c.client.closed {
		sub.close()
		return ErrClosed
	}
	c.client.consumers[c] = struct{}{}
	c.set(sub, nil)
	go c.keep(sub)
	if c.config.partition != nil {
		c.startPartitions()
		return nil
	}
	for range c.config.concurrency {
		c.handlers.Go(func() { c.each(c.process) })
	}
	return nil
}

// startPartitions starts one goroutine that takes deliveries and gives each to the
// handler that its key belongs to.
func (c *Consumer) startPartitions() {
	for range c.config.concurrency {
		// It holds what a subscription can have on hand, so that giving never waits
		// for one partition while others have nothing to do.
		lane := make(chan task, c.config.prefetch)
		c.lanes = append(c.lanes, lane)
		c.handlers.Go(func() {
			for t := range lane {
				c.process(t)
			}
		})
	}
	c.handlers.Go(func() {
		c.each(func(t task) {
			key := maphash.String(c.seed, keyOf(c.config.partition, t.d))
			c.lanes[key%uint64(len(c.lanes))] <- t
		})
		for _, lane := range c.lanes {
			close(lane)
		}
	})
}

// keyOf calls a function of the user's. What it panics for has no key, and the
// handler sees it.
func keyOf(f func(*Delivery) string, d *Delivery) (key string) {
	defer func() { _ = recover() }()
	return f(d)
}

// each calls f for every delivery of every subscription, until there is none any
// more. Several goroutines may do so.
func (c *Consumer) each(f func(task)) {
	var last *subscription
	for {
		sub := c.next(last)
		if sub == nil {
			return
		}
		last = sub
		for raw := range sub.deliveries {
			if sub.gone() {
				continue // it comes again
			}
			raw.Acknowledger = nil // it is not the handler's to settle
			sub.open.Add(1)
			d := newDelivery(c.queue.Name, &raw)
			f(task{sub: sub, d: d, at: attemptOf(d)})
		}
		sub.end() // the channel is closed, or the server has cancelled
	}
}

// next waits for another subscription than last; nil means that there is none to
// come.
func (c *Consumer) next(last *subscription) *subscription {
	for {
		c.mu.Lock()
		sub, changed, over := c.sub, c.changed, c.over
		c.mu.Unlock()
		switch {
		case sub != nil && sub != last:
			return sub
		case over:
			return nil
		}
		<-changed
	}
}

func (c *Consumer) set(sub *subscription, fault error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sub, c.fault = sub, fault
	close(c.changed)
	c.changed = make(chan struct{})
}

// Queue is where the consumer takes its messages from.
func (c *Consumer) Queue() Queue { return c.queue }

// ready is nil while the consumer is subscribed.
func (c *Consumer) ready() error {
	c.mu.Lock()
	sub, fault := c.sub, c.fault
	c.mu.Unlock()
	switch {
	case c.pause() > 0:
		return fmt.Errorf("the consumer of %q pauses for %v", c.queue.Name, c.pause().Round(time.Millisecond))
	case fault != nil:
		return fmt.Errorf("the consumer of %q is not subscribed: %w", c.queue.Name, fault)
	case sub == nil || sub.gone() || sub.ended():
		return fmt.Errorf("the consumer of %q is not subscribed", c.queue.Name)
	}
	return nil
}

// Stop ends the consumer: it takes no more messages and finishes those it has,
// within its drain timeout, or until ctx ends. The error says if handlers did not
// end; their messages come again.
func (c *Consumer) Stop(ctx context.Context) error {
	c.client.mu.Lock()
	delete(c.client.consumers, c)
	c.client.mu.Unlock()
	return c.stop(ctx)
}

func (c *Consumer) stop(ctx context.Context) error {
	c.stopping.Do(func() { c.stopErr = c.drain(ctx) })
	return c.stopErr
}

// drain lets handlers end, then tells them to, and then gives up.
func (c *Consumer) drain(ctx context.Context) error {
	c.endLife() // the keeper cancels the subscription; what is on hand still comes
	done := make(chan struct{})
	go func() {
		c.handlers.Wait()
		c.steps.Wait()
		close(done)
	}()
	patience := time.NewTimer(c.config.drainTimeout)
	defer patience.Stop()
	var err error
	select {
	case <-done:
	case <-patience.C:
	case <-ctx.Done():
	}
	c.endWork(ErrDraining)
	patience.Reset(giveBackTime)
	select {
	case <-done:
	case <-patience.C:
		err = fmt.Errorf("reliable: the consumer of %q was stopped while handlers were running; their messages come again", c.queue.Name)
	}
	c.endStep()
	<-c.keeper
	return err
}
