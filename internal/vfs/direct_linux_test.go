package vfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// TestDirectDescriptors: a file has a second descriptor as long as it is written past the cache.
func TestDirectDescriptors(t *testing.T) {
	name, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	name = filepath.Join(name, "f")
	file, err := vfs.OS{}.Create(name)
	must(t, err)
	open := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		for _, entry := range entries {
			if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && target == name {
				n++
			}
		}
		return n
	}
	want := func(n int, when string) {
		t.Helper()
		if got := open(); got != n {
			t.Errorf("%s: %d descriptors, want %d", when, got, n)
		}
	}
	want(1, "at first")
	file.Direct(true)
	want(2, "past the cache")
	file.Direct(false)
	want(1, "given up")
	file.Direct(true)
	must(t, file.Close())
	want(0, "closed")

	file, err = vfs.OS{}.Open(name)
	must(t, err)
	must(t, os.Rename(name, name+"2"))
	must(t, os.WriteFile(name, []byte("another"), 0o600))
	file.Direct(true)
	want(0, "another file has the name now")
	must(t, file.Close())
}
