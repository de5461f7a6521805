package engine

import "time"

// Clock is the engine's only source of time. A test passes its own.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own once d has passed, unless stop
	// is called first.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// SystemClock is the time of the machine.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// AfterFunc implements Clock.
func (SystemClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// continueTime lets time go on from the last batch in the log if the clock is more
// than a minute behind it. One of the two is wrong, and nobody knows which: a
// machine without a battery begins in 1970, another has been in the future for a
// while. In either case deadlines were counted by the clock of then, so a message
// has as much time left as it had when the last batch was written. The time since
// is lost to it, which is what brings both together again over some starts.
func (e *Engine) continueTime(lastMillis int64) {
	last := time.UnixMilli(lastMillis)
	behind := last.Sub(e.started)
	if behind <= maxClockLag || last.Year() > latestYear {
		return
	}
	e.logger.Warn("the clock is behind the last write in the data directory: times to live go on from there",
		"clock", e.started.UTC(), "last_write", last.UTC(), "behind", behind.Round(time.Second))
	e.timeBase.Store(last.UnixNano())
}

const (
	// maxClockLag is how far behind the last write a clock may be without more: a
	// deadline is that much late then.
	maxClockLag = time.Minute
	// latestYear bounds what is taken for a time at all: deadlines of ten years are
	// added to it.
	latestYear = 2200
)
