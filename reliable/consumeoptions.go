package reliable

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// HandlerFunc handles a message whose body is not decoded yet. What it returns
// decides what becomes of the message; see Consume.
type HandlerFunc func(ctx context.Context, d *Delivery) error

// Middleware wraps a handler: it can look at the message before, and at the error
// after.
type Middleware func(next HandlerFunc) HandlerFunc

type consumeConfig struct {
	concurrency  int
	prefetch     int
	partition    func(*Delivery) string
	timeout      time.Duration
	drainTimeout time.Duration
	retry        RetryPolicy
	middleware   []Middleware
	exclusive    bool
	once         *idempotence
	rate         *rateLimit
	breaker      *breaker
}

const (
	defaultDrainTimeout = 30 * time.Second
	maxConcurrency      = 10_000
	maxPrefetch         = 65535
	// prefetchFactor is how many messages per handler are on hand: enough that the
	// next one is there when a handler ends, few enough that others get some, too.
	prefetchFactor = 3
	minPrefetch    = 8
	// serverTimeout is how long RabbitMQ lets an acknowledgement take before it
	// closes the channel, unless it is configured otherwise.
	serverTimeout = 30 * time.Minute
)

// ConsumeOption changes how a queue is consumed.
type ConsumeOption func(*consumeConfig)

// Concurrency is how many messages are handled at once, 1 to 10000. It is 1 unless
// set.
func Concurrency(n int) ConsumeOption { return func(c *consumeConfig) { c.concurrency = n } }

// Prefetch is how many messages the broker hands out before they are settled, from
// the concurrency to 65535. Unless set it is three times the concurrency, at least
// 8.
func Prefetch(n int) ConsumeOption { return func(c *consumeConfig) { c.prefetch = n } }

// PartitionBy has messages with the same key handled one after the other, in the
// order in which they come, and different ones at the same time. A message that
// waits for a retry in the broker is overtaken by later ones; what waits
// in-process (RetryPolicy.InProcess) is not.
func PartitionBy(key func(*Delivery) string) ConsumeOption {
	return func(c *consumeConfig) { c.partition = key }
}

// Timeout bounds the handling of a message: its context ends then. A handler that
// returns the context's error has failed as with any other error. 0, which is the
// default, means no bound but that of the server, usually 30 minutes.
func Timeout(d time.Duration) ConsumeOption { return func(c *consumeConfig) { c.timeout = d } }

// DrainTimeout is how long handlers may go on when the consumer stops; it is 30 s
// unless set. Then their context ends with ErrDraining as its cause, and what they
// give up because of it comes again without counting an attempt.
func DrainTimeout(d time.Duration) ConsumeOption {
	return func(c *consumeConfig) { c.drainTimeout = d }
}

// Retry sets what becomes of messages whose handling failed.
func Retry(p RetryPolicy) ConsumeOption { return func(c *consumeConfig) { c.retry = p } }

// Use adds middleware. The first is the outermost, so it sees the message first
// and the error last. Panics are contained inside all middleware, and outside it
// again.
func Use(m ...Middleware) ConsumeOption {
	return func(c *consumeConfig) { c.middleware = append(c.middleware, m...) }
}

// Exclusive asks that no other consumer gets messages of the queue. While there is
// another one, the consumer waits for its turn.
func Exclusive() ConsumeOption { return func(c *consumeConfig) { c.exclusive = true } }

func consumeConfigOf(options []ConsumeOption) (c consumeConfig, err error) {
	c = consumeConfig{concurrency: 1, drainTimeout: defaultDrainTimeout}
	for _, o := range options {
		o(&c)
	}
	if c.prefetch == 0 {
		c.prefetch = max(prefetchFactor*c.concurrency, minPrefetch)
	}
	if c.retry, err = c.retry.withDefaults(); err != nil {
		return c, err
	}
	switch {
	case c.concurrency < 1 || c.concurrency > maxConcurrency:
		return c, fmt.Errorf("reliable: Concurrency is %d, it has to be 1 to %d", c.concurrency, maxConcurrency)
	case c.prefetch < c.concurrency || c.prefetch > maxPrefetch:
		return c, fmt.Errorf("reliable: Prefetch is %d, it has to be %d (the concurrency) to %d", c.prefetch, c.concurrency, maxPrefetch)
	case c.timeout < 0 || c.drainTimeout < 0:
		return c, errors.New("reliable: Timeout and DrainTimeout cannot be negative")
	}
	if c.once != nil {
		err = c.once.validate()
	}
	if c.rate != nil && err == nil {
		err = c.rate.validate()
	}
	if c.breaker != nil && err == nil {
		err = c.breaker.validate()
	}
	return c, err
}
