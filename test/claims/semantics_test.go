package claims

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

// What is delayed comes within one delay unit and 50 ms of its time, not before,
// and is published as if to the work queue itself.
func (p *peer) retriesKeepTheirSchedule(t *testing.T) { p.kinds(t, p.retriesKeepTheirScheduleIn) }

func (p *peer) retriesKeepTheirScheduleIn(t *testing.T, kind reliable.QueueType) {
	c, _ := p.open(t, reliable.Config{Queues: kind})
	q := p.queue(t, "schedule")
	type event struct {
		at  time.Time
		raw *reliable.Delivery
	}
	var seen claimtest.Log[event]
	const failing, messages = 50, 100
	consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		seen.Add(event{time.Now(), m.Delivery})
		switch {
		case m.Body.ID < failing && m.Attempt == 1:
			return errors.New("try again")
		case m.Body.ID < failing && m.Attempt == 2:
			return reliable.RetryAfter(errors.New("later"), 1100*time.Millisecond)
		case m.Body.ID == failing:
			return reliable.Permanent(errors.New("never"))
		}
		return nil
	}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(500 * time.Millisecond)}), reliable.Concurrency(4))
	pub := publisher[order](t, c, reliable.ToQueue(q))
	publishAll(t, pub, messages)
	begun := time.Now()
	if err := pub.Publish(within(t, patience), order{1000}, reliable.ID("delayed"), reliable.After(750*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	until(t, "all are settled", func() bool {
		return seen.Len() == messages+2*failing+1 && p.count(t, q.DeadLetterQueue()) == 1
	})
	const bound = reliable.DelayUnit + 50*time.Millisecond
	worst, last := time.Duration(0), map[string]time.Time{}
	for _, e := range seen.All() {
		wait := map[int]time.Duration{1: 0, 2: 500 * time.Millisecond, 3: 1100 * time.Millisecond}[e.raw.Attempt]
		from := last[e.raw.ID]
		if e.raw.ID == "delayed" {
			wait, from = 750*time.Millisecond, begun
		}
		if wait > 0 {
			worst = max(worst, e.at.Sub(from)-wait)
			if e.at.Sub(from) < wait {
				t.Errorf("attempt %d of %s came after %v, not %v", e.raw.Attempt, e.raw.ID, e.at.Sub(from), wait)
			}
			if e.raw.Exchange != "" || e.raw.Key != q.Name || e.raw.Attempt > 1 && e.raw.LastError == "" {
				t.Errorf("%+v", e.raw)
			}
		}
		last[e.raw.ID] = e.at
	}
	p.table.bound(t, "retries keep their schedule", "the latest of "+typeOf(kind)+" queues was late by", worst, bound)
}
