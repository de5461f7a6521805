package loadgen

import (
	"context"
	"fmt"
	"time"
)

// usage is what the processes had used at the begin of something.
type usage struct {
	broker   *Broker
	own, cpu time.Duration
	rss      int64
}

func beginUsage(b *Broker) (u usage, err error) {
	u = usage{broker: b, own: OwnCPU()}
	if b.PID == 0 {
		return u, nil
	}
	if u.cpu, err = ProcessCPU(b.PID); err != nil {
		return u, err
	}
	u.rss, err = ResidentBytes(b.PID)
	return u, err
}

// end enters the difference.
func (u *usage) end(rep *Report) error {
	rep.ClientCPU = (OwnCPU() - u.own).Seconds()
	if u.broker.PID != 0 {
		cpu, err := ProcessCPU(u.broker.PID)
		if err != nil {
			return err
		}
		rss, err := ResidentBytes(u.broker.PID)
		if err != nil {
			return err
		}
		rep.Broker = &Usage{CPUSeconds: (cpu - u.cpu).Seconds(), RSSBefore: u.rss, RSSAfter: rss, RSSMax: max(u.rss, rss), RSSSettled: rss}
	}
	rep.finish(false)
	return nil
}

// settle is end, and once more the memory after a while.
func (u *usage) settle(ctx context.Context, rep *Report, wait time.Duration) error {
	if err := u.end(rep); err != nil {
		return err
	}
	return settleMemory(ctx, u.broker, rep, wait)
}

// settleMemory waits and enters the broker's memory then.
func settleMemory(ctx context.Context, b *Broker, rep *Report, wait time.Duration) error {
	if rep.Broker == nil || wait <= 0 {
		return nil
	}
	if err := rest(ctx, wait); err != nil {
		return err
	}
	rss, err := ResidentBytes(b.PID)
	if err != nil {
		return err
	}
	rep.Broker.RSSSettled = rss
	return nil
}

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	calmEvery = 200 * time.Millisecond
	calmShare = 20 // of a look, in percent of one processor
	calmMost  = 15 * time.Second
)

// Calm waits until the broker has done what an earlier load has left it to do,
// but not for ever. Without a PID it waits half a second.
func Calm(ctx context.Context, b *Broker) error {
	if b.PID == 0 {
		return rest(ctx, 500*time.Millisecond)
	}
	before, err := ProcessCPU(b.PID)
	if err != nil {
		return fmt.Errorf("the broker is gone: %w", err)
	}
	for end := time.Now().Add(calmMost); time.Now().Before(end); {
		if err := rest(ctx, calmEvery); err != nil {
			return err
		}
		now, err := ProcessCPU(b.PID)
		if err != nil {
			return fmt.Errorf("the broker is gone: %w", err)
		}
		if (now-before)*100 <= calmEvery*calmShare {
			return nil
		}
		before = now
	}
	return nil
}
