package demo

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// returnsBuffered bounds the returned messages that wait to be looked at. The
// client stops reading when it is full, so it exceeds what any step provokes.
const returnsBuffered = 16

// publisher publishes in confirm mode on a channel of its own.
type publisher struct {
	ch      *amqp.Channel
	returns chan amqp.Return
	closed  chan *amqp.Error
	ledger  *ledger
}

// message is what a step publishes.
type message struct {
	exchange, key string
	id            string
	body          string
	headers       amqp.Table
	mandatory     bool
	// copies is how many queues the bindings promise it to: what the arrivals are
	// later compared with.
	copies int
}

// errRefused is a basic.nack: the broker could not take responsibility.
var errRefused = errors.New("the broker refused a message (nack instead of a confirm)")

// send publishes without waiting for the confirm.
func (p *publisher) send(ctx context.Context, m message) (*amqp.DeferredConfirmation, error) {
	confirm, err := p.ch.PublishWithDeferredConfirmWithContext(ctx, m.exchange, m.key, m.mandatory, false, amqp.Publishing{
		ContentType:  "application/json",
		DeliveryMode: amqp.Persistent, // survives a restart of a broker that stores, in a durable queue
		MessageId:    m.id,
		Headers:      m.headers,
		Body:         []byte(m.body),
	})
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", m.id, err)
	}
	p.ledger.count(func(t *Tally) { t.Published++; t.Routed += m.copies })
	return confirm, nil
}

// await waits until the broker has confirmed what was sent.
func (p *publisher) await(ctx context.Context, confirms ...*amqp.DeferredConfirmation) error {
	for _, c := range confirms {
		acked, err := c.WaitContext(ctx)
		switch {
		case err != nil:
			return err
		case acked:
			p.ledger.count(func(t *Tally) { t.Confirmed++ })
		case p.ch.IsClosed():
			return closeReason(p.closed) // the client reports open confirms as refused
		default:
			return errRefused
		}
	}
	return nil
}

// publish sends one message and waits for its confirm.
func (p *publisher) publish(ctx context.Context, m message) error {
	confirm, err := p.send(ctx, m)
	if err != nil {
		return err
	}
	return p.await(ctx, confirm)
}

// returned takes the oldest message the broker gave back. It does not wait: a
// broker sends basic.return before the confirm, so after the confirm it is here.
func (p *publisher) returned() (amqp.Return, bool) {
	select {
	case r := <-p.returns:
		p.ledger.count(func(t *Tally) { t.Returned++ })
		return r, true
	default:
		return amqp.Return{}, false
	}
}

// closeReason tells why a channel was closed: what the broker said, if anything.
// It is called once the client has begun to close it, and then has an answer soon.
func closeReason(closed <-chan *amqp.Error) error {
	if reason := <-closed; reason != nil {
		return reason
	}
	return amqp.ErrClosed
}
