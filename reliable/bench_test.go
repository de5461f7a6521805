//go:build unix

package reliable_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
)

// cpuPerMessage reports the processor time that the process used for a message, which
// includes the broker; other programs on the machine do not change it much.
func cpuPerMessage(b *testing.B, run func()) {
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	run()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/msg")
}

// BenchmarkPublish compares publishing 1 KB with confirms, through the package and
// with the client that it stands on, with the same window.
func BenchmarkPublish(b *testing.B) {
	body := make([]byte, 1024)
	for _, window := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("direct/window=%d", window), func(b *testing.B) {
			ch := plain(b, brokertest.New(b))
			ch.QueueDeclare("orders", true, false, false, false, amqp.Table{"x-max-length": int64(1000)})
			ch.Confirm(false)
			open := make([]*amqp.DeferredConfirmation, 0, window)
			b.ReportAllocs()
			b.ResetTimer()
			cpuPerMessage(b, func() {
				for i := range b.N {
					if len(open) == window {
						if !open[0].Wait() {
							b.Fatal("nacked")
						}
						open = append(open[:0], open[1:]...)
					}
					c, err := ch.PublishWithDeferredConfirm("", "orders", true, false, amqp.Publishing{
						ContentType: "application/octet-stream", DeliveryMode: amqp.Persistent, MessageId: fmt.Sprintf("%036d", i), Timestamp: time.Now(), Body: body})
					if err != nil {
						b.Fatal(err)
					}
					open = append(open, c)
				}
				for _, c := range open {
					c.Wait()
				}
			})
		})
		b.Run(fmt.Sprintf("reliable/window=%d", window), func(b *testing.B) {
			server := brokertest.New(b)
			plain(b, server).QueueDeclare("orders", true, false, false, false, amqp.Table{"x-max-length": int64(1000)})
			p := publisher[[]byte](b, open(b, server), reliable.ToQueue(reliable.Queue{Name: "orders", Existing: true}), reliable.Window(window))
			ctx := context.Background()
			receipts := make([]*reliable.Receipt, 0, window)
			b.ReportAllocs()
			b.ResetTimer()
			cpuPerMessage(b, func() {
				for range b.N {
					if window == 1 {
						if err := p.Publish(ctx, body); err != nil {
							b.Fatal(err)
						}
						continue
					}
					if len(receipts) == window {
						if err := receipts[0].Wait(ctx); err != nil {
							b.Fatal(err)
						}
						receipts = append(receipts[:0], receipts[1:]...)
					}
					r, err := p.PublishAsync(ctx, body)
					if err != nil {
						b.Fatal(err)
					}
					receipts = append(receipts, r)
				}
				for _, r := range receipts {
					r.Wait(ctx)
				}
			})
		})
	}
}

// BenchmarkConsume compares consuming 1 KB, each message acknowledged, through the
// package and with the client that it stands on, with the same prefetch.
func BenchmarkConsume(b *testing.B) {
	const prefetch = 100
	fill := func(b *testing.B) *brokertest.Broker {
		server := brokertest.New(b, broker.Config{MemoryLimitBytes: -1})
		ch := plain(b, server)
		ch.QueueDeclare("orders", true, false, false, false, nil)
		body := make([]byte, 1024)
		for i := range b.N {
			if err := ch.PublishWithContext(context.Background(), "", "orders", false, false, amqp.Publishing{
				ContentType: "application/octet-stream", DeliveryMode: amqp.Persistent, MessageId: fmt.Sprintf("%036d", i), Timestamp: time.Now(), Body: body}); err != nil {
				b.Fatal(err)
			}
		}
		until(b, "the queue is full", func() bool { return count(b, ch, "orders") == b.N })
		return server
	}
	b.Run("direct", func(b *testing.B) {
		ch := plain(b, fill(b))
		ch.Qos(prefetch, 0, false)
		b.ReportAllocs()
		b.ResetTimer()
		cpuPerMessage(b, func() {
			deliveries, err := ch.Consume("orders", "", false, false, false, false, nil)
			if err != nil {
				b.Fatal(err)
			}
			for range b.N {
				d := <-deliveries
				d.Ack(false)
			}
		})
	})
	b.Run("reliable", func(b *testing.B) {
		c := open(b, fill(b))
		done, n := make(chan struct{}), 0
		b.ReportAllocs()
		b.ResetTimer()
		cpuPerMessage(b, func() {
			consume(b, c, reliable.Queue{Name: "orders", Existing: true}, func(ctx context.Context, m *reliable.Message[[]byte]) error {
				if n++; n == b.N {
					close(done)
				}
				return nil
			}, reliable.Prefetch(prefetch))
			<-done
		})
	})
}
