package topoplan

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/warrenmq/warren/reliable"
)

// Policy is a retry policy: how often a message is tried, and how long it waits in
// between.
type Policy struct {
	Attempts int             // 1 to MaxAttempts
	Delays   []time.Duration // explicit: the last one is for all further attempts; else
	Base     time.Duration   // after the first attempt
	Factor   float64         // from one delay to the next, 1 to 100
	Max      time.Duration   // longest
	Jitter   float64         // 0 to 1: by how much of it each delay varies, by chance
}

// MaxAttempts is the most attempts that package reliable allows.
const MaxAttempts = 1000

const maxFactor = 100

// Check says what is wrong with a policy, in the words of the command line.
func (p *Policy) Check() error {
	switch {
	case p.Attempts < 1 || p.Attempts > MaxAttempts:
		return fmt.Errorf("--attempts is %d, it has to be 1 to %d", p.Attempts, MaxAttempts)
	case !(p.Jitter >= 0 && p.Jitter <= 1):
		return fmt.Errorf("--jitter is %v, it has to be 0 to 1", p.Jitter)
	case len(p.Delays) > MaxAttempts:
		return fmt.Errorf("--delays has %d delays, at most %d are possible", len(p.Delays), MaxAttempts)
	}
	for _, d := range p.Delays {
		if d < 0 || d > reliable.MaxDelay {
			return fmt.Errorf("--delays: %v is not between 0 and %v", d, reliable.MaxDelay)
		}
	}
	if len(p.Delays) > 0 {
		return nil
	}
	switch {
	case p.Base <= 0 || p.Max <= 0:
		return errors.New("--base and --max have to be above 0")
	case p.Max > reliable.MaxDelay:
		return fmt.Errorf("--max is %v, the longest delay is %v", p.Max, reliable.MaxDelay)
	case p.Base > p.Max:
		return fmt.Errorf("--base is %v, more than --max, %v", p.Base, p.Max)
	case !(p.Factor >= 1 && p.Factor <= maxFactor):
		return fmt.Errorf("--factor is %v, it has to be 1 to %v", p.Factor, maxFactor)
	}
	return nil
}

// delay is the one after attempt n, counted from 1, without jitter.
func (p *Policy) delay(n int) time.Duration {
	if len(p.Delays) > 0 {
		return reliable.Schedule(p.Delays...)(n, nil)
	}
	d := float64(p.Base) * math.Pow(p.Factor, float64(n-1))
	if d > float64(p.Max) {
		return p.Max
	}
	return time.Duration(d)
}

// isDefaultForm says that reliable.Exponential is the policy's backoff.
func (p *Policy) isDefaultForm() bool { return len(p.Delays) == 0 && p.Factor == 2 && p.Jitter == 0.25 }

// Step is one wait of a message between two attempts.
type Step struct {
	Attempt  int           // that has failed
	Delay    time.Duration // without chance, in whole units; with jitter rounded to two levels
	Min, Max time.Duration // with jitter
	// Exchange and Key are where the copy with Delay is published, and Levels are
	// those that it waits in, in order. Without a delay it goes to the queue itself.
	Exchange, Key string
	Levels        []int
}

// Steps are the waits of a message of a queue that fails every time; t is Quorum or
// Classic.
func (p *Policy) Steps(t reliable.QueueType, queue string) []Step {
	var steps []Step
	for n := 1; n < p.Attempts; n++ {
		s := Step{Attempt: n, Delay: inUnits(p.delay(n))}
		s.Min, s.Max = s.Delay, s.Delay
		if p.Jitter > 0 && s.Delay > 0 {
			s.Min, s.Delay, s.Max = reliable.JitterRange(p.Jitter, p.delay(n))
		}
		s.Exchange, s.Key = reliable.DelayRoute(t, s.Delay, queue)
		s.Levels = levelsOf(s.Delay)
		steps = append(steps, s)
	}
	return steps
}

// inUnits rounds up to what the network can do.
func inUnits(d time.Duration) time.Duration {
	const unit = reliable.DelayUnit
	return (min(max(d, 0), reliable.MaxDelay) + unit - 1) / unit * unit
}

// levelsOf are the levels that a delay in whole units is spent in, longest first.
func levelsOf(d time.Duration) []int {
	levels := []int{}
	for units := uint64(d / reliable.DelayUnit); units != 0; {
		high := bits.Len64(units) - 1
		levels = append(levels, high)
		units &^= 1 << high
	}
	return levels
}

// Code is the policy as a Go expression.
func (p *Policy) Code() string {
	backoff := ""
	switch {
	case p.isDefaultForm():
		backoff = fmt.Sprintf("reliable.Exponential(%s, %s)", goDuration(p.Base), goDuration(p.Max))
	default:
		var list []string
		for _, d := range p.explicit() {
			list = append(list, goDuration(d))
		}
		backoff = "reliable.Schedule(" + strings.Join(list, ", ") + ")"
		if p.Jitter > 0 {
			backoff = fmt.Sprintf("reliable.Jitter(%v, %s)", p.Jitter, backoff)
		}
	}
	return fmt.Sprintf("reliable.Retry(reliable.RetryPolicy{MaxAttempts: %d, Backoff: %s})", p.Attempts, backoff)
}

// explicit is the policy's delays as a list whose last one goes on.
func (p *Policy) explicit() []time.Duration {
	if len(p.Delays) > 0 {
		return p.Delays
	}
	var list []time.Duration
	for n := 1; n < max(p.Attempts, 2); n++ {
		list = append(list, p.delay(n))
		if list[n-1] == p.Max {
			break
		}
	}
	return slices.Clip(list)
}

func goDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "time.Hour"}, {time.Minute, "time.Minute"}, {time.Second, "time.Second"}, {time.Millisecond, "time.Millisecond"}} {
		switch {
		case d == u.unit:
			return u.name
		case d > 0 && d%u.unit == 0:
			return fmt.Sprintf("%d*%s", d/u.unit, u.name)
		}
	}
	return fmt.Sprint(int64(d))
}
