package engine

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// A failing seed is replayed, as often as wanted, with
//
//	go test ./internal/engine -run TestRandomClientsInTurn -seed 17 -steps 40
//
// Clients in turn run on one goroutine and a clock of their own, so that a seed
// always gives the same run. Clients at once are as the scheduler has them: a
// seed fixes only what each of them tries.
var (
	onlySeed   = flag.Uint64("seed", 0, "run this seed only")
	stepsLimit = flag.Int("steps", 0, "steps of each client, to shorten a failing run")
)

func TestRandomClientsInTurn(t *testing.T) {
	for _, seed := range seeds(60) {
		w := newWorld(t, seed, true)
		for range w.steps(1200) {
			c := w.clients[w.rng.IntN(len(w.clients))]
			c.step()
			if w.rng.IntN(3) == 0 {
				c.write(w.rng.IntN(4) == 0)
			}
			if w.rng.IntN(20) == 0 {
				w.clock.advance(time.Duration(w.rng.IntN(30)) * time.Millisecond)
			}
			if w.rng.IntN(20) == 0 {
				w.meddle(w.rng.IntN(3))
			}
		}
		if w.finish(); t.Failed() {
			t.Fatalf("failed with -seed %d", seed)
		}
	}
}

func TestRandomClientsAtOnce(t *testing.T) {
	for _, seed := range seeds(8) {
		w := newWorld(t, seed, false)
		var wg sync.WaitGroup
		for _, c := range w.clients {
			wg.Go(func() {
				for range w.steps(1500) {
					c.step()
				}
			})
		}
		var over atomic.Bool
		var meddling sync.WaitGroup
		meddling.Go(func() {
			for i := 0; !over.Load(); i++ {
				w.meddle(i % 3)
				runtime.Gosched()
			}
		})
		wg.Wait()
		over.Store(true)
		meddling.Wait()
		if w.finish(); t.Failed() {
			t.Fatalf("failed with -seed %d", seed)
		}
	}
}

// TestRandomClientsOnDisk is the same with a data directory, bodies that do not
// stay in memory, and checkpoints and a janitor beside the clients.
func TestRandomClientsOnDisk(t *testing.T) {
	for _, seed := range seeds(4) {
		w := newWorldOn(t, seed, false, &DiskConfig{FS: vfs.NewMem(), Dir: "/data",
			FileBytes: 1 << 20, ResidentBytes: 1, CompactSlackBytes: 1, IndexBytes: 1, BlobBytes: (seed & 1) * 30, HandJanitor: true})
		var clients, janitor sync.WaitGroup
		for _, c := range w.clients {
			clients.Go(func() {
				for range w.steps(800) {
					c.step()
				}
			})
		}
		var over atomic.Bool
		janitor.Go(func() {
			for i := 0; !over.Load(); i++ {
				w.meddle(i % 3)
				if err := w.e.checkpoint(over.Load); err != nil {
					t.Error(err)
				}
				w.e.janitor.round()
			}
		})
		clients.Wait()
		over.Store(true)
		janitor.Wait()
		if w.finish(); t.Failed() {
			t.Fatalf("failed with -seed %d", seed)
		}
	}
}

func seeds(n uint64) (list []uint64) {
	if *onlySeed > 0 {
		return []uint64{*onlySeed}
	}
	for s := range n {
		list = append(list, s+1)
	}
	return list
}
