package cli

import (
	"os"
	"runtime"
)

// spareProcessors is how many more of the scheduler's processors `serve` has than the
// machine, or what it may use of it. The thread that syncs the log keeps one while it waits
// for the disk, until the runtime's monitor takes it away, and wants one back just when
// everybody is at work on what arrived meanwhile; what waits for the sync waits for that, too.
const spareProcessors = 1

// addProcessors gives a broker its spare processors until restore is called. GOMAXPROCS, if
// set, is obeyed.
func addProcessors() (restore func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + spareProcessors)
	return func() { runtime.GOMAXPROCS(before) }
}
