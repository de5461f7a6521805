package vfs_test

import (
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/vfs/vfstest"
)

func newMemDir(t *testing.T) (*vfs.MemFS, string) {
	t.Helper()
	mem := vfs.NewMem()
	must(t, mem.MkdirAll("/data"))
	must(t, mem.SyncDir("/"))
	return mem, "/data"
}

func TestConformanceOS(t *testing.T) {
	vfstest.Conformance(t, func(t *testing.T) (vfs.FS, string) { return vfs.OS{}, t.TempDir() })
}

func TestConformanceMem(t *testing.T) {
	vfstest.Conformance(t, func(t *testing.T) (vfs.FS, string) { return newMemDir(t) })
}

// TestConformanceClones runs the suite in directories that went through a kill and a crash.
func TestConformanceClones(t *testing.T) {
	vfstest.Conformance(t, func(t *testing.T) (vfs.FS, string) {
		mem, dir := newMemDir(t)
		return mem.Clone().CrashClone(vfs.KeepNone, nil), dir
	})
}

func TestConformanceFault(t *testing.T) {
	vfstest.Conformance(t, func(t *testing.T) (vfs.FS, string) { return vfs.NewFault(vfs.OS{}), t.TempDir() })
}

func TestConformanceFaultWithRoom(t *testing.T) {
	vfstest.Conformance(t, func(t *testing.T) (vfs.FS, string) {
		mem, dir := newMemDir(t)
		fault := vfs.NewFault(mem)
		fault.SetFree(1 << 30)
		return fault, dir
	})
}

func TestConformanceTrace(t *testing.T) {
	vfstest.Conformance(t, func(t *testing.T) (vfs.FS, string) {
		mem, dir := newMemDir(t)
		return vfs.NewTrace(mem, dir, vfs.OpsAll), dir
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
