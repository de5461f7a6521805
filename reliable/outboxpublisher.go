package reliable

import (
	"context"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/outbox"
)

// OutboxPublisher publishes what the relay of an outbox takes from its table. Its
// messages are persistent, mandatory and confirmed, as those of a Publisher; what
// the broker cannot route or refuses stays in the table.
type OutboxPublisher struct {
	client *Client
	lane   *lane
}

var _ outbox.Publisher = (*OutboxPublisher)(nil)

// NewOutboxPublisher makes a publisher for one relay. It declares nothing: the
// exchanges and queues that the messages name have to be there. The client's Close
// ends it; stop the relay first.
func NewOutboxPublisher(c *Client) (*OutboxPublisher, error) {
	l, err := c.newLane(defaultWindow)
	if err != nil {
		return nil, err
	}
	return &OutboxPublisher{client: c, lane: l}, nil
}

// Publish implements outbox.Publisher. When the time for waiting is over, the
// message is not sent again by this client, but by the relay: so what it takes
// next cannot overtake it.
func (p *OutboxPublisher) Publish(ctx context.Context, m outbox.Message) (wait func(context.Context) error, err error) {
	headers, _ := tableOf(m.Headers).(amqp.Table)
	r := &Receipt{exchange: m.Exchange, key: m.RoutingKey, message: amqp.Publishing{
		MessageId: m.ID, DeliveryMode: amqp.Persistent, Timestamp: p.client.config.Clock.Now(), Body: m.Body, Headers: headers,
		ContentType: m.Properties.ContentType, ContentEncoding: m.Properties.ContentEncoding,
		CorrelationId: m.Properties.CorrelationID, ReplyTo: m.Properties.ReplyTo, Expiration: m.Properties.Expiration,
		Type: m.Properties.Type, AppId: m.Properties.AppID, Priority: m.Properties.Priority,
	}}
	if m.ID == "" {
		return nil, errors.New("reliable: a message of the outbox has no id")
	}
	p.client.observe(ctx, r, 0)
	if err := r.validate(); err != nil {
		return nil, err
	}
	if err := p.lane.submit(ctx, r); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		select {
		case <-r.Done():
			return r.Err()
		case <-ctx.Done():
			return p.lane.abandon(r, context.Cause(ctx))
		}
	}, nil
}

// tableOf turns maps into the client's tables, all the way down.
func tableOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return amqp.Table(nil)
		}
		t := make(amqp.Table, len(v))
		for name, value := range v {
			t[name] = tableOf(value)
		}
		return t
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = tableOf(v[i])
		}
		return list
	}
	return v
}
