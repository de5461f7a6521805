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
