package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// replaceFile is a small piece of storage code: it replaces file "m" by a new content.
func replaceFile(fsys vfs.FS, text string) error {
	file, err := fsys.Create("new")
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte(text), 0)
	if err == nil {
		err = file.Datasync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := fsys.Rename("new", "m"); err != nil {
		return err
	}
	return fsys.SyncDir("/")
}

// TestFaultEachOperation is the pattern that Fault is made for: count, then fail each in turn.
func TestFaultEachOperation(t *testing.T) {
	counting := vfs.NewFault(vfs.NewMem())
	must(t, replaceFile(counting, "first"))
	operations := counting.Count(vfs.OpsChange)
	if operations != 5 {
		t.Fatalf("counted %d operations, want create, write, datasync, rename, sync-dir", operations)
	}
	for _, sticky := range []bool{false, true} {
		for k := 1; k <= operations; k++ {
			mem := vfs.NewMem()
			must(t, replaceFile(mem, "first"))
			fault := vfs.NewFault(mem)
			struck := fault.Add(vfs.Rule{Nth: k, Sticky: sticky, Err: syscall.EIO})
			err := replaceFile(fault, "second")
			var pathErr *fs.PathError
			if !errors.Is(err, syscall.EIO) || !errors.As(err, &pathErr) {
				t.Errorf("operation %d: error is %v", k, err)
			}
			if struck() != 1 {
				t.Errorf("operation %d: struck %d times", k, struck())
			}
			if got := string(content(t, mustFile(t, mem.CrashClone(vfs.KeepNone, nil).OpenRead, "m"))); got != "first" {
				t.Errorf("operation %d: after a crash the file holds %q", k, got)
			}
			again := replaceFile(fault, "third")
			if (again != nil) != sticky {
				t.Errorf("operation %d, sticky %v: the second time gives %v", k, sticky, again)
			}
			fault.Clear()
			must(t, replaceFile(fault, "fourth"))
		}
	}
}

func TestFaultChoosesByKindAndName(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	fault.Add(vfs.Rule{Kinds: vfs.OpCreate | vfs.OpRename, Name: "log-*", Nth: 2, Err: syscall.ENOSPC})
	for i, c := range []struct {
		run  func() error
		fail bool
	}{
		{func() error { return create(fault, "/log-1") }, false},
		{func() error { return create(fault, "/other") }, false}, // another name
		{func() error { return fault.Remove("/other") }, false},  // another kind
		{func() error { return fault.Rename("/log-1", "/spare") }, true},
		{func() error { return create(fault, "/log-3") }, false}, // only the second
	} {
		err := c.run()
		if (err != nil) != c.fail || err != nil && !vfs.IsNoSpace(err) {
			t.Errorf("step %d gives %v", i, err)
		}
	}
	if list, _ := fault.List("/"); strings.Join(list, " ") != "log-1 log-3" {
		t.Errorf("files are %q: the failed rename must not have happened", list)
	}
	fault.Add(vfs.Rule{Kinds: vfs.OpRename, Name: "MANIFEST", Err: syscall.EIO})
	if err := fault.Rename("/log-1", "/MANIFEST"); !errors.Is(err, syscall.EIO) {
		t.Errorf("a rename to a matching name gives %v", err)
	}
}

func create(fsys vfs.FS, name string) error {
	file, err := fsys.Create(name)
	if err != nil {
		return err
	}
	return file.Close()
}

// TestFaultSyncLoses: a sync that fails takes the bytes with it, though reads go on to show them
// and the next sync says that all is well.
func TestFaultSyncLoses(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(vfs.NewTrace(mem, "/", vfs.OpsAll)) // also through another wrapper
	file := mustFile(t, fault.Create, "log")
	must(t, fault.SyncDir("/"))
	write := func(text string, offset int64) {
		t.Helper()
		_, err := file.WriteAt([]byte(text), offset)
		must(t, err)
	}
	write("kept ", 0)
	must(t, file.Datasync())
	write("LOST ", 5)
	fault.Add(vfs.Rule{Kinds: vfs.OpsSync, Name: "log", Nth: 1, Err: syscall.EIO})
	if err := file.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("datasync gives %v", err)
	}
	write("later", 10)
	must(t, file.Datasync())
	if got := string(content(t, file)); got != "kept LOST later" {
		t.Errorf("the page cache shows %q", got)
	}
	if got := string(content(t, mustFile(t, mem.Clone().OpenRead, "log"))); got != "kept LOST later" {
		t.Errorf("after a kill the page cache shows %q", got)
	}
	for _, fsys := range []*vfs.MemFS{mem, mem.Clone()} {
		got := content(t, mustFile(t, fsys.CrashClone(vfs.KeepAll, nil).OpenRead, "log"))
		if want := []byte("kept \x00\x00\x00\x00\x00later"); !bytes.Equal(got, want) {
			t.Errorf("the disk holds %q, want %q", got, want)
		}
	}
}

func TestFaultShortWrite(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	file := mustFile(t, fault.Create, "f")
	fault.Add(vfs.Rule{Kinds: vfs.OpWrite | vfs.OpZeroFill, Err: syscall.EIO, ShortBytes: 3})
	if n, err := file.WriteAt([]byte("123456"), 0); n != 3 || !errors.Is(err, syscall.EIO) {
		t.Errorf("write gives %d, %v", n, err)
	}
	if err := file.ZeroFill(100); !errors.Is(err, syscall.EIO) {
		t.Errorf("zero-fill gives %v", err)
	}
	if got := string(content(t, file)); got != "123\x00\x00\x00" {
		t.Errorf("file holds %q", got)
	}
}

// TestFaultBefore: the hook sees the operation before it happens and may use the file system.
func TestFaultBefore(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	var seen []string
	fault.Add(vfs.Rule{Kinds: vfs.OpWrite | vfs.OpRename, Before: func(op vfs.Op) {
		size, err := fault.Stat("new")
		seen = append(seen, fmt.Sprintf("%v; size before %d, %v", op, size, err))
	}})
	must(t, replaceFile(fault, "text"))
	want := "write new at 0, 4 bytes; size before 0, <nil>|rename new m; size before 4, <nil>"
	if got := strings.Join(seen, "|"); got != want {
		t.Errorf("saw %s", got)
	}
	fault.Add(vfs.Rule{Kinds: vfs.OpClose, Err: syscall.EIO})
	file := mustFile(t, fault.Create, "f")
	if err := file.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close gives %v", err)
	}
	if err := file.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after a failed close the file still works: %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	wantFree := func(want uint64) {
		t.Helper()
		if got, err := fault.Free("/"); err != nil || got != want {
			t.Errorf("%d bytes free, %v; want %d", got, err, want)
		}
	}
	wantFull := func(what string, err error) {
		t.Helper()
		if !vfs.IsNoSpace(err) {
			t.Errorf("%s gives %v, want no space", what, err)
		}
	}
	old := mustFile(t, fault.Create, "old")
	must(t, old.ZeroFill(100))
	fault.SetFree(50)
	wantFree(50)
	file := mustFile(t, fault.Create, "f")
	_, err := file.WriteAt(make([]byte, 30), 0)
	must(t, err)
	_, err = file.WriteAt(make([]byte, 30), 0) // over what is there
	must(t, err)
	wantFree(20)
	n, err := file.WriteAt(make([]byte, 40), 20)
	wantFull("write", err)
	if n != 30 {
		t.Errorf("wrote %d bytes of a write that does not fit, want 30", n)
	}
	wantFree(0)
	n, err = file.WriteAt(make([]byte, 10), 50)
	wantFull("write on a full disk", err)
	if n != 0 {
		t.Errorf("wrote %d bytes on a full disk", n)
	}
	_, err = file.WriteAt(make([]byte, 10), 40)
	must(t, err)
	wantFull("zero-fill", file.ZeroFill(51))
	wantFull("truncate", file.Truncate(51))
	must(t, file.Sync())
	must(t, old.Truncate(80))
	wantFree(20)
	must(t, fault.Rename("f", "old"))
	wantFree(100)
	must(t, fault.Remove("old"))
	wantFree(150)
	wantFull("zero-fill", mustFile(t, fault.Create, "g").ZeroFill(200))
	wantFree(0)
	mustFile(t, fault.Create, "g")
	wantFree(150)
	fault.SetFree(-1)
	must(t, mustFile(t, fault.Open, "g").ZeroFill(1000))
}
