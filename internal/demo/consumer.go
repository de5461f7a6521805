package demo

import (
	"context"
	"sync"
	"time"

	"github.com/warrenmq/warren/reliable"
)

// arrival is a message with the moment it arrived. Its handler waits until the step
// has decided what it returns.
type arrival[T any] struct {
	*reliable.Message[T]
	at        time.Time
	duplicate bool // its id was handled before: it is settled, and no handler waits
	decision  chan error
}

// consumer hands the messages that its handlers get to the step, one by one. What
// handlers wait with counts as held, looked at or not.
type consumer[T any] struct {
	program *program
	ledger  *ledger
	inbox   chan *arrival[T]

	mu      sync.Mutex
	held    map[*arrival[T]]bool
	maxHeld int
	handled int
}

// inboxSize exceeds what any step publishes, so that no handler waits for the step
// to take what it has.
const inboxSize = 2048

// drainWithin is how long handlers may hold what the step has not decided about when
// the step is over.
const drainWithin = 100 * time.Millisecond

// consume starts to consume. Of the program's consumers the last one hears of
// duplicates.
func consume[T any](ctx context.Context, s *stage, p *program, q reliable.Queue, options ...reliable.ConsumeOption) (*consumer[T], error) {
	s.doing = "starting a consumer on " + q.Name
	c := &consumer[T]{program: p, ledger: s.ledger, inbox: make(chan *arrival[T], inboxSize), held: map[*arrival[T]]bool{}}
	p.mu.Lock()
	p.duplicate = func(d *reliable.Delivery) {
		c.inbox <- &arrival[T]{Message: &reliable.Message[T]{Delivery: d}, at: time.Now(), duplicate: true}
	}
	p.mu.Unlock()
	_, err := reliable.Consume(ctx, p.client, q, c.handle,
		append([]reliable.ConsumeOption{reliable.Use(c.count), reliable.DrainTimeout(drainWithin)}, options...)...)
	return c, err
}

// count counts each delivery, also one that cannot be read.
func (c *consumer[T]) count(next reliable.HandlerFunc) reliable.HandlerFunc {
	return func(ctx context.Context, d *reliable.Delivery) error {
		c.ledger.arrived(d)
		return next(ctx, d)
	}
}

// handle shows the message to the step and returns what that decides.
func (c *consumer[T]) handle(ctx context.Context, m *reliable.Message[T]) error {
	a := &arrival[T]{Message: m, at: time.Now(), decision: make(chan error, 1)}
	c.mu.Lock()
	c.held[a] = true
	c.maxHeld = max(c.maxHeld, len(c.held))
	c.mu.Unlock()
	c.inbox <- a
	select {
	case err := <-a.decision:
		return err
	case <-ctx.Done(): // the step is over
		return context.Cause(ctx)
	}
}

// decide lets the handler return.
func (c *consumer[T]) decide(a *arrival[T], err error) {
	c.mu.Lock()
	delete(c.held, a) // first: afterwards the next one may be there already
	c.mu.Unlock()
	a.decision <- err
}

// next waits for a message; ok is false if none came in time.
func (c *consumer[T]) next(ctx context.Context, within time.Duration) (a *arrival[T], ok bool, err error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case a := <-c.inbox:
		return a, true, nil
	case <-timer.C:
		return nil, false, nil
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
}

// await is next; none within the patience is a mismatch that ends the step.
func (c *consumer[T]) await(ctx context.Context, s *stage, what string) (*arrival[T], error) {
	return c.awaitDelayed(ctx, s, what, 0)
}

// awaitDelayed is await for what comes after a delay.
func (c *consumer[T]) awaitDelayed(ctx context.Context, s *stage, what string, delay time.Duration) (*arrival[T], error) {
	s.doing = "waiting for " + what
	a, ok, err := c.next(ctx, delay+s.limits.patience)
	if err != nil {
		return nil, err
	}
	if !ok {
		s.fail("%s did not arrive within %v", what, delay+s.limits.patience)
		return nil, errMissing
	}
	return a, nil
}

// done counts one message whose work succeeded.
func (c *consumer[T]) done() {
	c.mu.Lock()
	c.handled++
	c.mu.Unlock()
	c.ledger.count(func(t *Tally) { t.Handled++ })
}

// finish is the happy end of most deliveries: the work is done, then acked.
func (c *consumer[T]) finish(a *arrival[T]) {
	c.done()
	c.decide(a, nil)
}

// abandon lets all handlers that still wait return an error.
func (c *consumer[T]) abandon(err error) {
	c.mu.Lock()
	held := c.held
	c.held = map[*arrival[T]]bool{}
	c.mu.Unlock()
	for a := range held {
		a.decision <- err
	}
}

// holding tells how many messages are undecided now and at most, and how many were
// handled.
func (c *consumer[T]) holding() (now, most, handled int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held), c.maxHeld, c.handled
}

// heldIDs lists the undecided messages in no order.
func (c *consumer[T]) heldIDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]string, 0, len(c.held))
	for a := range c.held {
		ids = append(ids, a.ID)
	}
	return ids
}
