package reliable

import (
	"context"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/outbox"
)

// OutboxPublisher is what the relay of an outbox publishes with. The client's Close
// ends it.
func (c *Client) OutboxPublisher() (outbox.Publisher, error) {
	l, err := c.newLane(defaultWindow)
	if err != nil {
		return nil, err
	}
	return outbox.PublisherFunc(func(ctx context.Context, m outbox.Message) (func(context.Context) error, error) {
		if m.ID == "" {
			return nil, errors.New("reliable: a message of the outbox has no id")
		}
		p := m.Properties
		r := &Receipt{exchange: m.Exchange, key: m.RoutingKey, message: amqp.Publishing{
			ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: amqp.Persistent, Priority: p.Priority,
			CorrelationId: p.CorrelationID, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: m.ID,
			Timestamp: c.config.Clock.Now(), Type: p.Type, AppId: p.AppID, Body: m.Body,
		}}
		if len(m.Headers) > 0 {
			r.message.Headers, _ = asTable(m.Headers).(amqp.Table)
		}
		c.observe(ctx, r, 0)
		if err := r.validate(); err != nil {
			return nil, err
		}
		if err := l.submit(ctx, r); err != nil {
			return nil, err
		}
		return r.Wait, nil
	}), nil
}

// asTable turns maps into tables, which is what the AMQP client sends.
func asTable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		t := make(amqp.Table, len(v))
		for name, value := range v {
			t[name] = asTable(value)
		}
		return t
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = asTable(e)
		}
		return list
	}
	return v
}
