package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// runner is one load while it runs.
type runner struct {
	cfg    *Config
	broker *Broker
	epoch  time.Time
	id     uint32 // marks the messages of this run

	publishers []*publisher
	consumers  []*consumer
	deaf       []*Client

	confirmTime, deliveryTime histogram
	refused, returned, empty  atomic.Int64
	blocked                   atomic.Int64 // connections with connection.blocked in force

	ending atomic.Bool // what breaks from now on was meant to
	failed chan error  // the first failure
}

// since is the run's clock, in nanoseconds.
func (r *runner) since() int64 { return int64(time.Since(r.epoch)) }

// Run carries out a load. It returns when the counts or the time are reached, or
// ctx ends: then the report is of what there was so far, and says Interrupted. With
// an error the report is of the time before it. What Run declared is deleted.
func Run(ctx context.Context, b *Broker, cfg *Config) (rep *Report, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	r := &runner{cfg: cfg, broker: b, epoch: time.Now(), id: rand.Uint32(), failed: make(chan error, 1)}
	t := &topology{broker: b, cfg: cfg}
	defer func() { err = errors.Join(err, t.cleanUp()) }()
	if err := t.declare(ctx); err != nil {
		return nil, err
	}
	defer r.hangUp()
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	rep, err = r.run(ctx)
	if rep != nil {
		rep.Server = t.server
	}
	if err != nil || rep.Interrupted {
		return rep, err
	}
	return rep, settleMemory(ctx, b, rep, cfg.Settle)
}

// connect opens all connections, fills the queues, and subscribes.
func (r *runner) connect(ctx context.Context) error {
	queue := func(i int) string { return r.cfg.Queues[i%len(r.cfg.Queues)] }
	if err := r.prefill(ctx); err != nil {
		return fmt.Errorf("putting %d messages in beforehand: %w", r.cfg.Prefill, err)
	}
	for i := range r.cfg.Producers {
		c, err := r.broker.dial(ctx)
		if err != nil {
			return fmt.Errorf("connection of publisher %d: %w", i+1, err)
		}
		p := newPublisher(r, c, i, queue(i), r.cfg.Confirm, r.cfg.TxSize)
		r.publishers = append(r.publishers, p)
		if err := during(ctx, c.nc, p.prepare); err != nil {
			return fmt.Errorf("channel of publisher %d: %w", i+1, err)
		}
	}
	for i := range r.cfg.Deaf {
		c, err := r.broker.dial(ctx)
		if err != nil {
			return fmt.Errorf("connection of a consumer that never reads: %w", err)
		}
		r.deaf = append(r.deaf, c)
		if err := during(ctx, c.nc, func() error { return subscribeDeaf(c, queue(i)) }); err != nil {
			return err
		}
	}
	for i := range r.cfg.Consumers {
		c, err := r.broker.dial(ctx)
		if err != nil {
			return fmt.Errorf("connection of consumer %d: %w", i+1, err)
		}
		k := newConsumer(r, c, queue(i))
		if err := during(ctx, c.nc, k.subscribe); err != nil {
			c.Close()
			return fmt.Errorf("consumer %d: %w", i+1, err)
		}
		r.consumers = append(r.consumers, k)
	}
	return nil
}

// prefillWindow is how many publishes of a prefill may be unconfirmed.
const prefillWindow = 2000

// prefill puts messages into the queues, batched and confirmed.
func (r *runner) prefill(ctx context.Context) error {
	n := len(r.cfg.Queues)
	for i, q := range r.cfg.Queues {
		count := r.cfg.Prefill / n
		if i < r.cfg.Prefill%n {
			count++
		}
		if count == 0 {
			continue
		}
		cfg := *r.cfg
		cfg.Batched, cfg.Rate, cfg.PublishCount = true, 0, int64(count)
		// A runner of its own, so that these messages are in no statistics.
		sub := &runner{cfg: &cfg, broker: r.broker, epoch: r.epoch, failed: make(chan error, 1)}
		c, err := r.broker.dial(ctx)
		if err != nil {
			return err
		}
		p := newPublisher(sub, c, 0, q, prefillWindow, 0)
		if err := during(ctx, c.nc, p.prepare); err != nil {
			c.Close()
			return err
		}
		if err := p.alone(ctx); err != nil {
			return err
		}
	}
	return nil
}

// alone publishes everything, waits for the confirms, and leaves.
func (p *publisher) alone(ctx context.Context) error {
	defer p.c.Close()
	stop := context.AfterFunc(ctx, func() { _ = p.c.nc.SetDeadline(time.Now()) })
	defer stop()
	read := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := p.read()
		cancel(err) // wakes the writer
		read <- err
	}()
	err := p.write(ctx)
	for err == nil && !p.finished() && ctx.Err() == nil {
		p.waiting.Store(true)
		if p.finished() {
			break
		}
		select {
		case <-p.room:
		case <-ctx.Done():
		}
	}
	complete := p.finished()
	_ = p.c.nc.SetDeadline(time.Now()) // ends the reader
	readErr := <-read
	switch {
	case complete:
		return nil
	case err != nil:
		return err
	}
	return readErr
}

// fail notes the first failure.
func (r *runner) fail(err error) {
	if err == nil || r.ending.Load() {
		return
	}
	select {
	case r.failed <- err:
	default:
	}
}

// run starts everybody, watches, and stops everybody.
func (r *runner) run(ctx context.Context) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer r.giveBack()
	if err := r.ownThreads(); err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	w := newWatch(r)
	r.start(ctx, &all)
	err := w.run(ctx)
	rep := w.report()
	r.ending.Store(true) // which ends those with a thread
	cancel()
	for _, p := range r.publishers {
		_ = p.c.nc.SetReadDeadline(time.Now())
		_ = p.c.nc.SetWriteDeadline(time.Now().Add(leaveTime / 2)) // a blocked one is cut off
	}
	for _, k := range r.consumers {
		_ = k.c.nc.SetReadDeadline(time.Now())
		_ = k.c.nc.SetWriteDeadline(time.Now().Add(leaveTime))
	}
	all.Wait()
	return rep, err
}

// start starts everybody.
func (r *runner) start(ctx context.Context, all *sync.WaitGroup) {
	spawn := func(who string, f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				r.fail(fmt.Errorf("%s: %w", who, err))
			}
		})
	}
	for i, k := range r.consumers {
		spawn(fmt.Sprintf("consumer %d", i+1), func() error { return k.c.reason(k.run(ctx)) })
	}
	for i, p := range r.publishers {
		who := fmt.Sprintf("publisher %d", i+1)
		if s, ok := p.c.nc.(*socket); ok {
			spawn(who, func() error { return p.c.reason(p.drive(s)) })
			continue
		}
		spawn(who, p.read)
		spawn(who, func() error { return p.write(ctx) })
	}
}

// ownThreads makes sockets of the connections that have a thread each: of a
// publisher that is the only one, and of such a consumer. One thread for several
// would read for all and then write for all, and so hand the broker batches that
// separate clients do not make. A poller has a goroutine: a thread saves the load no
// more than it costs the broker.
func (r *runner) ownThreads() error {
	if !r.broker.OwnThreads {
		return nil
	}
	if len(r.publishers) == 1 {
		if err := adopt(r.publishers[0].c, &r.ending); err != nil {
			return fmt.Errorf("connection of publisher 1: %w", err)
		}
	}
	if len(r.consumers) == 1 && !r.cfg.Polling {
		if err := adopt(r.consumers[0].c, &r.ending); err != nil {
			return fmt.Errorf("connection of consumer 1: %w", err)
		}
	}
	return nil
}

// giveBack undoes ownThreads.
func (r *runner) giveBack() {
	for _, p := range r.publishers {
		p.c.giveBack()
	}
	for _, k := range r.consumers {
		k.c.giveBack()
	}
}

// hangUp closes all connections: politely, all at once, those that are not in the
// middle of a frame.
func (r *runner) hangUp() {
	var wg sync.WaitGroup
	for _, c := range r.deaf {
		c.Close()
	}
	for _, p := range r.publishers {
		if p.c.cut.Load() { // the broker would not understand what comes next
			p.c.Close()
			continue
		}
		wg.Go(p.c.Leave)
	}
	for _, k := range r.consumers {
		if k.c.cut.Load() {
			k.c.Close()
			continue
		}
		wg.Go(func() {
			_ = k.c.nc.SetDeadline(time.Now().Add(leaveTime))
			_ = k.finish() // a failure is one of the connection, which ends now
			k.c.Leave()
		})
	}
	wg.Wait()
}
