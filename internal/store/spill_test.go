package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

const spillDir = "/data"

// spilling is an arena that spills beyond a budget.
func spilling(t testing.TB, fsys vfs.FS, budget int64) *Arena {
	t.Helper()
	if err := fsys.MkdirAll(spillDir); err != nil {
		t.Fatal(err)
	}
	a := NewArena()
	a.SpillTo(fsys, spillDir, budget, slog.New(slog.DiscardHandler))
	return a
}

// arenaRecord is a record of that number and size.
func arenaRecord(number uint64, size int) []byte {
	b := make([]byte, max(size, 8))
	for i := range b {
		b[i] = byte(number*31 + uint64(i)*7)
	}
	binary.LittleEndian.PutUint64(b, number)
	return b
}

func putOne(a *Arena, rec []byte, refs int) Ref {
	s := a.Reserve(SpanBytes(1, len(rec)), 1, refs)
	r := s.Put(rec)
	s.Done()
	if a.OverBudget() {
		a.Relieve()
	}
	return r
}

// readBack reads a record as a queue does: loaded if it is not in memory.
func readBack(t testing.TB, a *Arena, r Ref) []byte {
	t.Helper()
	for range 1000 {
		if rec, ok := a.Record(r); ok {
			return rec
		}
		if err := a.Load(r); err != nil {
			t.Error(err)
			return nil
		}
	}
	t.Error("a record is out of memory again and again")
	return nil
}

func scratchFiles(t testing.TB, fsys vfs.FS) (n int) {
	t.Helper()
	names, err := fsys.List(spillDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, scratchPrefix) {
			n++
		}
	}
	return n
}

// TestSpillInOrder lets a queue grow far beyond the budget and shrink again: the
// memory stays flat, every record comes back, and in the end nothing is left.
func TestSpillInOrder(t *testing.T) {
	for _, size := range []int{3000, 300_000, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			fsys := vfs.NewMem()
			const budget, total = 8 << 20, 32 << 20
			a := spilling(t, fsys, budget)
			// A chunk that is filled, and one that is read.
			limit := int64(budget + 2*max(ChunkBytes, size))
			var refs []Ref
			for i := range total / size {
				refs = append(refs, putOne(a, arenaRecord(uint64(i), size), 1))
				if used := a.Used(); used > limit {
					t.Fatalf("%d bytes in memory after %d records", used, i+1)
				}
			}
			if scratchFiles(t, fsys) == 0 {
				t.Fatal("nothing has spilled")
			}
			if first, ok := a.Record(refs[0]); !ok || !bytes.Equal(first, arenaRecord(0, size)) {
				t.Error("what is needed first is not in memory")
			}
			for i, r := range refs {
				if !bytes.Equal(readBack(t, a, r), arenaRecord(uint64(i), size)) {
					t.Fatalf("record %d is wrong", i)
				}
				if used := a.Used(); used > limit {
					t.Fatalf("%d bytes in memory when record %d is read", used, i)
				}
				a.Release(r, 1)
			}
			a.TidyScratch()
			if n := scratchFiles(t, fsys); n > 0 || a.References() != 0 {
				t.Errorf("%d scratch files and %d references are left", n, a.References())
			}
		})
	}
}

// TestSpillSteadyFlow: what is taken soon never touches the disk, although others
// use up the budget.
func TestSpillSteadyFlow(t *testing.T) {
	count := vfs.NewFault(vfs.NewMem())
	a := spilling(t, count, 4<<20)
	for i := range 4 << 20 / 1000 {
		putOne(a, arenaRecord(uint64(i), 1000), 1) // stays
	}
	before := count.Count(vfs.OpsChange)
	var queue []Ref
	for i := range 20_000 {
		queue = append(queue, putOne(a, arenaRecord(uint64(i), 1000), 1))
		if len(queue) > 100 {
			a.Release(queue[0], 1)
			queue = queue[1:]
		}
	}
	if n := count.Count(vfs.OpsChange) - before; n > 10 {
		t.Errorf("a flow of 20 MB that is kept up with has cost %d disk operations", n)
	}
}

// TestSpillRandomly compares with a map: several goroutines put, read, share and
// drop records, as queues in different places of their backlogs do.
func TestSpillRandomly(t *testing.T) {
	fsys := vfs.NewMem()
	a := spilling(t, fsys, 4<<20)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(g)))
			type kept struct {
				ref    Ref
				number uint64
				size   int
			}
			var all []kept
			for i := range 700 {
				n := uint64(g)<<32 | uint64(i)
				size := 8 + rng.IntN(8000)
				if rng.IntN(100) == 0 {
					size = rng.IntN(700_000)
				}
				all = append(all, kept{putOne(a, arenaRecord(n, size), 2), n, size})
				for range min(rng.IntN(3), len(all)) {
					k := rng.IntN(len(all))
					x := all[k]
					if !bytes.Equal(readBack(t, a, x.ref), arenaRecord(x.number, x.size)) {
						t.Errorf("record %x is wrong", x.number)
						return
					}
					if rng.IntN(3) == 0 {
						a.Release(x.ref, 2)
						all[k] = all[len(all)-1]
						all = all[:len(all)-1]
					}
				}
				if rng.IntN(300) == 0 {
					a.TidyScratch()
				}
			}
			for _, x := range all {
				if !bytes.Equal(readBack(t, a, x.ref), arenaRecord(x.number, x.size)) {
					t.Errorf("record %x is wrong", x.number)
				}
				a.Release(x.ref, 2)
			}
		})
	}
	group.Wait()
	a.TidyScratch()
	if n := scratchFiles(t, fsys); n > 0 || a.References() != 0 || a.Used() > ChunkBytes {
		t.Errorf("%d scratch files, %d references and %d bytes are left", n, a.References(), a.Used())
	}
}

// TestSpillFullDisk: what the disk does not take stays in memory, and goes once
// there is room.
func TestSpillFullDisk(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite} {
		fault := vfs.NewFault(vfs.NewMem())
		a := spilling(t, fault, 4<<20)
		fault.Add(vfs.Rule{Kinds: kind, Nth: 1, Sticky: true, Err: syscall.ENOSPC, ShortBytes: 1000})
		var refs []Ref
		for i := range 20_000 {
			refs = append(refs, putOne(a, arenaRecord(uint64(i), 1000), 1))
		}
		if used := a.Used(); used < 20_000_000 {
			t.Errorf("%v: %d bytes in memory, and none on the disk", kind, used)
		}
		if n := fault.Count(vfs.OpsChange); n > 20 {
			t.Errorf("%v: the full disk was tried %d times", kind, n)
		}
		fault.Clear()
		a.Relieve()
		if used := a.Used(); used > 6<<20 {
			t.Errorf("%v: %d bytes in memory although the disk has room", kind, used)
		}
		for i, r := range refs {
			if !bytes.Equal(readBack(t, a, r), arenaRecord(uint64(i), 1000)) {
				t.Fatalf("%v: record %d is wrong", kind, i)
			}
		}
	}
}

// TestSpillDamage: wrong bytes are an error, not a record.
func TestSpillDamage(t *testing.T) {
	fsys := vfs.NewMem()
	a := spilling(t, fsys, 4<<20)
	var refs []Ref
	for i := range 20_000 {
		refs = append(refs, putOne(a, arenaRecord(uint64(i), 1000), 1))
	}
	if err := vfs.FlipBit(fsys, spillDir+"/scratch-1", 8*(3<<20+500_000)); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i, r := range refs {
		if err := a.Load(r); err != nil {
			failed++
			continue
		}
		if !bytes.Equal(readBack(t, a, r), arenaRecord(uint64(i), 1000)) {
			t.Fatalf("record %d is wrong", i)
		}
	}
	if failed < 500 || failed > 1100 {
		t.Errorf("%d records cannot be read, want those of one chunk", failed)
	}
}

// TestScratchOfAnEarlierProcess is removed, and what goes to a closed one stays.
func TestScratchOfAnEarlierProcess(t *testing.T) {
	fsys := vfs.NewMem()
	a := spilling(t, fsys, 4<<20)
	for i := range 20_000 {
		putOne(a, arenaRecord(uint64(i), 1000), 1)
	}
	a.CloseScratch(false)
	if scratchFiles(t, fsys) == 0 {
		t.Fatal("nothing has spilled")
	}
	b := spilling(t, fsys, 4<<20)
	if n := scratchFiles(t, fsys); n > 0 {
		t.Errorf("%d scratch files are left by the process before", n)
	}
	for i := range 20_000 {
		putOne(b, arenaRecord(uint64(i), 1000), 1)
	}
	for i := range 20_000 {
		putOne(a, arenaRecord(uint64(i), 1000), 1) // must not hang or write
	}
	b.CloseScratch(true)
	if n := scratchFiles(t, fsys); n > 0 {
		t.Errorf("%d scratch files are left after the end", n)
	}
}
