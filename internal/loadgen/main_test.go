package loadgen

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a load leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
