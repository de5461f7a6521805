package cli

import (
	"runtime"
	"testing"
)

// TestAddProcessors: one more until restore, and none where somebody has said how many.
func TestAddProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	for value, want := range map[string]int{"": before + spareProcessors, "2": before} {
		t.Setenv("GOMAXPROCS", value)
		restore := addProcessors()
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("GOMAXPROCS=%q: %d processors, want %d", value, got, want)
		}
		restore()
		if got := runtime.GOMAXPROCS(0); got != before {
			t.Errorf("GOMAXPROCS=%q: %d processors afterwards, want %d", value, got, before)
		}
	}
}
