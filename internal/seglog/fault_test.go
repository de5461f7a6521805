package seglog

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// faultRun is one run of a log on a disk that fails somewhere.
type faultRun struct {
	openErr  error
	waitErr  error // of the first wait that failed
	dropErr  error
	closeErr error
	failures atomic.Int32 // calls of OnFailure
	claimed  LSN          // said to be durable
	appended LSN
	dropped  LSN
}

func faultConfig(fsys vfs.FS, r *faultRun) Config {
	c := memConfig(fsys)
	c.FileBytes, c.Spares, c.FlushDelay, c.ClaimDelay = 1<<20, 1, time.Millisecond, time.Millisecond
	c.OnFailure = func(error) { r.failures.Add(1) }
	return c
}

// workload goes through all that the log does with files. It runs with the
// committer's own goroutine.
func (r *faultRun) workload(fsys vfs.FS) {
	r.claimed, r.appended, r.dropped = 1, 1, 1
	l, _, err := Open(faultConfig(fsys, r), func(e Entry) error { return nil })
	if err != nil {
		r.openErr = err
		return
	}
	r.claimed, r.appended = l.Durable(), l.Durable()
	for i := range 14 {
		sizes := []int{100, 2000}
		if i%2 == 1 {
			sizes = []int{500_000, 10}
		}
		if i == 9 {
			sizes = []int{800_000, 800_000}
		}
		r.appended = putAll(l, i%3 > 0, sizes...)[1].LSN + 1
		if err := l.WaitDurable(r.appended); err != nil && r.waitErr == nil {
			r.waitErr = err
		}
		if err := l.WaitRoom(); (err == nil) != (l.Err() == nil) {
			r.waitErr = fmt.Errorf("WaitRoom says %v, Err %v", err, l.Err())
		}
		if i == 3 {
			// It is kept or not, and says so.
			if err := l.KeepReserve(200_000, 0); (err == nil) != (l.Reserved() > 0) {
				r.waitErr = fmt.Errorf("KeepReserve says %v, and %d bytes are kept back", err, l.Reserved())
			}
		}
		if files := l.Files(); i%5 == 4 && len(files) > 2 {
			if err := l.Drop(files[0].Number); err == nil {
				r.dropped = files[1].FirstLSN
			} else if r.dropErr == nil {
				r.dropErr = err
			}
		}
	}
	r.claimed = l.Durable()
	r.closeErr = l.Close()
	r.claimed = max(r.claimed, l.Durable())
}

// TestFaults fails every single operation of a workload in turn, in several
// ways, and looks at what is left on the disk afterwards.
func TestFaults(t *testing.T) {
	count := func() int {
		fault := vfs.NewFault(vfs.NewMem())
		r := &faultRun{}
		r.workload(fault)
		if r.openErr != nil || r.waitErr != nil || r.closeErr != nil || r.dropErr != nil || r.failures.Load() != 0 {
			t.Fatalf("without faults: %+v", r)
		}
		return fault.Count(vfs.OpsChange)
	}()
	kinds := []vfs.Rule{
		{Err: syscall.EIO}, {Err: syscall.ENOSPC, ShortBytes: 4096, Sticky: true}, {Err: syscall.EIO, ShortBytes: 512},
	}
	struck := 0
	for k := 1; k <= count+2; k++ {
		for i, rule := range kinds {
			if i > 0 && i != 1+k%2 {
				continue // the other way of failing short is the next one's
			}
			mem := vfs.NewMem()
			fault := vfs.NewFault(mem)
			rule.Nth = k
			hits := fault.Add(rule)
			r := &faultRun{}
			finished := make(chan struct{})
			go func() { r.workload(fault); close(finished) }()
			select {
			case <-finished:
			case <-time.After(20 * time.Second):
				t.Fatalf("operation %d, fault %d: the log hangs", k, i)
			}
			if hits() > 0 {
				struck++
			}
			if err := r.check(); err != nil {
				t.Errorf("operation %d, fault %d: %v", k, i, err)
			}
			for name, left := range map[string]*vfs.MemFS{"power loss": mem.CrashClone(vfs.KeepNone, nil), "kill": mem.Clone()} {
				if err := r.checkDisk(left); err != nil {
					t.Errorf("operation %d, fault %d, %s: %v", k, i, name, err)
				}
			}
		}
	}
	t.Logf("%d operations, %d faults struck", count, struck)
	if struck < count {
		t.Errorf("only %d faults struck", struck)
	}
}

// check looks at what the log has told.
func (r *faultRun) check() error {
	switch {
	case r.openErr != nil && errors.Is(r.openErr, ErrDamaged):
		return fmt.Errorf("a fault of the disk is called damage: %w", r.openErr)
	case r.waitErr != nil && !errors.Is(r.waitErr, syscall.EIO) && !errors.Is(r.waitErr, syscall.ENOSPC):
		return fmt.Errorf("the wait's error is not the disk's: %w", r.waitErr)
	case r.waitErr != nil && r.closeErr == nil:
		return errors.New("Close does not give the error")
	case r.waitErr == nil && r.openErr == nil && r.claimed != r.appended:
		return fmt.Errorf("no wait failed, but only %d of %d is durable", r.claimed, r.appended)
	}
	failed := int32(0)
	if r.waitErr != nil {
		failed = 1
	}
	// After the last wait, only a claim can still fail.
	if n := r.failures.Load(); n < failed || n > 1 {
		return fmt.Errorf("OnFailure was called %d times, a wait failed %d times", n, failed)
	}
	return nil
}

// checkDisk opens what is left: all that was claimed is there.
func (r *faultRun) checkDisk(fsys vfs.FS) error {
	var got []Entry
	l, _, err := openInline(memConfig(fsys), func(e Entry) error {
		want := make([]byte, len(e.Payload))
		entry{}.fill(want, e.LSN)
		if string(want) != string(e.Payload) {
			return fmt.Errorf("LSN %d has wrong bytes", e.LSN)
		}
		e.Payload = nil
		got = append(got, e)
		return nil
	})
	if err != nil {
		return err
	}
	defer l.Abandon()
	if l.nextLSN < r.claimed || l.nextLSN > r.appended {
		return fmt.Errorf("%d was durable, %d appended, %d is found", r.claimed, r.appended, l.nextLSN)
	}
	first := l.nextLSN
	if len(got) > 0 {
		first = got[0].LSN
	}
	if r.claimed > 1 && first < r.dropped {
		return fmt.Errorf("what was dropped below LSN %d is back, from %d on", r.dropped, first)
	}
	if LSN(len(got)) != l.nextLSN-first {
		return fmt.Errorf("%d records from LSN %d to %d", len(got), first, l.nextLSN)
	}
	return nil
}

// TestOpenFaults fails every operation of an Open that has a tail to write again.
func TestOpenFaults(t *testing.T) {
	base := vfs.NewMem()
	l, _, _ := openInlineT(t, memConfig(base))
	var want []Entry
	for range 4 {
		want = append(want, putAll(l, true, 100, 400_000)...)
		l.step()
	}
	l.Abandon()
	all := vfs.OpsAll &^ (vfs.OpClose | vfs.OpFree)
	for k, struck := 1, true; struck; k++ {
		mem := base.Clone()
		fault := vfs.NewFault(mem)
		hits := fault.Add(vfs.Rule{Kinds: all, Nth: k, Err: syscall.EIO})
		l, _, err := Open(memConfig(fault), func(Entry) error { return nil })
		if err == nil {
			l.Abandon()
		} else if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrDamaged) {
			t.Errorf("operation %d: %v", k, err)
		}
		for _, left := range []*vfs.MemFS{mem, mem.CrashClone(vfs.KeepNone, nil)} { // mem also: the lock is free again
			l, got, _ := openInlineT(t, memConfig(left))
			if err := sameEntries(got, want); err != nil {
				t.Errorf("operation %d: %v", k, err)
			}
			l.Abandon()
		}
		struck = hits() > 0
	}
}

// TestReadFaults: an error of the disk is no damage, and passes.
func TestReadFaults(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	c := memConfig(fault)
	c.ResidentBytes = 1
	l, _, _ := openInlineT(t, c)
	all := append(putAll(l, true, 900_000), putAll(l, true, 900_000)...)
	all = append(all, putAll(l, true, 900_000)...)
	l.step()
	for k := 1; k <= 2; k++ {
		fault.Add(vfs.Rule{Kinds: vfs.OpRead, Nth: k, Err: syscall.EIO})
		if err := l.Load(all[0].Place); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrDamaged) {
			t.Errorf("read %d fails: %v", k, err)
		}
		fault.Clear()
	}
	checkReads(t, l, all)
	if err := l.Load(makePlace(9, 0)); err == nil {
		t.Error("a file that does not exist is loaded")
	}
	if err := l.Load(makePlace(1, 1<<30)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a place behind the end: %v", err)
	}
	l.Abandon()
}

// TestFullDiskStillOpens: spares are there to be used when nothing else is.
func TestFullDiskStillOpens(t *testing.T) {
	mem := vfs.NewMem()
	c := memConfig(mem)
	c.Spares = 1
	l, _, _ := openInlineT(t, c)
	want := append(putAll(l, true, 500_000), putAll(l, true, 100_000)...)
	l.step()
	want = append(want, putAll(l, true, 10)...)
	l.step()
	want = append(want, putAll(l, true, 10)...)
	l.step()
	if len(l.files.spares) != 1 {
		t.Fatal("no spare")
	}
	l.Abandon()
	fault := vfs.NewFault(mem)
	fault.SetFree(20_000) // for the manifest
	c.FS = fault
	l, got, rep := openInlineT(t, c)
	if err := sameEntries(got, want); err != nil || rep.Reappended == 0 {
		t.Fatal(err, rep)
	}
	want = append(want, putAll(l, true, 10)...)
	l.step()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, got, _ = openInlineT(t, c)
	if err := sameEntries(got, want); err != nil {
		t.Fatal(err)
	}
	l.Abandon()
}
