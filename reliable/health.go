package reliable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warrenmq/warren/reliable/internal/link"
)

// Ready says whether everything works now: connected, not blocked, every consumer
// subscribed. nil means yes, and the error says what does not. It does not wait
// and is cheap enough for a readiness probe. That it is not ready is no reason to
// restart the program: it works on that itself.
func (c *Client) Ready() error {
	c.mu.Lock()
	consume, closed := c.consume, c.closed
	consumers := make([]*Consumer, 0, len(c.consumers))
	for consumer := range c.consumers {
		consumers = append(consumers, consumer)
	}
	c.mu.Unlock()
	if closed {
		return ErrClosed
	}
	var errs []error
	state, _ := c.publish.Snapshot()
	switch {
	case !state.Up:
		errs = append(errs, fmt.Errorf("not connected for publishing: %w", state.Err))
	case state.Blocked:
		errs = append(errs, fmt.Errorf("%w: %s", ErrBlocked, state.Reason))
	}
	if consume != nil {
		if state, _ := consume.Snapshot(); !state.Up {
			errs = append(errs, fmt.Errorf("not connected for consuming: %w", state.Err))
		}
	}
	for _, consumer := range consumers {
		errs = append(errs, consumer.ready())
	}
	return errors.Join(errs...)
}

// WaitReady waits until Ready is nil. If ctx ends before, its error says what is
// missing.
func (c *Client) WaitReady(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := c.Ready()
		if err == nil || errors.Is(err, ErrClosed) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("reliable: not ready: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// Health is the state of a client, for a status page.
type Health struct {
	Server           string // product and version
	Publish, Consume Connection
	Consumers        []ConsumerHealth
}

// Connection is the state of one of a client's connections.
type Connection struct {
	Used    bool // there is one, or should be
	Up      bool
	Epoch   uint64 // how many connections there were; 1 means that it was never lost
	Blocked bool   // the broker accepts no publishes
	Reason  string // why it blocks, or why there is no connection
	Since   time.Time
}

// ConsumerHealth is the state of a consumer.
type ConsumerHealth struct {
	Queue string
	Err   error // nil while it is subscribed
}

// Health is the state now. It does not wait.
func (c *Client) Health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := Health{Server: fmt.Sprintf("%s %d.%d", c.server.product, c.server.major, c.server.minor),
		Publish: connectionOf(c.publish), Consume: connectionOf(c.consume)}
	for consumer := range c.consumers {
		h.Consumers = append(h.Consumers, ConsumerHealth{Queue: consumer.queue.Name, Err: consumer.ready()})
	}
	return h
}

func connectionOf(l *link.Link) Connection {
	if l == nil {
		return Connection{}
	}
	s, _ := l.Snapshot()
	h := Connection{Used: true, Up: s.Up, Epoch: s.Epoch, Blocked: s.Blocked, Reason: s.Reason, Since: s.Since}
	if s.Err != nil {
		h.Reason = s.Err.Error()
	}
	return h
}
