//go:build !linux

package loadgen

import "time"

// precise does nothing here.
func precise() {}

// pause waits, perhaps a millisecond too long.
func pause(d time.Duration) { time.Sleep(d) }
