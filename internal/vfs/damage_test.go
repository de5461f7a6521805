package vfs_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

func TestDamage(t *testing.T) {
	mem := vfs.NewMem()
	file := mustFile(t, mem.Create, "f")
	_, err := file.WriteAt([]byte("abcdef"), 0)
	must(t, err)
	must(t, mem.SyncDir("/"))
	for _, c := range []struct {
		name   string
		damage func() error
		want   string
	}{
		{"lowest bit of the first byte", func() error { return vfs.FlipBit(mem, "f", 0) }, "`bcdef"},
		{"bit 5 of the third byte", func() error { return vfs.FlipBit(mem, "f", 2*8+5) }, "`bCdef"},
		{"overwrite", func() error { return vfs.Overwrite(mem, "f", 4, []byte("XY")) }, "`bCdXY"},
		{"cut", func() error { return vfs.CutTo(mem, "f", 4) }, "`bCd"},
		{"cut to more than there is", func() error { return vfs.CutTo(mem, "f", 10) }, "`bCd"},
	} {
		must(t, c.damage())
		if got := string(content(t, mustFile(t, mem.CrashClone(vfs.KeepNone, nil).OpenRead, "f"))); got != c.want {
			t.Errorf("%s: the file holds %q durably, want %q", c.name, got, c.want)
		}
	}
	if err := vfs.FlipBit(mem, "f", 4*8); err == nil {
		t.Error("flipped a bit past the end")
	}
	if err := vfs.FlipBit(mem, "missing", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damage to a missing file gives %v", err)
	}
}
