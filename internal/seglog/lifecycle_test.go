package seglog

import (
	"errors"

	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/warrenmq/warren/internal/vfs"
)

// TestAppenders has several goroutines append, wait, read and drop while the disk
// is lost at random operations: whatever had been durable a moment before is on
// what is left.
func TestAppenders(t *testing.T) {
	defer goleak.VerifyNone(t)
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	c := memConfig(fault)
	c.FileBytes, c.Spares, c.ResidentBytes, c.BacklogBytes, c.BatchBytes = 1<<20, 2, 2<<20, 1<<20, 200_000
	c.FlushDelay, c.ClaimDelay = time.Millisecond, time.Millisecond
	var heard atomic.Uint64
	c.OnDurable = func(lsn LSN) {
		if heard.Swap(uint64(lsn)) >= uint64(lsn) {
			t.Errorf("OnDurable goes back to %d", lsn)
		}
	}
	l, _, err := Open(c, func(Entry) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	type picture struct {
		disk    *vfs.MemFS
		durable LSN
		first   LSN
	}
	var mu sync.Mutex
	var pictures []picture
	rng := rand.New(rand.NewPCG(3, 4))
	fault.Add(vfs.Rule{Before: func(vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(30) > 0 || len(pictures) > 30 {
			return
		}
		p := picture{durable: l.Durable(), first: l.Files()[0].FirstLSN}
		modes := vfs.CrashModes()
		p.disk = mem.CrashClone(modes[rng.IntN(len(modes))], rng)
		pictures = append(pictures, p)
	}})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() { appender(t, l, rand.New(rand.NewPCG(5, uint64(g)))) })
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if heard.Load() != uint64(l.Durable()) || l.Durable() != l.nextLSN || l.backlog != 0 {
		t.Errorf("heard of %d, durable %d, next %d, backlog %d", heard.Load(), l.Durable(), l.nextLSN, l.backlog)
	}
	pictures = append(pictures, picture{mem.CrashClone(vfs.KeepNone, nil), l.Durable(), l.Files()[0].FirstLSN})
	if len(pictures) < 5 {
		t.Errorf("only %d pictures", len(pictures))
	}
	for i, p := range pictures {
		r := faultRun{claimed: p.durable, appended: l.nextLSN}
		if err := r.checkDisk(p.disk); err != nil {
			t.Errorf("picture %d: %v", i, err)
		}
	}
}

func appender(t *testing.T, l *Log, rng *rand.Rand) {
	for i := range 60 {
		if err := l.WaitRoom(); err != nil {
			t.Error(err)
			return
		}
		n := rng.IntN(3000)
		if rng.IntN(10) == 0 {
			n = rng.IntN(200_000)
		}
		all := putAll(l, rng.IntN(2) == 0, n, rng.IntN(100))
		l.Commit(rng.IntN(2) == 0)
		if r, ok := l.Resident(all[0].Place); ok && string(r.Payload) != string(all[0].Payload) {
			t.Error("wrong bytes right after the append")
		}
		if i%5 != 0 {
			continue
		}
		if files := l.Files(); len(files) > 3 {
			_ = l.Drop(files[0].Number) // somebody else may have dropped it
		}
		if err := l.WaitDurable(all[1].LSN + 1); err != nil {
			t.Error(err)
		}
		for _, e := range all {
			if err := l.Load(e.Place); err != nil {
				t.Logf("LSN %d: %v", e.LSN, err) // its file may have been dropped
			} else if r, ok := l.Resident(e.Place); ok && string(r.Payload) != string(e.Payload) {
				t.Error("wrong bytes")
			}
		}
	}
}

// TestUnforced: records that nobody waits for are written after FlushDelay.
func TestUnforced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memConfig(vfs.NewMem())
		c.FlushDelay = 50 * time.Millisecond
		l, _, err := Open(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			putAll(l, false, 10)
			before := l.Durable()
			time.Sleep(49 * time.Millisecond)
			if l.Durable() != before {
				t.Error("written early")
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			if l.Durable() != l.nextLSN {
				t.Error("not written")
			}
		}
		putAll(l, true, 10)
		synctest.Wait()
		if l.Durable() != l.nextLSN {
			t.Error("a forced record is not written at once")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestIdleClaim: a log that rests for a while says on the disk what is durable,
// once, so that after a kill nothing has to be written again and damage in the
// last records is found.
func TestIdleClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		trace := vfs.NewTrace(mem, testDir, vfs.OpWrite)
		c := memConfig(trace)
		c.ClaimDelay = 200 * time.Millisecond
		l, _, err := Open(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		all := putAll(l, true, 10)
		synctest.Wait()
		time.Sleep(150 * time.Millisecond)
		all = append(all, putAll(l, true, 10)...)
		synctest.Wait()
		trace.Reset()
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		if text := trace.Text(); text != "" {
			t.Errorf("written early:\n%s", text)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if lines := trace.Lines(); len(lines) != 1 {
			t.Errorf("an idle log writes %q, want one claim", lines)
		}
		killed := mem.Clone()
		l.Abandon()
		l, got, rep := openInlineT(t, memConfig(killed))
		if err := sameEntries(got, all); err != nil || rep.Reappended != 0 {
			t.Errorf("%v, %+v", err, rep)
		}
		l.Abandon()
		if err := vfs.FlipBit(killed, testDir+"/"+logName(1), (pageBytes+70)*8); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openInline(memConfig(killed), nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("damage in the last record: %v", err)
		}
	})
}

// TestEnds goes through the ways in which a log ends.
func TestEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	mem := vfs.NewMem()
	c := memConfig(mem)
	open := func() *Log {
		l, _, err := Open(c, func(Entry) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	if _, _, err := Open(c, nil); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a second Open: %v", err)
	}
	for range 4 {
		putAll(l, false, 700_000)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// What comes after the end goes nowhere, and nobody hangs.
	after := putAll(l, true, 10, 2<<20)
	if err := l.WaitDurable(after[1].LSN + 1); !errors.Is(err, ErrClosed) {
		t.Errorf("wait after Close: %v", err)
	}
	if err := l.WaitRoom(); !errors.Is(err, ErrClosed) {
		t.Errorf("WaitRoom after Close: %v", err)
	}
	if err := l.Drop(1); !errors.Is(err, ErrClosed) {
		t.Errorf("drop after Close: %v", err)
	}
	if _, ok := l.Resident(after[0].Place); ok {
		t.Error("a record of no region is found")
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	l.Abandon()

	l = open()
	if n := l.Durable(); n != 5 {
		t.Errorf("%d is durable after Close, want 5", n)
	}
	r := l.Reserve(1, RecordOverhead, true)
	r.Add(1, 0)
	r.Done()
	l.Abandon()
	if err := l.WaitDurable(100); !errors.Is(err, ErrClosed) {
		t.Errorf("wait after Abandon: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close after Abandon: %v", err)
	}

	visits := errors.New("visit fails")
	if _, _, err := Open(c, func(Entry) error { return visits }); !errors.Is(err, visits) {
		t.Errorf("Open with a visit that fails: %v", err)
	}
	open().Abandon()
}

// TestCloseWhileAppending: what is appended during Close is there or is not, but
// the log is whole.
func TestCloseWhileAppending(t *testing.T) {
	defer goleak.VerifyNone(t)
	for range 10 {
		mem := vfs.NewMem()
		l, _, err := Open(memConfig(mem), func(Entry) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		first := putAll(l, true, 10)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for l.WaitRoom() == nil {
					putAll(l, true, 100)
				}
			})
		}
		if err := l.WaitDurable(first[0].LSN + 1); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		r := faultRun{claimed: l.Durable(), appended: l.Durable()}
		if err := r.checkDisk(mem.CrashClone(vfs.KeepNone, nil)); err != nil {
			t.Error(err)
		}
	}
}

// TestDropRefuses: a gap in the log would look like damage.
func TestDropRefuses(t *testing.T) {
	c := memConfig(vfs.NewMem())
	c.FileBytes, c.BatchBytes = 1<<20, 1
	l, _, _ := openInlineT(t, c)
	for range 3 {
		putAll(l, true, 900_000)
	}
	if err := l.Drop(1); err == nil {
		t.Error("a file is dropped that is not written yet")
	}
	l.step()
	for _, number := range []uint32{0, 2, 3, 4} {
		if err := l.Drop(number); err == nil {
			t.Errorf("file %d is dropped", number)
		}
	}
	for _, number := range []uint32{1, 2} {
		if err := l.Drop(number); err != nil {
			t.Error(err)
		}
	}
	if err := l.Drop(3); err == nil {
		t.Error("the newest file is dropped")
	}
	if files := l.Files(); len(files) != 1 || files[0].Number != 3 {
		t.Errorf("files %v", files)
	}
	l.Abandon()
}

// TestMisuse: a region that is filled wrongly would make its batch unreadable.
func TestMisuse(t *testing.T) {
	l, _, _ := openInlineT(t, memConfig(vfs.NewMem()))
	defer l.Abandon()
	for name, f := range map[string]func(){
		"type 0":         func() { r := l.Reserve(1, 20, false); r.Add(0, 8) },
		"too few bytes":  func() { r := l.Reserve(1, 20, false); r.Add(1, 7); r.Done() },
		"too many bytes": func() { r := l.Reserve(1, 20, false); r.Add(1, 9) },
		"too few":        func() { r := l.Reserve(2, 40, false); r.Add(1, 28); r.Done() },
		"too many":       func() { r := l.Reserve(1, 40, false); r.Add(1, 8); r.Add(1, 8); r.Done() },
		"none":           func() { l.Reserve(0, 20, false) },
		"no room":        func() { l.Reserve(2, 20, false) },
		"too large":      func() { l.Reserve(1, maxRegionBytes+1, false) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestManyRestarts: starting does not make files, and nothing piles up.
func TestManyRestarts(t *testing.T) {
	mem := vfs.NewMem()
	c := memConfig(mem)
	var want []Entry
	for i := range 12 {
		l, got, _ := openInlineT(t, c)
		if err := sameEntries(got, want); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		if i == 3 || i == 8 {
			want = append(want, putAll(l, true, 10)...)
			l.step()
		}
		if i%2 == 0 {
			l.Abandon()
		} else if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := mem.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) > 4 { // LOCK, MANIFEST and two log files
		t.Errorf("%d files: %v", len(names), names)
	}
}

// TestSparesOfABusyLog: files that are given up at once are used again by as many
// that are begun before the next time, and no file of zeros is written for any of
// them; when the log is calm again they go.
func TestSparesOfABusyLog(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	zeroed := 0
	fault.Add(vfs.Rule{Before: func(op vfs.Op) {
		if op.Kind == vfs.OpZeroFill {
			zeroed++
		}
	}})
	c := memConfig(fault)
	c.FileBytes, c.BatchBytes, c.Spares = 1<<20, 1, 1
	l, _, _ := openInlineT(t, c)
	round := func(files int) {
		for range files {
			for range 2 {
				putAll(l, true, 450_000)
				l.step()
			}
		}
		for len(l.Files()) > 1 {
			if err := l.Drop(l.Files()[0].Number); err != nil {
				t.Fatal(err)
			}
		}
		l.TidySpares()
	}
	spares := func() (n int) {
		names, err := mem.List(testDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if spareNumber(name) > 0 {
				n++
			}
		}
		return n
	}
	for range 3 {
		round(5) // finds its measure
	}
	zeroed = 0
	for range 5 {
		round(5)
	}
	if zeroed != 0 {
		t.Errorf("%d files of zeros for 25 of the log", zeroed)
	}
	if n := spares(); n < 5 || n > 6 {
		t.Errorf("%d spares of a log that begins 5 files a round", n)
	}
	for range calmRounds - 1 {
		round(0)
	}
	if n := spares(); n < 5 {
		t.Errorf("%d spares of a log that has done nothing for a short time", n)
	}
	for range 10 * calmRounds {
		round(0)
	}
	if n := spares(); n != 1 {
		t.Errorf("%d spares of a log that does nothing", n)
	}
	for range 3 {
		round(maxSpares * 2)
	}
	if n := spares(); n != maxSpares {
		t.Errorf("%d spares of a log that begins %d files a round", n, maxSpares*2)
	}
	l.Abandon()
}

// TestTidyBlocks: what nobody wants goes out of memory, what is not durable or was
// wanted just now does not.
func TestTidyBlocks(t *testing.T) {
	c := memConfig(vfs.NewMem())
	l, _, _ := openInlineT(t, c)
	resident := func(all []Entry) (n int) {
		for _, e := range all {
			if _, ok := l.Resident(e.Place); ok {
				n++
			}
		}
		return n
	}
	var all []Entry
	for range 8 { // two to a block
		all = append(all, putAll(l, true, 400_000)...)
	}
	l.TidyBlocks()
	l.TidyBlocks()
	if n := resident(all); n != len(all) {
		t.Fatalf("%d of %d records that are not durable are in memory", n, len(all))
	}
	l.step()
	all = append(all, putAll(l, true, 10)...)
	l.TidyBlocks()
	if n := resident(all); n != len(all) {
		t.Errorf("%d of %d records of a log in use are in memory", n, len(all))
	}
	l.TidyBlocks()
	few := resident(all)
	if few > 5 || few == 0 { // of the block in use, and of one more
		t.Errorf("%d of %d records of a log at rest are in memory", few, len(all))
	}
	if err := l.Load(all[0].Place); err != nil {
		t.Fatal(err)
	}
	l.TidyBlocks() // somebody has just read
	if _, ok := l.Resident(all[0].Place); !ok {
		t.Error("a block went that had been wanted just now")
	}
	l.Abandon()
}
