package reliable

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"
)

// contain turns a panic into an error.
func contain(handle HandlerFunc) HandlerFunc {
	return func(ctx context.Context, d *Delivery) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		return handle(ctx, d)
	}
}

// process handles one delivery and sees to it that it is settled, on its
// subscription or not at all.
func (c *Consumer) process(t task) {
	if t.sub.gone() {
		t.leave() // it comes again
		return
	}
	if c.unwanted(t) {
		return
	}
	err := c.attempt(&t)
	for err != nil && c.inProcess(t.sub, t.d, err) {
		t.d = again(t.d, err, c.client.config.Clock.Now())
		err = c.attempt(&t)
	}
	switch err {
	case nil:
		if c.config.breaker != nil {
			c.config.breaker.succeeded()
		}
		t.ack()
		c.settled(&t, OutcomeDone)
	case errNotOurs:
	default:
		// The slot is free meanwhile; the prefetch bounds how many there can be.
		c.steps.Go(func() { c.settle(&t, err) })
	}
}

// attempt calls the handler, once if the consumer is idempotent.
func (c *Consumer) attempt(t *task) error {
	switch {
	case c.config.once == nil:
		return c.try(c.work, t.d)
	case t.held: // an attempt in place: the claim is still ours
		c.fenceTo(t, t.at)
	}
	return c.once(t)
}

// try calls the handler.
func (c *Consumer) try(ctx context.Context, d *Delivery) error {
	if c.config.rate != nil {
		if err := c.config.rate.wait(c.work); err != nil {
			return ErrDraining
		}
	}
	if c.config.timeout == 0 {
		return c.handle(ctx, d)
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.timeout)
	defer cancel()
	return c.handle(ctx, d)
}

// unwanted gives back what should not be begun: because of a pause, or because the
// drain timeout is over. A consumer that drains finishes what it has on hand,
// unless giving it back costs nothing.
func (c *Consumer) unwanted(t task) bool {
	pause := c.pause()
	late := c.work.Err() != nil || c.life.Err() != nil && c.requeueIsFree()
	if pause == 0 && !late {
		return false
	}
	c.steps.Go(func() { c.giveBack(&t, pause) })
	return true
}

// pause is how long the consumer still pauses.
func (c *Consumer) pause() time.Duration {
	until := c.paused.Load()
	if until == 0 {
		return 0
	}
	return max(0, time.Unix(0, until).Sub(c.client.config.Clock.Now()))
}

// requeueIsFree says that giving a message back by basic.nack does not bring it
// closer to a delivery limit.
func (c *Consumer) requeueIsFree() bool {
	return c.kind == Classic || !c.client.server.requeueCounts()
}

// drained says that err only comes from the end of the handler's context at a
// drain.
func (c *Consumer) drained(err error) bool {
	return c.work.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ErrDraining))
}

// inProcess waits for the next attempt in place, if the policy wants that. It
// reports whether the time has come.
func (c *Consumer) inProcess(sub *subscription, d *Delivery, err error) bool {
	if c.config.retry.InProcess == 0 || err == errNotOurs || c.work.Err() != nil {
		return false
	}
	next := c.config.retry.judge(d.Attempt, err)
	if next.verdict != toRetry || next.delay > c.config.retry.InProcess {
		return false
	}
	wake := make(chan struct{})
	stop := c.client.config.Clock.AfterFunc(max(next.delay, 0), func() { close(wake) })
	defer stop()
	select {
	case <-wake:
		return true
	case <-sub.over:
	case <-c.work.Done():
	}
	return false
}

// again is the delivery of the next attempt in place.
func again(d *Delivery, err error, now time.Time) *Delivery {
	next := *d
	next.Headers = copyOf(d).Headers
	recordFailure(next.Headers, d, err, now)
	next.Headers[headerAttempt] = int64(d.Attempt + 1)
	message := *d.message
	message.Headers = next.Headers
	next.message = &message
	next.readHeaders()
	return &next
}

// settle carries out what is to become of a message that failed.
func (c *Consumer) settle(t *task, err error) {
	d := t.d
	log := c.client.config.Logger.With("queue", c.queue.Name, "id", d.ID, "attempt", d.Attempt)
	if c.drained(err) {
		log.Info("message given back: the consumer stops")
		c.giveBack(t, 0)
		return
	}
	next := c.config.retry.judge(d.Attempt, err)
	next.delay = min(max(next.delay, 0), MaxDelay)
	switch next.verdict {
	case toRetry:
		log.Warn("message failed", "error", err, "again_after", next.delay)
		c.countFailure(log, err)
		c.retry(t, next)
	case toDead:
		log.Error("message failed for good", "error", err, "reason", next.reason)
		if next.reason == ReasonAttempts {
			c.countFailure(log, err)
		}
		c.bury(t, next)
	case toDrop:
		log.Warn("message dropped", "error", err)
		if t.held { // so are its duplicates
			_ = c.complete(t)
		}
		t.ack()
		c.settled(t, OutcomeDropped)
	case toSnooze:
		log.Debug("message snoozed", "again_after", next.delay)
		c.republish(t, next.delay, OutcomeSnoozed)
	case toPause:
		c.beginPause(log, err, next.delay)
		c.giveBack(t, next.delay)
	}
}

// countFailure pauses the consumer if too many attempts in a row have failed.
func (c *Consumer) countFailure(log *slog.Logger, err error) {
	if b := c.config.breaker; b != nil && b.failed() {
		c.beginPause(log, err, b.pause)
	}
}

// beginPause stops the consumer for d, unless it pauses for longer already.
func (c *Consumer) beginPause(log *slog.Logger, err error, d time.Duration) {
	until := c.client.config.Clock.Now().Add(d).UnixNano()
	for {
		have := c.paused.Load()
		if have >= until {
			return
		}
		if c.paused.CompareAndSwap(have, until) {
			break
		}
	}
	log.Warn("consumer pauses", "error", err, "for", d)
	select {
	case c.pauses <- struct{}{}:
	default:
	}
}
