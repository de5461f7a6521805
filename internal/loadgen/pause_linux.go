package loadgen

import (
	"runtime"
	"syscall"
	"time"
)

const (
	prSetTimerSlack = 29   // prctl(2)
	timerSlackNanos = 1000 // the default is 50,000
)

// precise ties a goroutine to a thread that wakes within microseconds of the
// time it asked for. The runtime's own timers may be a millisecond late, which
// would be counted as the broker's latency.
func precise() {
	runtime.LockOSThread() // for good: the thread ends with its goroutine
	_, _, _ = syscall.Syscall(syscall.SYS_PRCTL, prSetTimerSlack, timerSlackNanos, 0)
}

// pause waits.
func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // a signal ends it early; callers look at the clock again
}
