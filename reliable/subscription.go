package reliable

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/internal/link"
)

// errCancelled is that the server has ended the subscription, because the queue
// was deleted or has moved, or because an acknowledgement took too long.
var errCancelled = errors.New("the server has cancelled the consumer")

// errPaused is that a handler has asked for a pause.
var errPaused = errors.New("the consumer pauses")

// subscription is a consumer's channel on one connection, from basic.consume until
// the channel is lost or the server cancels it. Deliveries are settled on it or not
// at all.
type subscription struct {
	conn       *link.Conn
	ch         *amqp.Channel
	settler    *settler
	deliveries <-chan amqp.Delivery

	over      chan struct{} // closed when the channel is lost or closed
	finished  chan struct{} // closed by end
	ending    sync.Once
	cancelled chan struct{} // closed when nothing more is delivered
	cancelOne sync.Once
	open      atomic.Int64 // deliveries that are taken and not settled
}

const consumerTag = "reliable" // unique on its channel, which has one consumer

// subscribe declares the queue, opens a channel on conn and consumes.
func (c *Consumer) subscribe(ctx context.Context, conn *link.Conn) (*subscription, error) {
	s := &subscription{conn: conn, over: make(chan struct{}), finished: make(chan struct{}), cancelled: make(chan struct{})}
	if err := c.client.renew(ctx, c.link, conn); err != nil {
		return nil, err
	}
	own := c.queue.topology(c.client.networkOf(c.kind), c.client.server)
	if err := c.client.declareOn(ctx, conn, own); err != nil {
		return nil, err
	}
	err := await(ctx, func() (err error) {
		if s.ch, err = conn.Channel(); err != nil {
			return err
		}
		if err = s.ch.Qos(c.config.prefetch, 0, false); err != nil {
			return err
		}
		closes := s.ch.NotifyClose(make(chan *amqp.Error, 1))
		cancels := s.ch.NotifyCancel(make(chan string, 1))
		s.settler = newSettler(conn, s.ch)
		s.deliveries, err = s.ch.ConsumeWithContext(context.Background(), c.queue.Name, consumerTag, false, c.config.exclusive, false, false, nil)
		if err != nil {
			if s.ch.IsClosed() {
				if reason := <-closes; reason != nil {
					return reason
				}
			}
			return err
		}
		go s.follow(closes, cancels)
		return nil
	})
	if err != nil {
		if s.ch != nil {
			go s.ch.Close() // it is refused if the server has closed it already
		}
		return nil, err
	}
	go s.settler.run(s.over)
	return s, nil
}

// follow notices the end of the channel, and a cancel of the server's.
func (s *subscription) follow(closes chan *amqp.Error, cancels chan string) {
	for {
		select {
		case <-closes: // with a reason, or closed by the client
			close(s.over)
			s.end()
			return
		case _, ok := <-cancels:
			if !ok {
				cancels = nil // so does the closing of the channel
				continue
			}
			s.end()
		}
	}
}

// gone says that the channel is lost: nothing can be settled any more.
func (s *subscription) gone() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// end says that nothing more will be delivered.
func (s *subscription) end() { s.ending.Do(func() { close(s.finished) }) }

func (s *subscription) ended() bool {
	select {
	case <-s.finished:
		return true
	default:
		return false
	}
}

// cancel stops the deliveries. Those that are on hand still come out of
// s.deliveries, which is closed behind them.
func (s *subscription) cancel() {
	s.cancelOne.Do(func() {
		ctx, stop := context.WithTimeout(context.Background(), channelGoodbye)
		defer stop()
		if await(ctx, func() error { return s.ch.Cancel(consumerTag, false) }) != nil {
			s.close() // then nothing comes, either
		}
		close(s.cancelled)
	})
}

// close sends what is to be acknowledged and closes the channel. What is not
// settled goes back to its queue.
func (s *subscription) close() {
	ctx, stop := context.WithTimeout(context.Background(), channelGoodbye)
	defer stop()
	_ = await(ctx, func() error { // it ends with its connection at the latest
		s.settler.flush()
		return s.ch.Close()
	})
}

// keep holds the consumer subscribed until it stops.
func (c *Consumer) keep(sub *subscription) {
	defer close(c.keeper)
	for {
		fault := c.wait(sub)
		if c.life.Err() != nil {
			sub.cancel()
			c.finish()
			<-c.step.Done() // the handlers have ended, or were given up
			sub.settler.flush()
			if c.kind == Quorum && !sub.gone() {
				time.Sleep(c.client.server.settleTime())
			}
			sub.close()
			return
		}
		c.set(nil, fault)
		if fault == errPaused {
			c.rest(sub)
		} else {
			c.client.config.Logger.Warn("subscription lost", "queue", c.queue.Name, "error", fault)
		}
		sub.close()
		if sub = c.resubscribe(sub.conn.Epoch - 1); sub == nil {
			c.finish()
			return
		}
		c.set(sub, nil)
		c.client.config.Logger.Info("subscribed again", "queue", c.queue.Name)
	}
}

// rest takes a pause: the broker delivers no more, what is on hand is settled, and
// then the time passes.
func (c *Consumer) rest(sub *subscription) {
	sub.cancel()
	for settled := false; !settled; {
		select {
		case <-time.After(5 * time.Millisecond):
			settled = sub.ended() && sub.open.Load() == 0
		case <-sub.over:
			settled = true
		case <-c.life.Done():
			return
		}
	}
	for left := c.pause(); left > 0; left = c.pause() {
		wake := make(chan struct{})
		stop := c.client.config.Clock.AfterFunc(left, func() { close(wake) })
		select {
		case <-wake:
		case <-c.life.Done():
			stop()
			return
		}
	}
}

// finish tells the handlers that there will be no other subscription.
func (c *Consumer) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait returns when a subscription is over, with the reason, or the consumer stops.
func (c *Consumer) wait(sub *subscription) error {
	for {
		select {
		case <-c.life.Done():
			return nil
		case <-sub.over:
			if sub.conn.Over() {
				return sub.conn.Err()
			}
			return errors.New("the channel was closed")
		case <-sub.finished:
			if sub.gone() {
				continue
			}
			return errCancelled
		case <-c.pauses:
			if c.pause() > 0 {
				return errPaused
			}
		}
	}
}

// resubscribe tries until it succeeds or the consumer stops; then it returns nil.
func (c *Consumer) resubscribe(epoch uint64) *subscription {
	for attempt := 0; ; attempt++ {
		conn, err := c.link.Conn(c.life, epoch)
		if err != nil {
			return nil
		}
		if conn.Over() {
			epoch = conn.Epoch
			continue
		}
		sub, err := c.subscribe(c.life, conn)
		if err == nil {
			return sub
		}
		if c.life.Err() != nil {
			return nil
		}
		c.set(nil, err)
		if !conn.Over() {
			c.client.config.Logger.Warn("cannot subscribe", "queue", c.queue.Name, "error", err)
		}
		select {
		case <-conn.Done():
			epoch = conn.Epoch
		case <-c.life.Done():
			return nil
		case <-time.After(min(10*time.Second, 50*time.Millisecond<<min(attempt, 10))):
		}
	}
}
