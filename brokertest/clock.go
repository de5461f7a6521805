package brokertest

import (
	"sort"
	"sync"
	"time"
)

// Clock is a broker's time in a test. It shows the machine's time plus what
// Advance has added; frozen, it only moves by Advance. It is safe for concurrent
// use.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
	frozen bool
	at     time.Time // while frozen
	timers map[*clockTimer]struct{}
}

// clockTimer is a call that is due at a time of the clock.
type clockTimer struct {
	at   time.Time
	f    func()
	real *time.Timer // nil while the clock is frozen
}

// NewClock returns a clock that shows the machine's time.
func NewClock() *Clock { return &Clock{timers: make(map[*clockTimer]struct{})} }

// Now implements broker.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() time.Time {
	if c.frozen {
		return c.at
	}
	return time.Now().Add(c.offset)
}

// AfterFunc implements broker.Clock.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &clockTimer{at: c.now().Add(d), f: f}
	c.timers[t] = struct{}{}
	c.start(t)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.remove(t)
	}
}

// start lets a timer run in real time, unless the clock is frozen.
func (c *Clock) start(t *clockTimer) {
	if c.frozen {
		return
	}
	t.real = time.AfterFunc(t.at.Sub(c.now()), func() {
		c.mu.Lock()
		due := c.remove(t)
		c.mu.Unlock()
		if due {
			t.f()
		}
	})
}

func (c *Clock) remove(t *clockTimer) bool {
	_, there := c.timers[t]
	delete(c.timers, t)
	if t.real != nil {
		t.real.Stop()
		t.real = nil
	}
	return there
}

// Freeze stops the clock: from now on it moves only by Advance.
func (c *Clock) Freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		return
	}
	c.at, c.frozen = c.now(), true
	for t := range c.timers {
		if t.real != nil {
			t.real.Stop()
			t.real = nil
		}
	}
}

// Next is when the next timer is due that somebody has set by this clock: the time
// to which Advance has to come for anything to happen. ok is false if there is none.
func (c *Clock) Next() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.timers {
		if !ok || t.at.Before(at) {
			at, ok = t.at, true
		}
	}
	return at, ok
}

// Advance moves the clock forward and carries out, in order, what has become
// due. When it returns, messages whose time to live has passed have expired.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	if c.frozen {
		c.at = c.at.Add(d)
	} else {
		c.offset += d
	}
	for {
		due := c.due()
		if len(due) == 0 {
			break
		}
		for _, t := range due {
			if !c.remove(t) {
				continue // stopped by one that was due before it
			}
			c.mu.Unlock()
			t.f() // may start new timers, which the next round sees
			c.mu.Lock()
		}
	}
	for t := range c.timers { // the rest is due that much sooner
		if t.real != nil {
			t.real.Stop()
		}
		c.start(t)
	}
	c.mu.Unlock()
}

// due returns the timers whose time has come, earliest first.
func (c *Clock) due() (list []*clockTimer) {
	now := c.now()
	for t := range c.timers {
		if !t.at.After(now) {
			list = append(list, t)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].at.Before(list[j].at) })
	return list
}
