package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/warrenmq/warren/internal/config"
)

// The heap of a broker is mostly what it has to keep: indexes of queues. What it
// throws away comes in blocks of the log, hundreds of megabytes a second under load.
// So the garbage collector is told how many bytes it may let gather, and not only
// what share of the heap: a share that suits an index of a gigabyte would have it
// run a hundred times a second while there is next to nothing to keep. When the
// load is over, what has gathered goes back to the system.
const (
	// garbageBytes may gather between two collections, whatever the heap is.
	garbageBytes = 32 << 20
	// leastPercent of the heap may gather, too.
	leastPercent = 25
	mostPercent  = 400
	// heapInterval is how often the heap is looked at.
	heapInterval = 500 * time.Millisecond
	// calmBytes are what may be allocated in an interval that counts as calm, and
	// calmLooks how many of them there must be. By then the broker has given up
	// bodies that nobody wanted.
	calmBytes = 1 << 20
	calmLooks = 6
	// returnBytes must have been allocated since memory was last given back.
	returnBytes = 16 << 20
)

// heapKeeper is the state of tendHeap, which alone uses it.
type heapKeeper struct {
	percent            int
	setPercent         func(int)
	giveBack           func()
	allocs, returnedAt uint64
	calm               int // looks in a row
}

// tendHeap looks after the heap until ctx ends. GOGC and GOMEMLIMIT, if set, are
// obeyed by the runtime already.
func tendHeap(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(config.UsableMemoryBytes() / 10 * 9)
	}
	k := &heapKeeper{setPercent: func(p int) { debug.SetGCPercent(p) }, giveBack: debug.FreeOSMemory}
	if os.Getenv("GOGC") != "" {
		k.setPercent = func(int) {}
	}
	k.look(heapNow())
	tick := time.NewTicker(heapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.look(heapNow())
		}
	}
}

// heapNow is what the last collection has found in use, and what has ever been
// allocated.
func heapNow() (liveBytes, allocBytes uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}

// look adjusts the collector, and gives memory back when it is calm.
func (k *heapKeeper) look(liveBytes, allocBytes uint64) {
	const smallestHeap = 4 << 20 // the runtime's own, at 100 percent
	percent := int(garbageBytes * 100 / max(liveBytes, smallestHeap))
	percent = max(leastPercent, min(mostPercent, percent))
	if d := percent - k.percent; d > k.percent/10 || -d > k.percent/10 {
		k.percent = percent
		k.setPercent(percent)
	}
	k.calm++
	if allocBytes-k.allocs >= calmBytes {
		k.calm = 0
	}
	k.allocs = allocBytes
	if k.calm >= calmLooks && allocBytes-k.returnedAt > returnBytes {
		k.returnedAt = allocBytes
		k.giveBack()
	}
}
