package loadgen

import (
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a load leaves a goroutine behind. Loads that run in parallel
// have threads, which must leave processors for the broker in this process.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) * (1 + MaxLoops))
	goleak.VerifyTestMain(m)
}
