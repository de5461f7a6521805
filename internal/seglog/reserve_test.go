package seglog

import (
	"errors"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

func reserveOn(t *testing.T, fsys vfs.FS) int64 {
	t.Helper()
	size, err := fsys.Stat(filepath.Join("/data", reserveName))
	if err != nil {
		return 0
	}
	return size
}

// TestReserveCarriesAFullDisk has the disk fill up in the middle of a file: with a
// reserve the log goes on and gives files up, without one it stops.
func TestReserveCarriesAFullDisk(t *testing.T) {
	const reserveBytes = 1 << 20
	for _, keep := range []bool{true, false} {
		mem := vfs.NewMem()
		fault := vfs.NewFault(mem)
		c := memConfig(fault)
		c.Dir, c.FileBytes, c.FirstFileBytes, c.Spares = "/data", 2<<20, 1<<20, -1
		l, _, _ := open(t, c)
		var last LSN
		for range 5 { // into the second file, which is not written in advance
			_, last = put(l, string(make([]byte, 300_000)), true)
		}
		if err := l.WaitDurable(last); err != nil {
			t.Fatal(err)
		}
		if keep {
			if err := l.KeepReserve(reserveBytes, 0); err != nil || l.Reserved() != reserveBytes || reserveOn(t, mem) != reserveBytes {
				t.Fatalf("a reserve of %d, %d on the disk: %v", l.Reserved(), reserveOn(t, mem), err)
			}
		}
		fault.SetFree(0)
		_, last = put(l, string(make([]byte, 300_000)), true)
		err := l.WaitDurable(last)
		if !keep {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("on a full disk without a reserve: %v", err)
			}
			l.Abandon()
			continue
		}
		if err != nil || l.Reserved() != 0 || reserveOn(t, mem) != 0 {
			t.Fatalf("on a full disk with a reserve: %v; %d bytes are kept back still, %d on the disk", err, l.Reserved(), reserveOn(t, mem))
		}
		if err := l.KeepReserve(reserveBytes, 0); err != nil || l.Reserved() != 0 {
			t.Errorf("a new reserve on a full disk: %d bytes, %v", l.Reserved(), err)
		}
		if err := l.Drop(l.Files()[0].Number); err != nil {
			t.Errorf("a file cannot be given up: %v", err)
		}
		fault.SetFree(reserveBytes + 99)
		if err := l.KeepReserve(reserveBytes, 100); err != nil || l.Reserved() != 0 {
			t.Errorf("a new reserve takes what is to be left: %d bytes, %v", l.Reserved(), err)
		}
		fault.SetFree(reserveBytes + 100)
		if err := l.KeepReserve(reserveBytes, 100); err != nil || l.Reserved() != reserveBytes {
			t.Errorf("no new reserve with space for it: %d bytes, %v", l.Reserved(), err)
		}
		fault.SetFree(0)
		if err := l.SetMark(Mark{Name: "ckpt-1", From: last}); err != nil || l.Reserved() != 0 {
			t.Errorf("a mark on a full disk: %v, %d bytes are kept back still", err, l.Reserved())
		}
		if err := l.Close(); err != nil {
			t.Errorf("the end on a full disk: %v", err)
		}
		l, got, _ := open(t, c)
		if len(got) != 0 {
			t.Errorf("%d records after the mark", len(got))
		}
		l.Abandon()
	}
}

// TestReserveStays is about its size, and that the next run finds it.
func TestReserveStays(t *testing.T) {
	mem := vfs.NewMem()
	c := memConfig(mem)
	c.Dir, c.FileBytes, c.FirstFileBytes = "/data", 1<<20, 1<<20
	l, _, _ := open(t, c)
	for _, x := range []struct{ want, have int64 }{
		{1 << 20, 1 << 20}, {1 << 19, 1 << 20}, // large enough
		{1<<20 + 300_000, (1<<20 + 300_000) / 4 * 5}, {300_000, (1<<20 + 300_000) / 4 * 5}, // not anew for a log file more or less
		{4 << 20, 5 << 20}, {9 << 19, 5 << 20}, // grows by more than asked for
		{1 << 20, 1 << 20}, // and shrinks
	} {
		if err := l.KeepReserve(x.want, 0); err != nil || l.Reserved() != x.have || reserveOn(t, mem) != x.have {
			t.Errorf("asked for %d: %d kept back, %d on the disk, want %d: %v", x.want, l.Reserved(), reserveOn(t, mem), x.have, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := mem.Create("/data/" + reserveNewName) // of a run that was killed
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	l, _, _ = open(t, c)
	defer l.Abandon()
	names, err := mem.List("/data")
	if l.Reserved() != 1<<20 || err != nil || slices.Contains(names, reserveNewName) {
		t.Errorf("the next run has %d bytes kept back, and finds %v, %v", l.Reserved(), names, err)
	}
}

// TestTailOnAFullDisk writes what nothing claims to be durable again, at a start.
func TestTailOnAFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	c := memConfig(mem)
	c.Dir, c.FileBytes, c.FirstFileBytes, c.Spares, c.ClaimDelay = "/data", 1<<20, 1<<20, -1, -time.Second
	l, _, _ := open(t, c)
	if err := l.KeepReserve(3<<20, 0); err != nil {
		t.Fatal(err)
	}
	_, last := put(l, "confirmed", true)
	if err := l.WaitDurable(last); err != nil {
		t.Fatal(err)
	}
	l.Abandon()
	full := vfs.NewFault(mem)
	full.SetFree(0)
	c.FS = full
	l, got, report := open(t, c)
	if len(got) != 1 || report.Reappended != 1 || l.Reserved() != 0 {
		t.Errorf("found %v, %+v, with %d bytes kept back", got, report, l.Reserved())
	}
	l.Abandon()
}
