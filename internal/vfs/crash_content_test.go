package vfs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
	"pgregory.net/rapid"
)

// contentModel says in the simplest way what one file holds and what may become of it.
type contentModel struct {
	live, synced []byte
	unsynced     []contentChange
}

type contentChange struct {
	offset int
	data   []byte // nil: set the size to offset
}

func (c contentChange) on(b []byte) []byte {
	end := c.offset + len(c.data)
	if c.data == nil && end < len(b) {
		return slices.Clone(b[:end])
	}
	b = append(slices.Clone(b), make([]byte, max(0, end-len(b)))...)
	copy(b[c.offset:], c.data)
	return b
}

func (m *contentModel) change(c contentChange) {
	m.live = c.on(m.live)
	m.unsynced = append(m.unsynced, c)
}

func (m *contentModel) sync() {
	for _, c := range m.unsynced {
		m.synced = c.on(m.synced)
	}
	m.unsynced = nil
}

// check says what is wrong with content found after a crash.
func (m *contentModel) check(mode vfs.CrashMode, got []byte) error {
	all := m.synced
	for _, c := range m.unsynced {
		all = c.on(all)
	}
	switch mode {
	case vfs.KeepNone:
		return same("synced content", got, m.synced)
	case vfs.KeepAll:
		return same("written content", got, all)
	}
	if len(m.unsynced) == 0 {
		return same("content with nothing unsynced", got, m.synced)
	}
	sizes := []int{len(m.synced)}
	for _, c := range m.unsynced {
		sizes = append(sizes, c.offset+len(c.data))
	}
	if len(got) > slices.Max(sizes) || len(got) < slices.Min(sizes) {
		return fmt.Errorf("%d bytes, possible sizes are %v", len(got), sizes)
	}
	for i, b := range got {
		if b == 0 && m.canBeZero(i) || i < len(m.synced) && m.synced[i] == b {
			continue
		}
		if !slices.ContainsFunc(m.unsynced, func(c contentChange) bool {
			return i >= c.offset && i < c.offset+len(c.data) && c.data[i-c.offset] == b
		}) {
			return fmt.Errorf("byte %d is %d, which was never written there", i, b)
		}
	}
	return nil
}

// canBeZero: a cut below i, or growth from below i, may have come through without data.
func (m *contentModel) canBeZero(i int) bool {
	return i >= len(m.synced) || slices.ContainsFunc(m.unsynced, func(c contentChange) bool {
		return c.data == nil && c.offset <= i
	})
}

func same(what string, got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("%s: got %d bytes, want %d, first difference at %d", what, len(got), len(want), at)
}

// TestCrashKeepsWhatWasSynced: what was synced before the clone is there, what was never written
// is not, with KeepNone the content is exactly the synced one, and a kill loses nothing.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewMem()
		file := mustFile(t, mem.Create, "f")
		if err := mem.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		model := &contentModel{}
		size := rapid.OneOf(rapid.IntRange(0, 20_000), rapid.Map(rapid.IntRange(0, 20), func(n int) int { return n * 1024 }))
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				data := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.IntRange(1, 9000).Draw(t, "bytes"))
				offset := size.Draw(t, "offset")
				if _, err := file.WriteAt(data, int64(offset)); err != nil {
					t.Fatal(err)
				}
				model.change(contentChange{offset, data})
			},
			"truncate": func(t *rapid.T) {
				to := size.Draw(t, "size")
				if err := file.Truncate(int64(to)); err != nil {
					t.Fatal(err)
				}
				if to != len(model.live) {
					model.change(contentChange{offset: to})
				}
			},
			"zero-fill": func(t *rapid.T) {
				to := size.Draw(t, "size")
				if err := file.ZeroFill(int64(to)); err != nil {
					t.Fatal(err)
				}
				if to > len(model.live) {
					model.change(contentChange{offset: to})
				}
			},
			"sync": func(t *rapid.T) {
				if err := file.Datasync(); err != nil {
					t.Fatal(err)
				}
				model.sync()
			},
			"failed sync": func(t *rapid.T) {
				failSync(t, mem)
				model.unsynced = nil // live stays as it is
			},
			"kill": func(t *rapid.T) {
				mem = mem.Clone()
				file = mustFile(t, mem.Open, "f")
			},
			"crash": func(t *rapid.T) {
				mode := rapid.SampledFrom(vfs.CrashModes()).Draw(t, "mode")
				mem = mem.CrashClone(mode, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))
				file = mustFile(t, mem.Open, "f")
				got := content(t, file)
				if err := model.check(mode, got); err != nil {
					t.Fatalf("mode %v: %v", mode, err)
				}
				*model = contentModel{live: got, synced: got}
			},
			"": func(t *rapid.T) {
				if err := same("live", content(t, file), model.live); err != nil {
					t.Fatal(err)
				}
				clone := mem.CrashClone(vfs.KeepNone, nil)
				if err := model.check(vfs.KeepNone, content(t, mustFile(t, clone.Open, "f"))); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// failSync makes one sync of the file fail, through a second handle.
func failSync(t *rapid.T, mem *vfs.MemFS) {
	fault := vfs.NewFault(mem)
	fault.Add(vfs.Rule{Kinds: vfs.OpSync, Err: syscall.EIO})
	if err := mustFile(t, fault.Open, "f").Sync(); err == nil {
		t.Fatal("the sync did not fail")
	}
}

func content(t rapid.TB, file vfs.File) []byte {
	t.Helper()
	size, err := file.Size()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if n, err := file.ReadAt(got, 0); n != len(got) || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d: %v", n, len(got), err)
	}
	return got
}

func mustFile(t rapid.TB, open func(string) (vfs.File, error), name string) vfs.File {
	t.Helper()
	file, err := open(name)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
