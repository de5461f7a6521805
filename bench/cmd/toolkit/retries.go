package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/reliable"
)

const (
	retriesPerSecond = 1000
	tick             = 10 * time.Millisecond
)

var errOnPurpose = errors.New("fails on purpose")

// delays are what messages wait, in turn: one level of the delay network, or
// several, and times between two units.
var delays = []time.Duration{
	250 * time.Millisecond, time.Second, 1100 * time.Millisecond, 1750 * time.Millisecond, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5900 * time.Millisecond,
}

// punctuality: each message fails once, and its handler asks for a delay. How much
// later than that it comes again.
func (r *run) punctuality() (err error) {
	p, err := r.inside("retries")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	ctx, cancel := context.WithTimeout(context.Background(), r.retries+time.Minute)
	defer cancel()
	queue := reliable.Queue{Name: queueName}
	client, to, err := p.publisher(ctx, reliable.Config{}, queue)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	total := int(r.retries.Seconds()) * retriesPerSecond
	again := newAgain(total)
	if _, err := reliable.Consume(ctx, client, queue, again.handle, reliable.Prefetch(1000), reliable.Concurrency(4)); err != nil {
		return err
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for i := 0; i < total; {
		<-ticker.C
		for range int(tick.Seconds() * retriesPerSecond) {
			body := binary.BigEndian.AppendUint64(make([]byte, 0, bodyBytes), uint64(i))
			if _, err := to.PublishAsync(ctx, body[:bodyBytes]); err != nil {
				return err
			}
			i++
		}
	}
	select {
	case <-again.done:
	case <-ctx.Done():
		return errors.New("not all messages came again")
	}
	late := again.late
	slices.Sort(late)
	at := func(share float64) time.Duration { return late[int(share*float64(total-1))] }
	r.row(fmt.Sprintf("%d retries, 1,000/s: later than asked for", total),
		fmt.Sprintf("%v to %v, p50 %v, p99 %v", at(0), at(1), at(0.5), at(0.99)), "0 to 300 ms")
	return nil
}

// again notes when messages fail and when they come again.
type again struct {
	done chan struct{}

	mu     sync.Mutex
	failed []time.Time
	late   []time.Duration
}

func newAgain(total int) *again {
	return &again{done: make(chan struct{}), failed: make([]time.Time, total), late: make([]time.Duration, 0, total)}
}

func (a *again) handle(_ context.Context, m *reliable.Message[[]byte]) error {
	now := time.Now()
	i := int(binary.BigEndian.Uint64(m.Body))
	d := delays[i%len(delays)]
	a.mu.Lock()
	defer a.mu.Unlock()
	if m.Attempt == 1 {
		a.failed[i] = now
		return reliable.RetryAfter(errOnPurpose, d)
	}
	a.late = append(a.late, (now.Sub(a.failed[i]) - d).Round(100*time.Microsecond))
	if len(a.late) == cap(a.late) {
		close(a.done)
	}
	return nil
}

// waitingRetries: what messages that wait for their retry take of the memory of
// the program, which is not the broker.
func (r *run) waitingRetries() (err error) {
	p, err := r.outside("waiting")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var retried atomic.Int64
	queue := reliable.Queue{Name: queueName}
	client, to, err := p.publisher(ctx, reliable.Config{Observer: reliable.Observer{
		Settled: func(_ *reliable.Delivery, o reliable.Outcome) {
			if o == reliable.OutcomeRetry {
				retried.Add(1)
			}
		},
	}}, queue)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	if _, err := reliable.Consume(ctx, client, queue, func(context.Context, *reliable.Message[[]byte]) error {
		return reliable.RetryAfter(errOnPurpose, time.Hour)
	}); err != nil {
		return err
	}
	fail := func(n int) error {
		before := retried.Load()
		body := make([]byte, bodyBytes)
		for range n {
			if _, err := to.PublishAsync(ctx, body); err != nil {
				return err
			}
		}
		for retried.Load() < before+int64(n) {
			select {
			case <-time.After(tick):
			case <-ctx.Done():
				return fmt.Errorf("only %d of %d messages were put off", retried.Load()-before, n)
			}
		}
		return nil
	}
	if err := fail(r.waiting / 10); err != nil { // what the program needs in any case
		return err
	}
	heap, resident := memory()
	if err := fail(r.waiting); err != nil {
		return err
	}
	heapAfter, residentAfter := memory()
	r.row(fmt.Sprintf("%d messages of 1 KB wait an hour: the program's heap", r.waiting), fmt.Sprintf("%.2f MB, before them %.2f MB", heapAfter, heap), "no growth")
	r.row("the same: resident", fmt.Sprintf("%.1f MB, before them %.1f MB", residentAfter, resident), "no growth")
	return nil
}

// memory is what this process has on its heap, and has resident, in MB, once
// garbage is collected. Resident is 0 where there is no /proc.
func memory() (heap, resident float64) {
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what the first has finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	rss, _ := loadgen.ResidentBytes(os.Getpid())
	return float64(m.HeapAlloc) / 1e6, float64(rss) / 1e6
}
