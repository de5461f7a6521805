package reliable

import (
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/dedup"
)

// copyTries is how often a copy that the broker does not take is published before
// the original is rejected, so that the broker makes it a dead letter.
const copyTries = 3

// retry publishes a copy that comes after the delay, waits for its confirm, and
// then acknowledges the original. At every moment at least one of them is there;
// after a crash in between there can be both.
func (c *Consumer) retry(t *task, next decision) {
	m := copyOf(t.d)
	m.Headers[headerAttempt] = int64(t.d.Attempt + 1)
	recordFailure(m.Headers, t.d, next.err, c.client.config.Clock.Now())
	exchange, key := c.client.networkOf(c.kind).route(next.delay, c.queue.Name)
	c.move(t, exchange, key, m, attemptOf(t.d).Next(), OutcomeRetry)
}

// republish is retry without counting an attempt.
func (c *Consumer) republish(t *task, delay time.Duration, as Outcome) {
	m := copyOf(t.d)
	m.Headers[headerAttempt] = int64(t.d.Attempt)
	exchange, key := c.client.networkOf(c.kind).route(delay, c.queue.Name)
	c.move(t, exchange, key, m, attemptOf(t.d), as)
}

// giveBack returns a message to its queue, uncounted: by basic.nack where that
// costs nothing, and else as a copy.
func (c *Consumer) giveBack(t *task, delay time.Duration) {
	if c.requeueIsFree() && (delay > 0 || c.life.Err() != nil) {
		// The broker must not deliver it here again at once.
		select {
		case <-t.sub.cancelled:
		case <-t.sub.over:
		case <-c.step.Done():
		}
		c.fenceTo(t, t.at)
		t.reject(true)
		c.settled(t, OutcomeGivenBack)
		return
	}
	c.republish(t, delay, OutcomeGivenBack)
}

// bury publishes a copy with the reason to the dead letters, and then acknowledges
// the original.
func (c *Consumer) bury(t *task, next decision) {
	now := c.client.config.Clock.Now()
	m := copyOf(t.d)
	m.Headers[headerAttempt] = int64(t.d.Attempt)
	m.Headers[headerReason] = next.reason
	m.Headers[headerQueue] = c.queue.Name
	m.Headers[headerDied] = now.UTC().Format(time.RFC3339Nano)
	recordFailure(m.Headers, t.d, next.err, now)
	c.move(t, c.client.networkOf(c.kind).dlx(), c.queue.Name, m, attemptOf(t.d).Next(), OutcomeDeadLetter)
}

// move publishes m and, once the broker has it in a queue, raises the fence and
// acknowledges t. In any doubt t stays unsettled, and comes again when its channel
// ends. If the broker does not take m, it is asked to make t a dead letter itself.
func (c *Consumer) move(t *task, exchange, key string, m amqp.Publishing, next dedup.Attempt, as Outcome) {
	log := c.client.config.Logger.With("queue", c.queue.Name, "id", t.d.ID, "exchange", exchange)
	pause := 100 * time.Millisecond
	for try := 1; ; try++ {
		if t.sub.gone() { // the original is back in its queue: a copy would be a second one
			c.fenceTo(t, t.at)
			t.leave()
			c.settled(t, OutcomeUnsettled)
			return
		}
		r := &Receipt{exchange: exchange, key: key, message: m}
		err := c.copies.publish(c.step, r)
		switch {
		case err == nil:
			c.fenceTo(t, next)
			t.ack()
			c.settled(t, as)
			return
		case errors.Is(err, ErrNacked) || errors.Is(err, ErrUnroutable):
			if try == copyTries {
				log.Error("the broker does not take a copy; the message is rejected, which makes it a dead letter", "error", err)
				c.fenceTo(t, t.at)
				t.reject(false)
				c.settled(t, OutcomeRejected)
				return
			}
			log.Warn("the broker does not take a copy", "error", err, "again_after", pause)
		default:
			log.Warn("a message is left unsettled, and comes again", "error", err)
			t.leave()
			c.settled(t, OutcomeUnsettled)
			return
		}
		select {
		case <-time.After(pause):
			pause *= 4
		case <-t.sub.over:
		case <-c.step.Done():
		}
	}
}
