// Command crosscheck loads a broker with the official Go client, github.com/rabbitmq/amqp091-go,
// as a program that uses it would, and prints the rates: an independent look at
// what `warren bench` says. It shares no code with it.
//
//	go run ./bench/cmd/crosscheck -url amqp://localhost:5672 -size 1000 -persistent -window 256 -ack 100 -prefetch 1000
//
// One publisher and one consumer, each with a connection of its own. The client
// allocates, and hands each message over between goroutines, so it costs several times
// what warren bench does; where load and broker share the processors, its rates are lower for
// that reason. What must agree is which broker is how much faster where the broker is the
// limit, and that no broker is slower than what warren bench says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// load is what to do.
type load struct {
	url                   string
	size, window          int
	ack, prefetch         int
	persistent            bool
	length, warmup        time.Duration
	sent, confirmed, came atomic.Int64
}

func main() {
	var l load
	flag.StringVar(&l.url, "url", "amqp://localhost:5672", "broker")
	flag.IntVar(&l.size, "size", 16, "bytes of a message")
	flag.IntVar(&l.window, "window", 0, "unconfirmed publishes, 0 for no confirms")
	flag.IntVar(&l.ack, "ack", 0, "deliveries of one ack, 0 for none")
	flag.IntVar(&l.prefetch, "prefetch", 0, "deliveries that may be unacknowledged")
	flag.BoolVar(&l.persistent, "persistent", false, "persistent messages")
	flag.DurationVar(&l.length, "time", 10*time.Second, "length of the measurement")
	flag.DurationVar(&l.warmup, "warmup", 2*time.Second, "time before it")
	flag.Parse()
	if err := l.run(); err != nil {
		fmt.Fprintln(os.Stderr, "crosscheck:", err)
		os.Exit(1)
	}
}

// run starts both sides, and measures.
func (l *load) run() (err error) {
	if l.size < 0 || l.window < 0 || l.ack < 0 || l.prefetch < 0 || l.length <= 0 || l.warmup < 0 {
		return errors.New("no flag may be negative, and -time must be positive")
	}
	if l.prefetch > 0 && l.ack > l.prefetch {
		return fmt.Errorf("with a prefetch of %d the %d deliveries of one ack never come together", l.prefetch, l.ack)
	}
	control, admin, err := l.open()
	if err != nil {
		return err
	}
	defer control.Close()
	queue := fmt.Sprintf("crosscheck-%d", os.Getpid())
	if _, err := admin.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		return err
	}
	defer func() {
		_, deleteErr := admin.QueueDelete(queue, false, false, false)
		err = errors.Join(err, deleteErr)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), l.warmup+l.length)
	defer cancel()
	failed, consumed := make(chan error, 2), make(chan struct{})
	go func() {
		defer close(consumed)
		failed <- l.consume(ctx, queue)
	}()
	published := make(chan struct{})
	go func() {
		defer close(published)
		failed <- l.publish(ctx, queue)
	}()
	defer func() { <-published; <-consumed }()
	if err := l.wait(ctx, failed, l.warmup); err != nil {
		cancel()
		return err
	}
	start := time.Now()
	sent, confirmed, came := l.sent.Load(), l.confirmed.Load(), l.came.Load()
	if err := l.wait(ctx, failed, l.length); err != nil {
		cancel()
		return err
	}
	rate := func(n *atomic.Int64, before int64) float64 {
		return float64(n.Load()-before) / time.Since(start).Seconds()
	}
	in := rate(&l.sent, sent)
	if l.window > 0 {
		in = rate(&l.confirmed, confirmed)
	}
	fmt.Printf("in %.0f/s  out %.0f/s\n", in, rate(&l.came, came))
	return nil
}

// wait is a part of the time, unless somebody fails.
func (l *load) wait(ctx context.Context, failed <-chan error, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case err := <-failed:
		return err // nil is the end of ctx
	}
	return nil
}

func (l *load) open() (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.Dial(l.url)
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, ch, nil
}

// publish sends as much as the window and the broker let it.
func (l *load) publish(ctx context.Context, queue string) error {
	conn, ch, err := l.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	m := amqp.Publishing{Body: make([]byte, l.size), DeliveryMode: amqp.Transient}
	if l.persistent {
		m.DeliveryMode = amqp.Persistent
	}
	if l.window == 0 {
		for ctx.Err() == nil {
			if err := ch.PublishWithContext(ctx, "", queue, false, false, m); err != nil {
				return err
			}
			l.sent.Add(1)
		}
		return nil
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	window := make(chan struct{}, l.window)
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, l.window))
	go func() {
		for range confirms {
			l.confirmed.Add(1)
			<-window
		}
	}()
	for {
		select {
		case window <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		if err := ch.PublishWithContext(ctx, "", queue, false, false, m); err != nil {
			return err
		}
		l.sent.Add(1)
	}
}

// consume takes what comes until the end.
func (l *load) consume(ctx context.Context, queue string) error {
	conn, ch, err := l.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Qos(l.prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(queue, "", l.ack == 0, false, false, false, nil)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return errors.New("the consumer's channel was closed")
			}
			l.came.Add(1)
			if l.ack > 0 && n%l.ack == 0 {
				if err := d.Ack(true); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}
