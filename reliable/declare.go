package reliable

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/internal/link"
)

// Declare declares a topology, now and again after each reconnect. That something
// exists with other arguments is an error, which wraps the *amqp.Error of the
// server. With Config.Passive it only checks that exchanges and queues exist.
func (c *Client) Declare(ctx context.Context, t Topology) error {
	c.declaring.Lock()
	defer c.declaring.Unlock()
	begun := time.Now()
	for epoch := uint64(0); ; {
		conn, err := connection(ctx, c.publish, epoch)
		if err != nil {
			return fmt.Errorf("reliable: declare: %w", err)
		}
		err = c.declareOn(ctx, conn, t)
		if err == nil {
			c.declared.Add(t)
			return nil
		}
		if ctx.Err() != nil || serverRefused(err) && !serverRecovers(err, begun) {
			return err
		}
		select { // the connection broke off
		case <-conn.Done():
			epoch = conn.Epoch
		case <-ctx.Done():
			return err
		}
	}
}

// serverRefused says that err is the server's answer, and not a lost connection.
func serverRefused(err error) bool {
	var answer *amqp.Error
	return errors.As(err, &answer) && answer.Server && answer.Code != amqp.ConnectionForced
}

// serverRecovery is how long internal errors of the server are taken for the end of
// a crash. RabbitMQ closes connections with them while it listens again and a quorum
// queue has no leader yet.
const serverRecovery = 10 * time.Second

// serverRecovers says that what was begun then is worth another try, on the next
// connection, although the server has refused it with err.
func serverRecovers(err error, begun time.Time) bool {
	var answer *amqp.Error
	return errors.As(err, &answer) && answer.Code == amqp.InternalError && time.Since(begun) < serverRecovery
}

// Topology is what Declare declares for the queues, with everything that their
// retries and dead letters need on this client's server.
func (c *Client) Topology(queues ...Queue) (Topology, error) {
	return topologyOf(c.server, c.config.Namespace, c.queues, queues)
}

// renew declares again what was declared before, once for each connection. What
// fails is logged: the messages that it concerns come to show it.
func (c *Client) renew(ctx context.Context, l *link.Link, conn *link.Conn) error {
	c.declaring.Lock()
	defer c.declaring.Unlock()
	if conn.Epoch == 1 || c.renewed[l] >= conn.Epoch {
		return nil
	}
	err := c.declareOn(ctx, conn, c.declared)
	switch {
	case err == nil:
	case serverRefused(err):
		c.config.Logger.Error("cannot declare the topology again", "error", err)
	default:
		return err // the connection is gone: the next one tries again
	}
	c.renewed[l] = conn.Epoch
	return nil
}

// declareOn declares t on a channel of its own.
func (c *Client) declareOn(ctx context.Context, conn *link.Conn, t Topology) error {
	err := await(ctx, func() error {
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		closes := ch.NotifyClose(make(chan *amqp.Error, 1))
		defer ch.Close() // after an error it is closed already
		if c.config.Passive {
			return t.check(ch)
		}
		conn.Cork()
		err = t.declare(ch)
		conn.Uncork()
		// Any answer tells that all were accepted: setting the prefetch changes
		// nothing on this channel.
		if err == nil {
			err = ch.Qos(1, 0, false)
		}
		if err != nil && ch.IsClosed() {
			if reason := <-closes; reason != nil {
				return reason
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reliable: declare: %w%s", err, c.adviceFor(err))
	}
	return nil
}

// adviceFor says what to do about a declaration that the server refuses.
func (c *Client) adviceFor(err error) string {
	refused, ok := errors.AsType[*amqp.Error](err)
	switch {
	case !ok:
		return ""
	case refused.Code == amqp.PreconditionFailed:
		return "; it exists and is declared otherwise here: declare what it is (Queue.Type, DeliveryLimit, Arguments), leave it to others (Queue.Existing), or delete it"
	case refused.Code == amqp.AccessRefused && !c.config.Passive:
		return "; this user may not declare: let somebody do it who may (warren topology apply), and set Config.Passive"
	case refused.Code == amqp.NotFound && c.config.Passive:
		return "; Config.Passive declares nothing: somebody else has to (warren topology apply)"
	}
	return ""
}

// await calls f, and stops waiting for it when ctx ends. A call of the AMQP
// client cannot be interrupted; it ends with its answer or its connection.
func await(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// declare sends all declarations and does not wait for answers.
func (t *Topology) declare(ch *amqp.Channel) (err error) {
	const noWait = true
	for _, e := range t.Exchanges {
		err = errors.Join(err, ch.ExchangeDeclare(e.Name, e.Type, e.Durable, e.AutoDelete, e.Internal, noWait, e.Arguments))
	}
	for _, q := range t.Queues {
		_, qerr := ch.QueueDeclare(q.Name, q.Durable, q.AutoDelete, false, noWait, q.Arguments)
		err = errors.Join(err, qerr)
	}
	for _, b := range t.Bindings {
		if b.DestinationType == "exchange" {
			err = errors.Join(err, ch.ExchangeBind(b.Destination, b.RoutingKey, b.Source, noWait, b.Arguments))
		} else {
			err = errors.Join(err, ch.QueueBind(b.Destination, b.RoutingKey, b.Source, noWait, b.Arguments))
		}
	}
	return err
}

// check looks whether exchanges and queues exist. Bindings cannot be looked at.
func (t *Topology) check(ch *amqp.Channel) error {
	for _, e := range t.Exchanges {
		if err := ch.ExchangeDeclarePassive(e.Name, e.Type, e.Durable, e.AutoDelete, e.Internal, false, nil); err != nil {
			return err
		}
	}
	for _, q := range t.Queues {
		if _, err := ch.QueueDeclarePassive(q.Name, q.Durable, q.AutoDelete, false, false, nil); err != nil {
			return err
		}
	}
	return nil
}
