package cli

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a command leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
