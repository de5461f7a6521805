package seglog

import (
	"fmt"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

const testDir = "/data"

// memConfig is a log in memory that does nothing on its own.
func memConfig(fsys vfs.FS) Config {
	nonce := uint64(0x0123456789abcdef)
	return Config{
		FS: fsys, Dir: testDir, FileBytes: 2 << 20, FirstFileBytes: 1 << 20, FlushDelay: time.Hour, ClaimDelay: -1, Spares: -1,
		Random: func() uint64 { nonce += 0x9e3779b97f4a7c15; return nonce },
		Now:    func() time.Time { return time.UnixMilli(1_700_000_000_000) },
	}
}

func openInlineT(t *testing.T, c Config) (*Log, []Entry, *Report) {
	t.Helper()
	var got []Entry
	l, rep, err := openInline(c, func(e Entry) error {
		e.Payload = append([]byte(nil), e.Payload...)
		got = append(got, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, got, rep
}

// putAll appends one region.
func putAll(l *Log, force bool, sizes ...int) []Entry {
	total := 0
	for _, n := range sizes {
		total += n + RecordOverhead
	}
	r := l.Reserve(len(sizes), total, force)
	out := make([]Entry, len(sizes))
	for i, n := range sizes {
		payload, at, lsn := r.Add(uint8(1+i%200), n)
		entry{}.fill(payload, lsn)
		out[i] = Entry{Record: Record{Type: uint8(1 + i%200), Payload: append([]byte(nil), payload...)}, Place: at, LSN: lsn}
	}
	r.Done()
	if force {
		l.Commit(false)
	}
	return out
}

func sameEntries(got, want []Entry) error {
	for i := range want {
		if i >= len(got) {
			return fmt.Errorf("%d records, want %d", len(got), len(want))
		}
		g, w := got[i], want[i]
		if g.LSN != w.LSN || g.Type != w.Type || string(g.Payload) != string(w.Payload) {
			return fmt.Errorf("record %d: LSN %d type %d %d bytes, want LSN %d type %d %d bytes",
				i, g.LSN, g.Type, len(g.Payload), w.LSN, w.Type, len(w.Payload))
		}
	}
	if len(got) > len(want) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	return nil
}

// TestLayout puts regions around every kind of boundary and reads them back, by
// recovery and by place.
func TestLayout(t *testing.T) {
	const block = blockBytes
	regions := map[string][][]int{
		"a record begins shortly before the end of a block": nil,
		"regions end shortly before the end of a block":     nil,
		"one that is a block":                               {{10}, {block - RecordOverhead}, {10}},
		"one that is a block, in two":                       {{10}, {block/2 - RecordOverhead, block/2 - RecordOverhead}, {10}},
		"larger than a block by one":                        {{10}, {block - RecordOverhead + 1}, {10}},
		"larger than a file":                                {{10}, {5 << 20}, {10}, {100, 3 << 20, 3 << 20, 100}, {10}},
		"fills the first block":                             {{block - batchHeaderBytes - RecordOverhead}, {10}},
		"one byte too many for the block":                   {{block - batchHeaderBytes - RecordOverhead + 1}, {10}},
		"half a block, again and again":                     {{block / 2}, {block / 2}, {block / 2}, {block / 2}, {block / 2}},
		"more than half, again and again":                   {{block/2 + 100}, {block/2 + 100}, {block/2 + 100}, {block/2 + 100}},
		"empty payloads":                                    {{0}, {0, 0, 0}, {0}},
		"many small ones in a large region":                 {make([]int, 200_000), {10}, make([]int, 200_000)},
		"a large one ends beside a boundary":                {{10}, {block, block - 3*RecordOverhead - 5}, {10}, {10}},
	}
	var before, ends [][]int
	for rest := range 2*RecordOverhead + 2 {
		before = append(before, []int{block - rest - RecordOverhead, 50, block - 100, 7})
		ends = append(ends, []int{block - batchHeaderBytes - RecordOverhead - rest}, []int{20})
	}
	regions["a record begins shortly before the end of a block"] = before
	regions["regions end shortly before the end of a block"] = ends
	for name, all := range regions {
		for _, fileBytes := range []int64{1 << 20, 2<<20 + 4097, 64 << 20} {
			for _, together := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/together=%v", name, fileBytes, together), func(t *testing.T) {
					checkLayout(t, fileBytes, together, all)
				})
			}
		}
	}
}

func checkLayout(t *testing.T, fileBytes int64, together bool, regions [][]int) {
	c := memConfig(vfs.NewMem())
	c.FileBytes, c.ResidentBytes = fileBytes, 1<<20
	l, _, _ := openInlineT(t, c)
	var want []Entry
	for _, sizes := range regions {
		want = append(want, putAll(l, true, sizes...)...)
		if !together {
			l.step()
		}
	}
	l.step()
	if l.backlog != 0 {
		t.Errorf("backlog of %d bytes when all is durable", l.backlog)
	}
	checkReads(t, l, want)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, got, _ := openInlineT(t, c)
	if err := sameEntries(got, want); err != nil {
		t.Fatal(err)
	}
	checkReads(t, l, got)
	l.Abandon()
}

func checkReads(t *testing.T, l *Log, all []Entry) {
	t.Helper()
	step := max(1, len(all)/500)
	for i := 0; i < len(all); i += step {
		e := all[i]
		r, ok := l.Resident(e.Place)
		if !ok {
			if err := l.Load(e.Place); err != nil {
				t.Fatalf("LSN %d: %v", e.LSN, err)
			}
			if r, ok = l.Resident(e.Place); !ok {
				t.Fatalf("LSN %d is not resident after Load", e.LSN)
			}
		}
		if string(r.Payload) != string(e.Payload) {
			t.Fatalf("LSN %d is read with wrong bytes", e.LSN)
		}
	}
}

// TestUnwrittenStaysResident: a block may hold durable records and others that
// are not written yet. Those cannot be loaded, so it has to stay.
func TestUnwrittenStaysResident(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	c := memConfig(fault)
	c.FileBytes, c.FirstFileBytes, c.ResidentBytes, c.BatchBytes = 8<<20, 8<<20, 1, 1
	l, _, _ := openInlineT(t, c)
	var late []Entry
	fault.Add(vfs.Rule{Kinds: vfs.OpDatasync, Nth: 1, Before: func(vfs.Op) {
		late = putAll(l, true, 1000) // in the block being synced
		for range 5 {
			late = append(late, putAll(l, true, 900_000)...)
		}
	}})
	early := append(putAll(l, true, 1000), putAll(l, true, 500_000)...)
	early = append(early, putAll(l, true, 900_000)...)
	l.step()
	if l.Durable() != 4 || len(late) != 6 {
		t.Fatalf("durable up to %d", l.Durable())
	}
	checkReads(t, l, early) // evicts what it may
	for _, e := range late {
		if _, ok := l.Resident(e.Place); !ok {
			t.Errorf("LSN %d is not resident, and not on the disk: %v", e.LSN, l.Load(e.Place))
		}
	}
	l.step()
	checkReads(t, l, late)
	if n := blocksInMemory(l); n > 2 {
		t.Errorf("%d blocks in memory, the budget is one and the one being filled", n)
	}
	l.Abandon()
}

func blocksInMemory(l *Log) int {
	seen := map[*block]bool{}
	for _, f := range l.table.Load().files {
		if f == nil {
			continue
		}
		for i := range f.blocks {
			if b := f.blocks[i].Load(); b != nil {
				seen[b] = true
			}
		}
	}
	return len(seen)
}

// TestMemoryIsBounded: what is durable leaves memory, whatever the moments at
// which files and blocks end.
func TestMemoryIsBounded(t *testing.T) {
	for _, pause := range []int{1, 3, 1000} {
		c := memConfig(vfs.NewMem())
		c.ResidentBytes = 3 << 20
		l, _, _ := openInlineT(t, c)
		var all []Entry
		for i := range 60 {
			all = append(all, putAll(l, true, 300_000, 200_000, 10)...)
			if i%pause == 0 {
				l.step()
			}
		}
		l.step()
		if n := blocksInMemory(l); n > 4 {
			t.Errorf("pause %d: %d blocks of 1 MiB in memory, the budget is 3 and the one being filled", pause, n)
		}
		checkReads(t, l, all)
		if n := blocksInMemory(l); n > 4 {
			t.Errorf("pause %d: %d blocks of 1 MiB in memory after reading", pause, n)
		}
		l.Abandon()
	}
}
