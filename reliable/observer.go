package reliable

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Observer is told what happens, for traces and metrics. Its functions may be nil,
// are called by many goroutines, and must be quick. What happens around a handler
// is for a Middleware, which also gets the headers to take a trace from.
type Observer struct {
	// Publish is told of a message before it is sent, in the goroutine of its
	// publisher, and may add headers, such as traceparent. The function that it
	// returns, which may be nil, is called once with the outcome.
	Publish func(ctx context.Context, p *Publishing) (done func(error))
	// Settled is told what has become of a delivery.
	Settled func(d *Delivery, outcome Outcome)
}

// Publishing is a message that is about to be sent.
type Publishing struct {
	ID, Type      string
	Exchange, Key string
	BodyBytes     int
	Delay         time.Duration
	Headers       map[string]any // to add to; never nil
}

// Outcome is what has become of a delivery.
type Outcome string

// The outcomes. A retry or a dead letter counts when its copy is confirmed.
const (
	OutcomeDone       Outcome = "done"
	OutcomeRetry      Outcome = "retry"
	OutcomeDeadLetter Outcome = "dead-letter"
	OutcomeDropped    Outcome = "dropped"
	OutcomeSnoozed    Outcome = "snoozed"
	OutcomeGivenBack  Outcome = "given-back"
	OutcomeDuplicate  Outcome = "duplicate"
	OutcomeRejected   Outcome = "rejected" // the broker did not take its copy
	OutcomeUnsettled  Outcome = "unsettled"
)

// observe tells the observer of a publish.
func (c *Client) observe(ctx context.Context, r *Receipt, delay time.Duration) {
	if c.config.Observer.Publish == nil {
		return
	}
	m := &r.message
	p := &Publishing{ID: m.MessageId, Type: m.Type, Exchange: r.exchange, Key: r.key, BodyBytes: len(m.Body), Delay: delay, Headers: map[string]any{}}
	r.observed = c.config.Observer.Publish(ctx, p)
	for name, value := range p.Headers {
		if m.Headers == nil {
			m.Headers = amqp.Table{}
		}
		m.Headers[name] = value
	}
}

// settled tells the observer of a delivery's end.
func (c *Consumer) settled(t *task, o Outcome) {
	if f := c.client.config.Observer.Settled; f != nil {
		f(t.d, o)
	}
}
