package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

const (
	bodyBytes = 1024
	queueName = "orders"
)

var errNacked = errors.New("a publish was nacked")

// places are where the broker can be.
var places = []struct {
	name string
	open func(*run) (*peer, error)
}{
	{"broker elsewhere", func(r *run) (*peer, error) { return r.outside("") }},
	{"broker in the process", func(r *run) (*peer, error) { return r.inside("") }},
}

// publish: 1 KB with confirms, the same window.
func (r *run) publish() error {
	for _, place := range places {
		for _, window := range []int{1, 100, 1000} {
			if err := r.publishAt(place.open, fmt.Sprintf("publish 1 KB, window %d, %s", window, place.name), window); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) publishAt(open func(*run) (*peer, error), what string, window int) (err error) {
	p, err := open(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, ch, err := p.direct(amqp.Table{"x-max-length": int64(1000)})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Confirm(false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // as programs do, it has a deadline
	defer cancel()
	client, to, err := p.publisher(ctx, reliable.Config{}, reliable.Queue{Name: queueName, Existing: true}, reliable.Window(window))
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	toolkit := asyncWay(ctx, to, window)
	if window == 1 {
		toolkit = syncWay(ctx, to)
	}
	return r.compare(what, func() error { return nil }, directWay(ch, window), toolkit)
}

// direct is a connection of the client that the toolkit stands on, with a queue.
func (p *peer) direct(arguments amqp.Table) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.DialConfig(p.url, amqp.Config{Dial: p.dial, Heartbeat: 10 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueueDeclare(queueName, true, false, false, false, arguments)
	}
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, ch, nil
}

// transport is the peer for the toolkit.
func (p *peer) transport() reliable.Transport {
	return reliable.Transport{URLs: []string{p.url}, Dialer: p}
}

// directWay publishes what the toolkit does, but for the type of id.
func directWay(ch *amqp.Channel, window int) way {
	body := make([]byte, bodyBytes)
	return func(stop func() bool) (n int, err error) {
		open := make([]*amqp.DeferredConfirmation, 0, window)
		for ; !stop(); n++ {
			if len(open) == window {
				if !open[0].Wait() {
					return n, errNacked
				}
				open = append(open[:0], open[1:]...)
			}
			c, err := ch.PublishWithDeferredConfirm("", queueName, true, false, amqp.Publishing{
				ContentType: "application/octet-stream", DeliveryMode: amqp.Persistent, MessageId: fmt.Sprintf("%036d", n), Timestamp: time.Now(), Body: body})
			if err != nil {
				return n, err
			}
			open = append(open, c)
		}
		for _, c := range open {
			if !c.Wait() {
				return n, errNacked
			}
		}
		return n, nil
	}
}

// syncWay waits for each confirm.
func syncWay(ctx context.Context, to *reliable.Publisher[[]byte]) way {
	body := make([]byte, bodyBytes)
	return func(stop func() bool) (n int, err error) {
		for ; !stop(); n++ {
			if err := to.Publish(ctx, body); err != nil {
				return n, err
			}
		}
		return n, nil
	}
}

// asyncWay has a window of receipts.
func asyncWay(ctx context.Context, to *reliable.Publisher[[]byte], window int) way {
	body := make([]byte, bodyBytes)
	return func(stop func() bool) (n int, err error) {
		open := make([]*reliable.Receipt, 0, window)
		for ; !stop(); n++ {
			if len(open) == window {
				if err := open[0].Wait(ctx); err != nil {
					return n, err
				}
				open = append(open[:0], open[1:]...)
			}
			receipt, err := to.PublishAsync(ctx, body)
			if err != nil {
				return n, err
			}
			open = append(open, receipt)
		}
		for _, receipt := range open {
			if err := receipt.Wait(ctx); err != nil {
				return n, err
			}
		}
		return n, nil
	}
}

// async: the rate at which the broker in the process takes persistent messages to
// its disk. Who publishes waits for places in the window only, and in the end for
// all confirms.
func (r *run) async() error {
	for _, window := range []int{1000, 10_000} {
		if err := r.asyncAt(window); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) asyncAt(window int) (err error) {
	p, err := r.inside("async")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, to, err := p.publisher(ctx, reliable.Config{}, reliable.Queue{Name: queueName, Arguments: amqp.Table{"x-max-length": int64(100_000)}}, reliable.Window(window))
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	body := make([]byte, bodyBytes)
	start, n := time.Now(), 0
	for ; n%64 != 0 || n == 0 || time.Since(start) < 6*r.duration; n++ {
		if _, err := to.PublishAsync(ctx, body); err != nil {
			return err
		}
	}
	if err := to.Close(ctx); err != nil {
		return err
	}
	r.row(fmt.Sprintf("async, 1 KB persistent to disk, window %d", window), fmt.Sprintf("%.0f/s", float64(n)/time.Since(start).Seconds()), "at least 100,000/s")
	return nil
}
