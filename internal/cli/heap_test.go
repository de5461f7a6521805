package cli

import (
	"context"
	"slices"
	"testing"
)

// TestHeapKeeper: the share follows the heap, in steps, and memory is given back
// once after each busy time.
func TestHeapKeeper(t *testing.T) {
	var percents []int
	returned := 0
	k := &heapKeeper{setPercent: func(p int) { percents = append(percents, p) }, giveBack: func() { returned++ }}
	const mb = 1 << 20
	allocs := uint64(0)
	look := func(live, more uint64) {
		allocs += more
		k.look(live, allocs)
	}
	look(0, 2*mb) // little to keep
	look(20*mb, 300*mb)
	look(21*mb, 300*mb) // next to the same
	look(640*mb, 300*mb)
	look(100, 300*mb)
	if want := []int{mostPercent, 160, leastPercent, mostPercent}; !slices.Equal(percents, want) {
		t.Errorf("percents %v, want %v", percents, want)
	}
	if returned != 0 {
		t.Error("memory was given back under load")
	}
	for range calmLooks - 1 {
		look(20*mb, mb/2)
	}
	if returned != 0 {
		t.Error("memory was given back before it was calm for long")
	}
	for range 20 {
		look(20*mb, mb/2)
	}
	if returned != 1 {
		t.Errorf("memory was given back %d times in one calm", returned)
	}
	look(20*mb, 300*mb)
	for range calmLooks {
		look(20*mb, 0)
	}
	if returned != 2 {
		t.Errorf("memory was given back %d times in two", returned)
	}
}

// TestHeapNow: the runtime knows what is asked for.
func TestHeapNow(t *testing.T) {
	if _, allocs := heapNow(); allocs == 0 {
		t.Error("nothing has been allocated")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("GOGC", "100")
	t.Setenv("GOMEMLIMIT", "1GiB")
	tendHeap(ctx) // returns
}
