package reliable

import (
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// copyTries is how often a copy that the broker does not take is published before
// the original is rejected, so that the broker makes it a dead letter.
const copyTries = 3

// retry publishes a copy that comes after the delay, waits for its confirm, and
// then acknowledges the original. At every moment at least one of them is there;
// after a crash in between there can be both.
func (c *Consumer) retry(sub *subscription, d *Delivery, next decision) {
	m := copyOf(d)
	m.Headers[headerAttempt] = int64(d.Attempt + 1)
	recordFailure(m.Headers, d, next.err, c.client.config.Clock.Now())
	c.replace(sub, d, m, next.delay)
}

// republish is retry without counting an attempt.
func (c *Consumer) republish(sub *subscription, d *Delivery, delay time.Duration) {
	m := copyOf(d)
	m.Headers[headerAttempt] = int64(d.Attempt)
	c.replace(sub, d, m, delay)
}

// giveBack returns a message to its queue, uncounted: by basic.nack where that
// costs nothing, and else as a copy.
func (c *Consumer) giveBack(sub *subscription, d *Delivery, delay time.Duration) {
	if c.requeueIsFree() && (delay > 0 || c.life.Err() != nil) {
		// The broker must not deliver it here again at once.
		select {
		case <-sub.cancelled:
		case <-sub.over:
		case <-c.step.Done():
		}
		sub.settler.reject(d.message.DeliveryTag, true)
		return
	}
	c.republish(sub, d, delay)
}

// replace publishes m to come back after delay, and then acknowledges d.
func (c *Consumer) replace(sub *subscription, d *Delivery, m amqp.Publishing, delay time.Duration) {
	exchange, key := networkOf(c.kind).route(delay, c.queue.Name)
	c.move(sub, d, exchange, key, m)
}

// bury publishes a copy with the reason to the dead letters, and then acknowledges
// the original.
func (c *Consumer) bury(sub *subscription, d *Delivery, next decision) {
	now := c.client.config.Clock.Now()
	m := copyOf(d)
	m.Headers[headerAttempt] = int64(d.Attempt)
	m.Headers[headerReason] = next.reason
	m.Headers[headerQueue] = c.queue.Name
	m.Headers[headerDied] = now.UTC().Format(time.RFC3339Nano)
	recordFailure(m.Headers, d, next.err, now)
	c.move(sub, d, networkOf(c.kind).dlx(), c.queue.Name, m)
}

// move publishes m and, once the broker has it in a queue, acknowledges d. In any
// doubt d stays unsettled, and comes again when its channel ends. If the broker
// does not take m, it is asked to make d a dead letter itself.
func (c *Consumer) move(sub *subscription, d *Delivery, exchange, key string, m amqp.Publishing) {
	log := c.client.config.Logger.With("queue", c.queue.Name, "id", d.ID, "exchange", exchange)
	pause := 100 * time.Millisecond
	for try := 1; ; try++ {
		if sub.gone() { // the original is back in its queue: a copy would be a second one
			return
		}
		r := &Receipt{exchange: exchange, key: key, message: m}
		err := c.copies.publish(c.step, r)
		switch {
		case err == nil:
			sub.settler.ack(d.message.DeliveryTag)
			return
		case errors.Is(err, ErrNacked) || errors.Is(err, ErrUnroutable):
			if try == copyTries {
				log.Error("the broker does not take a copy; the message is rejected, which makes it a dead letter", "error", err)
				sub.settler.reject(d.message.DeliveryTag, false)
				return
			}
			log.Warn("the broker does not take a copy", "error", err, "again_after", pause)
		default:
			log.Warn("a message is left unsettled, and comes again", "error", err)
			return
		}
		select {
		case <-time.After(pause):
			pause *= 4
		case <-sub.over:
			return
		case <-c.step.Done():
			return
		}
	}
}
