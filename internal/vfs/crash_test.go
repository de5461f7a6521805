package vfs_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

const batchBytes = 4096

// appendBatches writes n batches to a log that has been zero-filled and synced; batch i consists
// of the byte i.
func appendBatches(t testing.TB, n int) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewMem()
	file := mustFile(t, mem.Create, "log")
	must(t, file.ZeroFill(64<<20))
	must(t, file.Sync())
	must(t, mem.SyncDir("/"))
	batch := make([]byte, batchBytes) // used again and again, as a log does
	for i := 1; i <= n; i++ {
		copy(batch, bytes.Repeat([]byte{byte(i)}, batchBytes))
		_, err := file.WriteAt(batch, int64(i-1)*batchBytes)
		must(t, err)
	}
	return mem
}

// TestCrashModesOfALog: what the modes are for. Prefix leaves batches up to some point and tears
// one at a sector; blocks leaves later batches where earlier ones are missing, and torn ones.
func TestCrashModesOfALog(t *testing.T) {
	mem := appendBatches(t, 6)
	seen := map[vfs.CrashMode]map[string]int{}
	for _, mode := range vfs.CrashModes() {
		seen[mode] = map[string]int{}
		for seed := range uint64(300) {
			clone := mem.CrashClone(mode, rand.New(rand.NewPCG(seed, 3)))
			file := mustFile(t, clone.OpenRead, "log")
			got := make([]byte, 6*batchBytes)
			_, err := file.ReadAt(got, 0)
			must(t, err)
			seen[mode][logShape(t, got)]++
		}
	}
	want := map[vfs.CrashMode][]string{
		vfs.KeepNone: {"empty"}, vfs.KeepAll: {"complete"}, vfs.KeepPrefix: {"empty", "complete", "prefix", "torn prefix"},
		vfs.KeepBlocks: {"holes", "prefix"}, vfs.KeepMixed: {"empty", "complete", "prefix", "torn prefix", "holes"},
	}
	for mode, shapes := range want {
		for _, shape := range shapes {
			if seen[mode][shape] == 0 {
				t.Errorf("mode %v never left the log %s: %v", mode, shape, seen[mode])
			}
		}
		if mode != vfs.KeepBlocks && len(seen[mode]) != len(shapes) {
			t.Errorf("mode %v left the log %v, want only %v", mode, seen[mode], shapes)
		}
	}
}

func logShape(t *testing.T, got []byte) string {
	const sectorBytes = 512
	end, kept := -1, 0
	for s := range len(got) / sectorBytes {
		sector := got[s*sectorBytes : (s+1)*sectorBytes]
		if sector[0] == 0 && end < 0 {
			end = s
		}
		want := byte(s*sectorBytes/batchBytes + 1)
		if !bytes.Equal(sector, bytes.Repeat(sector[:1], sectorBytes)) || sector[0] != 0 && sector[0] != want {
			t.Fatalf("sector %d is neither lost nor written: %v", s, sector[:8])
		}
		if sector[0] != 0 {
			kept++
		}
	}
	switch {
	case end < 0:
		return "complete"
	case kept == 0:
		return "empty"
	case kept > end:
		return "holes"
	case end*sectorBytes%batchBytes != 0:
		return "torn prefix"
	}
	return "prefix"
}

// TestCrashSizes: the size of a file that grew unsynced may arrive without the bytes (zeros at the
// end), the bytes without the size (gone), or both in part.
func TestCrashSizes(t *testing.T) {
	mem := vfs.NewMem()
	file := mustFile(t, mem.Create, "f")
	must(t, mem.SyncDir("/"))
	_, err := file.WriteAt(bytes.Repeat([]byte{1}, 2*batchBytes), 0)
	must(t, err)
	var none, part, whole, zeroEnd int
	for seed := range uint64(200) {
		clone := mem.CrashClone(vfs.KeepBlocks, rand.New(rand.NewPCG(seed, 7)))
		got := content(t, mustFile(t, clone.OpenRead, "f"))
		switch {
		case len(got) == 0:
			none++
		case len(got)%512 != 0:
			t.Fatalf("cut to %d bytes", len(got))
		case len(got) < 2*batchBytes:
			part++
		default:
			whole++
		}
		if len(got) > 0 && got[len(got)-1] == 0 {
			zeroEnd++
		}
	}
	if none == 0 || part == 0 || whole == 0 || zeroEnd == 0 {
		t.Errorf("nothing of it %d times, a part %d, all %d, zeros at the end %d", none, part, whole, zeroEnd)
	}
}

// TestCrashCloneReplays: the same state, mode and seed give the same clone, and another seed
// sooner or later another.
func TestCrashCloneReplays(t *testing.T) {
	for _, mode := range vfs.CrashModes() {
		differ := false
		for seed := range uint64(20) {
			log := func(seed uint64) []byte {
				clone := appendBatches(t, 5).CrashClone(mode, rand.New(rand.NewPCG(seed, 4)))
				got := make([]byte, 5*batchBytes)
				_, err := mustFile(t, clone.OpenRead, "log").ReadAt(got, 0)
				must(t, err)
				return got
			}
			if !bytes.Equal(log(seed), log(seed)) {
				t.Fatalf("mode %v, seed %d: two clones differ", mode, seed)
			}
			differ = differ || !bytes.Equal(log(seed), log(seed+1))
		}
		if random := mode != vfs.KeepNone && mode != vfs.KeepAll; differ != random {
			t.Errorf("mode %v: clones of different seeds differ: %v", mode, differ)
		}
	}
}

// TestCrashCloneUnderWriters takes clones while four files are written: whatever was confirmed
// before the clone is in it, and the clone does not change afterwards.
func TestCrashCloneUnderWriters(t *testing.T) {
	const writers, rounds = 4, 300
	mem := vfs.NewMem()
	var confirmed [writers]atomic.Uint64
	var group sync.WaitGroup
	names := []string{"0", "1", "2", "3"}
	files := make([]vfs.File, writers)
	for w, name := range names {
		files[w] = mustFile(t, mem.Create, name)
	}
	must(t, mem.SyncDir("/"))
	for w, file := range files {
		group.Go(func() {
			for round := uint64(1); round <= rounds; round++ {
				_, err := file.WriteAt(binary.BigEndian.AppendUint64(nil, round), int64(round)*8)
				if err == nil {
					err = file.Datasync()
				}
				if err != nil {
					t.Error(err)
					return
				}
				confirmed[w].Store(round)
			}
		})
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for taken := 0; taken < 50 || confirmed[0].Load() < rounds; taken++ {
		var before [writers]uint64
		for w := range writers {
			before[w] = confirmed[w].Load()
		}
		clone := mem.CrashClone(vfs.KeepMixed, rng)
		for w, name := range names {
			got := content(t, mustFile(t, clone.OpenRead, name))
			for round := uint64(1); round <= before[w]; round++ {
				if binary.BigEndian.Uint64(got[round*8:]) != round {
					t.Fatalf("writer %d: confirmed round %d of %d is lost", w, round, before[w])
				}
			}
		}
	}
	group.Wait()
}

// TestClonesAreCheap: zero-filling takes no memory, a clone takes tables only, and a write into a
// clone takes the block.
func TestClonesAreCheap(t *testing.T) {
	mem := vfs.NewMem()
	if got := allocated(func() {
		for _, name := range []string{"1", "2", "3", "4"} {
			file := mustFile(t, mem.Create, name)
			must(t, file.ZeroFill(64<<20))
			must(t, file.Sync())
		}
	}); got > 64<<10 {
		t.Errorf("four zero-filled log files take %d bytes", got)
	}
	file := mustFile(t, mem.Open, "1")
	for i := range int64(8) {
		_, err := file.WriteAt(make([]byte, 1<<20), i<<20)
		must(t, err)
	}
	must(t, file.Sync())
	must(t, mem.SyncDir("/"))
	var clone *vfs.MemFS
	if got := allocated(func() { clone = mem.CrashClone(vfs.KeepMixed, rand.New(rand.NewPCG(1, 1))) }); got > 32<<10 {
		t.Errorf("a crash clone takes %d bytes", got)
	}
	if got := allocated(func() {
		_, err := mustFile(t, clone.Open, "1").WriteAt([]byte("x"), 5000)
		must(t, err)
	}); got > 32<<10 {
		t.Errorf("the first write to a clone takes %d bytes", got)
	}
}

func allocated(run func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestClonesDoNotShareChanges: writes on either side of a clone stay there, also those not synced.
func TestClonesDoNotShareChanges(t *testing.T) {
	mem := appendBatches(t, 3)
	kill, crash := mem.Clone(), mem.CrashClone(vfs.KeepAll, nil)
	for i, fsys := range []*vfs.MemFS{mem, kill, crash} {
		_, err := mustFile(t, fsys.Open, "log").WriteAt([]byte{byte(100 + i)}, batchBytes)
		must(t, err)
	}
	for i, fsys := range []*vfs.MemFS{mem, kill, crash} {
		for _, later := range []*vfs.MemFS{fsys, fsys.CrashClone(vfs.KeepAll, nil)} {
			var got [2]byte
			_, err := mustFile(t, later.OpenRead, "log").ReadAt(got[:], batchBytes)
			must(t, err)
			if got != [2]byte{byte(100 + i), 2} {
				t.Errorf("file system %d holds %v", i, got)
			}
		}
	}
}

func BenchmarkCrashClone(b *testing.B) {
	mem := appendBatches(b, 0)
	file := mustFile(b, mem.Open, "log")
	for i := range int64(64) {
		_, err := file.WriteAt(make([]byte, 1<<20), i<<20)
		must(b, err)
	}
	must(b, file.Sync())
	_, err := file.WriteAt(make([]byte, 64<<10), 1<<20)
	must(b, err)
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		mem.CrashClone(vfs.KeepMixed, rng)
	}
}

func BenchmarkMemWriteSync(b *testing.B) {
	mem := appendBatches(b, 0)
	file := mustFile(b, mem.Open, "log")
	batch := make([]byte, batchBytes)
	b.SetBytes(batchBytes)
	var at int64
	for b.Loop() {
		_, err := file.WriteAt(batch, at)
		must(b, err)
		must(b, file.Datasync())
		at = (at + batchBytes) % (64 << 20)
	}
}
