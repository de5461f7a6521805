package reliable

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"
)

// Class is what a policy makes of an error that says nothing itself.
type Class int

// The classes of errors.
const (
	ClassRetry     Class = iota // try again by the Backoff
	ClassPermanent              // as if wrapped in Permanent
	ClassDrop                   // as if wrapped in Drop
)

// Backoff is how long a message waits after its attempt number n, counted from 1,
// has failed with err.
type Backoff func(n int, err error) time.Duration

// RetryPolicy is what becomes of messages whose handler has returned an error.
// The zero value means 10 attempts and, with jitter, delays of 1 s that double up
// to an hour.
type RetryPolicy struct {
	// MaxAttempts is how often the handler is tried, 1 to 1000. 0 means 10. A
	// message that failed that often becomes a dead letter.
	MaxAttempts int
	// Backoff is the delay before the next attempt; longer ones than MaxDelay are
	// cut. Nil means Exponential(time.Second, time.Hour).
	Backoff Backoff
	// InProcess is the longest delay that is waited out where the message is, so
	// that it keeps its place in front of others of its partition; longer ones are
	// spent in the broker. It occupies one of the consumer's slots. 0 means none.
	InProcess time.Duration
	// Classify decides about errors that are not wrapped in a decision such as
	// Permanent. Nil means that all are retried.
	Classify func(error) Class
}

const (
	defaultAttempts = 10
	maxAttempts     = 1000
	// maxInProcess keeps a message from being held for as long as servers let an
	// acknowledgement take.
	maxInProcess = time.Minute
)

func (p RetryPolicy) withDefaults() (RetryPolicy, error) {
	if p.MaxAttempts == 0 {
		p.MaxAttempts = defaultAttempts
	}
	if p.Backoff == nil {
		p.Backoff = Exponential(time.Second, time.Hour)
	}
	switch {
	case p.MaxAttempts < 1 || p.MaxAttempts > maxAttempts:
		return p, fmt.Errorf("reliable: RetryPolicy.MaxAttempts is %d, it has to be 1 to %d", p.MaxAttempts, maxAttempts)
	case p.InProcess < 0 || p.InProcess > maxInProcess:
		return p, fmt.Errorf("reliable: RetryPolicy.InProcess is %v, it has to be 0 to %v", p.InProcess, maxInProcess)
	}
	return p, nil
}

// Exponential is base after the first attempt, twice as long after each further
// one, at most limit; each with about a quarter more or less, by chance, so that
// what failed together does not come together.
func Exponential(base, limit time.Duration) Backoff {
	return Jitter(0.25, func(n int, _ error) time.Duration {
		if n > 40 || base > limit>>(n-1) {
			return limit
		}
		return base << (n - 1)
	})
}

// Schedule is an explicit list of delays: the first after the first attempt, and
// the last one for all further attempts.
func Schedule(delays ...time.Duration) Backoff {
	return func(n int, _ error) time.Duration {
		if len(delays) == 0 {
			return 0
		}
		return delays[min(n, len(delays))-1]
	}
}

// Jitter lengthens or shortens the delays of b by chance, by at most the fraction,
// 0 to 1. So that it costs the broker little, the result is rounded to a sum of two
// powers of two of DelayUnit, by at most a sixth.
func Jitter(fraction float64, b Backoff) Backoff {
	fraction = min(max(fraction, 0), 1)
	return func(n int, err error) time.Duration {
		d := b(n, err)
		if d <= 0 || fraction == 0 {
			return d
		}
		shift := time.Duration(float64(d) * fraction * (2*rand.Float64() - 1))
		return twoHops(d + shift)
	}
}

// twoHops is the nearest delay whose units have at most two bits.
func twoHops(d time.Duration) time.Duration {
	units := delayUnits(d)
	if bits.OnesCount64(units) > 2 {
		high := uint64(1) << (bits.Len64(units) - 1)
		next := uint64(1) << (bits.Len64(units&^high) - 1)
		below, above := high|next, high+2*next
		if units = below; above-delayUnits(d) < delayUnits(d)-below {
			units = above
		}
	}
	return time.Duration(units) * delayUnit
}

// judge decides what becomes of a message whose attempt has failed with err.
func (p *RetryPolicy) judge(attempt int, err error) decision {
	var d *decision
	var unreadable *DecodeError
	switch {
	case errors.As(err, &d):
		if d.verdict != toRetry {
			return decision{verdict: d.verdict, err: err, delay: d.delay, reason: d.reason}
		}
	case errors.As(err, &unreadable):
		return decision{verdict: toDead, err: err, reason: ReasonUnreadable}
	case p.Classify != nil:
		switch p.Classify(err) {
		case ClassPermanent:
			return decision{verdict: toDead, err: err, reason: ReasonPermanent}
		case ClassDrop:
			return decision{verdict: toDrop, err: err}
		}
	}
	if attempt >= p.MaxAttempts {
		return decision{verdict: toDead, err: err, reason: ReasonAttempts}
	}
	if d != nil && d.exact {
		return decision{verdict: toRetry, err: err, delay: d.delay}
	}
	return decision{verdict: toRetry, err: err, delay: p.Backoff(attempt, err)}
}
