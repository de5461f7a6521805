package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

const consumePrefetch = 100

// consume: 1 KB, each acknowledged, the same prefetch.
func (r *run) consume() error {
	for _, place := range places {
		if err := r.consumeAt(place.open, "consume 1 KB, prefetch 100, "+place.name); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) consumeAt(open func(*run) (*peer, error), what string) (err error) {
	p, err := open(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, ch, err := p.direct(nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Confirm(false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	client, err := reliable.Open(ctx, p.transport(), reliable.Config{})
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	fill := func() error {
		_, err := directWay(ch, 1000)(upTo(r.messages))
		return err
	}
	return r.compare(what, fill, consumeDirectly(conn, r.messages), consumeByToolkit(ctx, client, r.messages))
}

// upTo stops after n.
func upTo(n int) func() bool {
	return func() bool { n--; return n < 0 }
}

// consumeDirectly acknowledges each message by itself.
func consumeDirectly(conn *amqp.Connection, messages int) way {
	return func(func() bool) (n int, err error) {
		ch, err := conn.Channel()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, ch.Close()) }()
		if err := ch.Qos(consumePrefetch, 0, false); err != nil {
			return 0, err
		}
		deliveries, err := ch.Consume(queueName, "", false, false, false, false, nil)
		if err != nil {
			return 0, err
		}
		for d := range deliveries {
			if err := d.Ack(false); err != nil {
				return n, err
			}
			if n++; n == messages {
				return n, nil
			}
		}
		return n, amqp.ErrClosed
	}
}

// consumeByToolkit has a handler that does nothing.
func consumeByToolkit(ctx context.Context, client *reliable.Client, messages int) way {
	return func(func() bool) (int, error) {
		done := make(chan struct{})
		var n atomic.Int64
		c, err := reliable.Consume(ctx, client, reliable.Queue{Name: queueName, Existing: true, Type: reliable.Classic}, func(context.Context, *reliable.Message[[]byte]) error {
			if int(n.Add(1)) == messages {
				close(done)
			}
			return nil
		}, reliable.Prefetch(consumePrefetch))
		if err != nil {
			return 0, err
		}
		select {
		case <-done:
			return messages, c.Stop(ctx)
		case <-time.After(time.Minute):
			return int(n.Load()), errors.Join(errors.New("not all messages came within a minute"), c.Stop(ctx))
		}
	}
}
