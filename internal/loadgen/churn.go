package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// Churn is a load that opens and closes.
type Churn struct {
	Workers  int           `json:"workers"`  // that do so at the same time
	Channels bool          `json:"channels"` // channels of one connection each, instead of connections with a channel
	Duration time.Duration `json:"duration_ns"`
	Count    int64         `json:"count,omitempty"` // for each worker, 0 for no limit
}

// RunChurn opens and closes connections (or channels) as fast as the broker
// answers; Operations is how many.
func RunChurn(ctx context.Context, b *Broker, c *Churn) (*Report, error) {
	if c.Workers < 1 || c.Workers > maxWorkers {
		return nil, fmt.Errorf("%d is no number of workers: it goes from 1 to %d", c.Workers, maxWorkers)
	}
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u, err := beginUsage(b)
	if err != nil {
		return nil, err
	}
	server, err := Server(ctx, b)
	if err != nil {
		return nil, err
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, c.Workers)
	start := time.Now()
	if c.Duration > 0 { // a broker that does not answer at all
		ctx, cancel = context.WithTimeout(ctx, c.Duration+churnGrace)
		defer cancel()
	}
	more := func(n int64) bool {
		return (c.Count == 0 || n < c.Count) && (c.Duration == 0 || time.Since(start) < c.Duration) && ctx.Err() == nil
	}
	for range c.Workers {
		wg.Go(func() {
			work := b.churnConnections
			if c.Channels {
				work = b.churnChannels
			}
			if err := work(ctx, more, &done); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	wg.Wait()
	rep := &Report{Server: server, Seconds: time.Since(start).Seconds(), Operations: done.Load(), Interrupted: parent.Err() != nil}
	err = u.end(rep)
	select {
	case first := <-failed:
		if !rep.Interrupted {
			err = errors.Join(first, err)
		}
	default:
	}
	return rep, err
}

// churnConnections opens connections with a channel and closes them.
func (b *Broker) churnConnections(ctx context.Context, more func(n int64) bool, done *atomic.Int64) error {
	for n := int64(0); more(n); n++ {
		c, err := b.dial(ctx)
		if err != nil {
			return err
		}
		err = during(ctx, c.nc, func() error {
			return c.CallOn(0, &wire.ConnectionClose{ReplyCode: 200, ReplyText: "done"}, wire.IDConnectionCloseOk)
		})
		c.Close()
		if err != nil {
			return err
		}
		done.Add(1)
	}
	return nil
}

// churnChannels opens and closes a channel of one connection.
func (b *Broker) churnChannels(ctx context.Context, more func(n int64) bool, done *atomic.Int64) error {
	c, err := b.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Leave()
	return during(ctx, c.nc, func() error {
		for n := int64(0); more(n); n++ {
			if err := c.CallOn(probeChannel, &wire.ChannelOpen{}, wire.IDChannelOpenOk); err != nil {
				return err
			}
			if err := c.CallOn(probeChannel, &wire.ChannelClose{ReplyCode: 200}, wire.IDChannelCloseOk); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
}

// churnGrace is how long the last answers may take.
const churnGrace = 10 * time.Second

// idleOpeners is how many connections RunIdle opens at the same time.
const idleOpeners = 16

// RunIdle opens connections, each with a channel, lets the broker settle, and
// closes them. Operations is how many; Usage.RSSSettled less RSSBefore is what they
// take.
func RunIdle(ctx context.Context, b *Broker, connections int, settle time.Duration) (*Report, error) {
	if connections < 1 || connections > maxWorkers {
		return nil, fmt.Errorf("%d is no number of connections: it goes from 1 to %d", connections, maxWorkers)
	}
	server, err := Server(ctx, b)
	if err != nil {
		return nil, err
	}
	u, err := beginUsage(b)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var next atomic.Int64
	open := make([]*Client, connections)
	start := time.Now()
	for range idleOpeners {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(connections) && ctx.Err() == nil; i = next.Add(1) - 1 {
				c, err := b.dial(ctx)
				if err != nil {
					cancel(fmt.Errorf("connection %d: %w", i+1, err))
					return
				}
				open[i] = c
			}
		})
	}
	wg.Wait()
	rep := &Report{Server: server, Seconds: time.Since(start).Seconds(), Operations: int64(connections)}
	err = context.Cause(ctx)
	if err == nil {
		err = u.settle(ctx, rep, settle)
	}
	for _, c := range open {
		if c != nil {
			wg.Go(func() {
				c.Leave()
			})
		}
	}
	wg.Wait()
	return rep, err
}

// Server logs in once and returns what the broker calls itself, such as "RabbitMQ 4.3.0".
func Server(ctx context.Context, b *Broker) (string, error) {
	c, err := b.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Leave()
	return c.Server(), nil
}
