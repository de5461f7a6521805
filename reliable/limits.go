package reliable

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// RateLimit bounds how many handlers begin in a second, over all of the consumer's;
// up to burst of them may begin at once. Attempts in place count, too.
func RateLimit(perSecond float64, burst int) ConsumeOption {
	return func(c *consumeConfig) { c.rate = &rateLimit{perSecond: perSecond, burst: burst} }
}

// rateLimit is a token bucket.
type rateLimit struct {
	perSecond float64
	burst     int

	mu   sync.Mutex
	next time.Time // when the bucket has its next token, if it is empty
}

func (r *rateLimit) validate() error {
	if !(r.perSecond > 0) || r.perSecond > 1e9 || r.burst < 1 {
		return fmt.Errorf("reliable: RateLimit(%v, %d): the rate has to be above 0 and at most 1e9, the burst at least 1", r.perSecond, r.burst)
	}
	return nil
}

// wait takes a token, as soon as there is one, unless ctx ends before.
func (r *rateLimit) wait(ctx context.Context) error {
	interval := time.Duration(float64(time.Second) / r.perSecond)
	r.mu.Lock()
	now := time.Now()
	if full := now.Add(-time.Duration(r.burst-1) * interval); r.next.Before(full) {
		r.next = full
	}
	due := r.next
	r.next = r.next.Add(interval)
	r.mu.Unlock()
	if !due.After(now) {
		return nil
	}
	return sleepUntil(ctx, due)
}

// Breaker pauses the consumer for d when so many attempts in a row have failed,
// because then it is not the messages that are at fault. After the pause a single
// further failure pauses again, and a success ends it. What is on hand meanwhile is
// given back without counting; the failures themselves count. Permanent, Drop,
// Snooze and Pause are no failures in this sense.
func Breaker(failures int, d time.Duration) ConsumeOption {
	return func(c *consumeConfig) { c.breaker = &breaker{limit: failures, pause: d} }
}

// breaker counts failures in a row.
type breaker struct {
	limit int
	pause time.Duration
	row   atomic.Int64
}

func (b *breaker) validate() error {
	if b.limit < 1 || b.pause <= 0 || b.pause > MaxDelay {
		return fmt.Errorf("reliable: Breaker(%d, %v): it takes at least 1 failure, and a pause above 0 and at most %v", b.limit, b.pause, MaxDelay)
	}
	return nil
}

// failed counts a failure, and says whether the consumer has to pause.
func (b *breaker) failed() bool { return b.row.Add(1) >= int64(b.limit) }

// succeeded forgets the failures.
func (b *breaker) succeeded() {
	if b.row.Load() != 0 {
		b.row.Store(0)
	}
}
