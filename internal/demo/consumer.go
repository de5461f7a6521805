package demo

import (
	"context"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// delivery is a message with the moment it arrived.
type delivery struct {
	amqp.Delivery
	at time.Time
}

// consumer receives from one queue with manual acknowledgements. A goroutine of
// its own takes deliveries as they come, so that everything the broker has handed
// over counts as held, looked at or not.
type consumer struct {
	queue  string
	ch     *amqp.Channel
	ledger *ledger
	inbox  chan delivery
	closed chan *amqp.Error
	ended  chan struct{} // the receiving goroutine has ended

	mu      sync.Mutex
	held    map[uint64]string // delivery tag -> message id, arrived and not settled
	maxHeld int
	handled int
}

// inboxSize exceeds what any step publishes, so receiving never waits for the
// step even if prefetch does not hold.
const inboxSize = 256

// consumer starts to consume; prefetch 0 means no limit.
func (l *link) consumer(led *ledger, queue string, prefetch int) (*consumer, error) {
	if err := l.ch.Qos(prefetch, 0, false); err != nil {
		return nil, err
	}
	c := &consumer{
		queue: queue, ch: l.ch, ledger: led,
		inbox:  make(chan delivery, inboxSize),
		closed: l.ch.NotifyClose(make(chan *amqp.Error, 1)),
		ended:  make(chan struct{}),
		held:   map[uint64]string{},
	}
	deliveries, err := l.ch.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	go c.receive(deliveries)
	return c, nil
}

func (c *consumer) receive(deliveries <-chan amqp.Delivery) {
	defer close(c.ended)
	for d := range deliveries {
		c.mu.Lock()
		c.held[d.DeliveryTag] = d.MessageId
		c.maxHeld = max(c.maxHeld, len(c.held))
		c.mu.Unlock()
		c.ledger.arrived(d)
		c.inbox <- delivery{Delivery: d, at: time.Now()}
	}
}

// next waits for a delivery; ok is false if none came in time.
func (c *consumer) next(ctx context.Context, within time.Duration) (d delivery, ok bool, err error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case d := <-c.inbox:
		return d, true, nil
	case <-timer.C:
		return delivery{}, false, nil
	case <-ctx.Done():
		return delivery{}, false, context.Cause(ctx)
	case <-c.ended:
		return delivery{}, false, closeReason(c.closed)
	}
}

// ack settles a delivery as done: handled, or known to be a duplicate.
func (c *consumer) ack(d delivery) error {
	c.release(d)
	c.ledger.count(func(t *Tally) { t.Acked++ })
	return d.Ack(false)
}

// nack refuses a delivery for good: the queue's dead-letter exchange gets it.
func (c *consumer) nack(d delivery) error {
	c.release(d)
	c.ledger.count(func(t *Tally) { t.Nacked++ })
	return d.Nack(false, false)
}

// release forgets a delivery before its settlement is sent: afterwards the broker
// may already have sent the next one.
func (c *consumer) release(d delivery) {
	c.mu.Lock()
	delete(c.held, d.DeliveryTag)
	c.mu.Unlock()
}

// done counts one message whose work succeeded.
func (c *consumer) done() {
	c.mu.Lock()
	c.handled++
	c.mu.Unlock()
	c.ledger.count(func(t *Tally) { t.Handled++ })
}

// finish is the happy end of most deliveries: the work is done, then acked.
func (c *consumer) finish(d delivery) error {
	c.done()
	return c.ack(d)
}

// holding tells how many deliveries are unsettled now and at most, and how many
// were handled.
func (c *consumer) holding() (now, most, handled int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held), c.maxHeld, c.handled
}

// heldIDs lists the unsettled messages in no order.
func (c *consumer) heldIDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]string, 0, len(c.held))
	for _, id := range c.held {
		ids = append(ids, id)
	}
	return ids
}
