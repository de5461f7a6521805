package vfs_test

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// TestTraceGolden: the same lines from the real file system and from memory, in any directory.
func TestTraceGolden(t *testing.T) {
	const golden = "testdata/trace.golden"
	mem, memDir := newMemDir(t)
	for _, c := range []struct {
		name string
		fsys vfs.FS
		dir  string
	}{{"mem", mem, memDir}, {"os", vfs.OS{}, t.TempDir()}} {
		t.Run(c.name, func(t *testing.T) {
			trace := vfs.NewTrace(c.fsys, c.dir, vfs.OpsAll)
			drive(t, trace, c.dir)
			if *rewrite {
				must(t, os.WriteFile(golden, []byte(trace.Text()), 0o644))
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if got := trace.Text(); got != strings.ReplaceAll(string(want), "\r\n", "\n") {
				t.Errorf("trace is\n%s\nwant (-rewrite to accept)\n%s", got, want)
			}
		})
	}
}

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// drive calls every operation once at least, some of them in vain.
func drive(t *testing.T, trace *vfs.Trace, dir string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t, trace.MkdirAll(in("sub")))
	lock, err := trace.Lock(in("LOCK"))
	must(t, err)
	if _, err := trace.Lock(in("LOCK")); !errors.Is(err, vfs.ErrLocked) {
		t.Fatal(err)
	}
	must(t, lock.Close())
	trace.Note("# a file")
	file := mustFile(t, trace.Create, in("tmp"))
	_, err = file.WriteAt([]byte("hello"), 3)
	must(t, err)
	must(t, file.ZeroFill(100))
	must(t, file.Truncate(50))
	must(t, file.Sync())
	must(t, file.Datasync())
	if _, err := file.ReadAt(make([]byte, 20), 40); err != io.EOF {
		t.Fatal(err)
	}
	_, err = file.Size()
	must(t, err)
	must(t, file.Close())
	if err := file.Sync(); err == nil {
		t.Fatal("sync of a closed file")
	}
	trace.Note("# names")
	must(t, trace.Rename(in("tmp"), in("sub/final")))
	must(t, trace.SyncDir(in("sub")))
	must(t, trace.SyncDir(dir))
	_, err = trace.Stat(in("sub/final"))
	must(t, err)
	_, err = trace.List(dir)
	must(t, err)
	_, err = trace.Free(dir)
	must(t, err)
	must(t, mustFile(t, trace.Open, in("sub/final")).Close())
	must(t, mustFile(t, trace.OpenRead, in("sub/final")).Close())
	must(t, trace.Remove(in("sub/final")))
	if err := trace.Remove(in("sub/final")); err == nil {
		t.Fatal("removed twice")
	}
}

func TestTraceChoosesKinds(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	fault.Add(vfs.Rule{Kinds: vfs.OpRename, Err: syscall.ENOSPC})
	fault.Add(vfs.Rule{Kinds: vfs.OpSyncDir, Err: syscall.EIO})
	trace := vfs.NewTrace(fault, "/", vfs.OpRename|vfs.OpsSync)
	if err := replaceFile(trace, "text"); !vfs.IsNoSpace(err) {
		t.Fatal(err)
	}
	if err := trace.SyncDir("/"); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if got, want := trace.Text(), "datasync new\nrename new m: no space\nsync-dir .: failed\n"; got != want {
		t.Errorf("trace is %q, want %q", got, want)
	}
	trace.Reset()
	if got := trace.Text(); got != "" {
		t.Errorf("after a reset the trace is %q", got)
	}
}

func TestOpKindNames(t *testing.T) {
	seen := map[string]bool{}
	for kind := vfs.OpCreate; kind&vfs.OpsAll != 0; kind <<= 1 {
		seen[kind.String()] = true
	}
	if len(seen) != 19 || !seen["create"] || !seen["close"] {
		t.Errorf("kinds are called %v", seen)
	}
	if got := vfs.OpsSync.String(); !strings.HasPrefix(got, "operations 0x") {
		t.Errorf("a set of kinds is called %q", got)
	}
}
