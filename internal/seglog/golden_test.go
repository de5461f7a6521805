package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// updating says that the golden files are to be written anew (SEGLOG_UPDATE=1).
// Read the difference: it is a change of what is synced before what.
func updating() bool { return os.Getenv("SEGLOG_UPDATE") != "" }

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if updating() {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

// TestOperations pins down the order of all operations that change the disk.
func TestOperations(t *testing.T) {
	mem := vfs.NewMem()
	trace := vfs.NewTrace(mem, testDir, vfs.OpsChange|vfs.OpLock)
	c := memConfig(trace)
	c.FileBytes, c.FirstFileBytes, c.Spares = 2<<20, 1<<20, 1
	trace.Note("# open an empty directory")
	l, _, _ := openInlineT(t, c)
	trace.Note("# first commit")
	putAll(l, true, 100)
	l.step()
	trace.Note("# second commit")
	putAll(l, true, 100)
	putAll(l, true, 5000)
	l.step()
	trace.Note("# a commit past the middle of the file: a spare is made")
	putAll(l, true, 510_000)
	l.step()
	putAll(l, true, 300_000)
	l.step()
	trace.Note("# a commit that begins a new file with the spare, and ends in it")
	putAll(l, true, 400_000)
	putAll(l, true, 400_000)
	l.step()
	trace.Note("# idle")
	l.mu.Lock()
	l.cfg.ClaimDelay, l.idle.fired, l.idle.since = 1<<40, true, l.synced
	l.mu.Unlock()
	l.step()
	trace.Note("# drop of the first file, which is too small for a spare")
	if err := l.Drop(1); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		putAll(l, true, 500_000)
	}
	trace.Note("# another new file, without a spare")
	l.step()
	trace.Note("# drop of a file that becomes a spare")
	if err := l.Drop(2); err != nil {
		t.Fatal(err)
	}
	trace.Note("# close with something to write")
	putAll(l, false, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	trace.Note("# open after that, and close")
	l, _, _ = openInlineT(t, c)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	trace.Note("# open, commit, and crash")
	l, _, _ = openInlineT(t, c)
	putAll(l, true, 10)
	l.step()
	putAll(l, true, 20)
	l.step()
	l.Abandon()
	trace.Note("# open after the crash: the last batch is written again")
	l, _, _ = openInlineT(t, c)
	l.Abandon()
	golden(t, "operations.golden", trace.Text())
}

// fixtures are small directories that version 1 wrote; every later version has to
// read them. Their log files are cut after the last page that was written.
func fixtureConfig(fsys vfs.FS) Config {
	c := memConfig(fsys)
	c.FileBytes = 1 << 20
	return c
}

// makeFixture appends and returns what a directory of this kind holds.
func makeFixture(t *testing.T, mem *vfs.MemFS, clean bool) (all []Entry) {
	l, _, _ := openInlineT(t, fixtureConfig(mem))
	step := func(sizes ...int) {
		all = append(all, putAll(l, true, sizes...)...)
		l.step()
	}
	step(0, 1, 100)
	step(5000)
	step(7)
	l.Abandon()
	l, _, _ = openInlineT(t, fixtureConfig(mem)) // cuts the first file
	step(50, 60)
	l.cfg.ClaimDelay, l.idle.fired, l.idle.since = 1<<40, true, l.synced
	l.step() // a claim
	step(8, 9)
	if clean {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.Abandon()
	return all
}

func TestFixtures(t *testing.T) {
	for _, clean := range []bool{false, true} {
		name := "v1-crashed"
		if clean {
			name = "v1-closed"
		}
		dir := filepath.Join("testdata", name)
		written := vfs.NewMem()
		all := makeFixture(t, written, clean)
		if updating() {
			saveFixture(t, written, dir)
		}
		var describe strings.Builder
		for _, e := range all {
			fmt.Fprintf(&describe, "LSN %d type %d, %d bytes %x\n", e.LSN, e.Type, len(e.Payload), e.Payload[:min(len(e.Payload), 16)])
		}
		golden(t, name+".golden", describe.String())

		mem := vfs.NewMem()
		loadFixture(t, mem, dir)
		l, got, rep := openInlineT(t, fixtureConfig(mem))
		if err := sameEntries(got, all); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rep.Clean != clean || rep.CutBytes != 0 {
			t.Errorf("%s: %+v", name, rep)
		}
		for _, e := range got {
			if e.TimeMillis != 1_700_000_000_000 {
				t.Errorf("%s: LSN %d has time %d", name, e.LSN, e.TimeMillis)
			}
		}
		checkReads(t, l, got)
		l.Abandon()

		// This version still writes the same bytes.
		now, then := vfs.NewMem(), vfs.NewMem()
		makeFixture(t, now, clean)
		loadFixture(t, then, dir)
		names, err := then.List(testDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range names {
			a, b := readAll(t, now, file), readAll(t, then, file)
			if len(a) < len(b) || !bytes.Equal(a[:len(b)], b) || len(bytes.Trim(a[len(b):], "\x00")) > 0 {
				t.Errorf("%s: %s is written differently now: that is a new format version", name, file)
			}
		}
	}
}

func readAll(t *testing.T, fsys vfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.OpenRead(testDir + "/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if err := readFull(f, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func saveFixture(t *testing.T, from vfs.FS, dir string) {
	names, err := from.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b := readAll(t, from, name)
		if numbered(name) > 0 {
			b = b[:alignPage(int64(len(bytes.TrimRight(b, "\x00"))))]
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func loadFixture(t *testing.T, to vfs.FS, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.MkdirAll(testDir); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		writeAll(t, to, e.Name(), b)
	}
}

func writeAll(t testing.TB, to vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := to.Create(testDir + "/" + name)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}
