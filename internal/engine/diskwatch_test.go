package engine

import (
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// TestDiskWatch: the alarm comes below the limit, stays until there is half as
// much more, and is looked for often while it is near.
func TestDiskWatch(t *testing.T) {
	const limit = 100
	fsys := vfs.NewFault(vfs.NewMem())
	e, err := New(Config{Disk: &DiskConfig{FS: fsys, Dir: "/data", MinFreeBytes: limit, HandJanitor: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	w := newDiskWatch(e, limit)
	for _, x := range []struct {
		free int64
		up   bool
	}{{200, false}, {limit, false}, {limit - 1, true}, {limit, true}, {limit*3/2 - 1, true}, {limit * 3 / 2, false}, {limit, false}} {
		fsys.SetFree(x.free)
		if again := w.look(); again != diskWatchFast {
			t.Errorf("%d bytes free: looks again after %s", x.free, again)
		}
		if up := e.alarm.disk.Load(); up != x.up {
			t.Errorf("%d bytes free: alarm %v, want %v", x.free, up, x.up)
		}
	}
}
