// Package vfstest checks that a file system behaves as package vfs says: the same suite for the
// real one, the one in memory and the wrappers, so that what is tested on one holds on all.
// What only a power loss shows is tested where it can be had, in package vfs itself.
package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
)

// Conformance runs the suite. newFS gives a file system and an empty directory in it, new for each
// call.
func Conformance(t *testing.T, newFS func(t *testing.T) (fsys vfs.FS, dir string)) {
	for _, c := range []struct {
		name string
		run  func(s *suite)
	}{
		{"bytes are where they were written", (*suite).readWrite},
		{"reads past the end", (*suite).readPastEnd},
		{"create truncates what is there", (*suite).createTruncates},
		{"open does not make files", (*suite).missing},
		{"a read-only file refuses changes", (*suite).readOnly},
		{"truncate cuts and extends with zeros", (*suite).truncate},
		{"zero-fill extends and keeps", (*suite).zeroFill},
		{"rename moves and replaces", (*suite).rename},
		{"remove takes files and empty directories", (*suite).remove},
		{"list is sorted and has base names", (*suite).list},
		{"mkdir makes parents and accepts what is there", (*suite).mkdir},
		{"stat follows the file", (*suite).stat},
		{"sync of files and directories", (*suite).sync},
		{"a lock is held once and released by close", (*suite).lock},
		{"a lock shuts out exactly the others", (*suite).lockRace},
		{"free space is there", (*suite).free},
		{"a closed file says so", (*suite).closed},
		{"several handles see one file", (*suite).handles},
		{"writers of separate ranges do not disturb each other", (*suite).concurrent},
		{"negative offsets and sizes are refused", (*suite).negative},
		{"past the cache or not, it is one file", (*suite).direct},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys, dir := newFS(t)
			c.run(&suite{T: t, fs: fsys, dir: dir})
		})
	}
}

type suite struct {
	*testing.T
	fs  vfs.FS
	dir string
}

func (s *suite) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) wantErr(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("got error %v, want %v", err, want)
	}
}

func (s *suite) failed(what string, err error) {
	s.Helper()
	if err == nil {
		s.Fatalf("%s passed, want an error", what)
	}
}

// create makes a file with content; it stays open until the test ends or closes it.
func (s *suite) create(name, content string) vfs.File {
	s.Helper()
	file, err := s.fs.Create(s.path(name))
	s.ok(err)
	s.Cleanup(func() { _ = file.Close() }) // the test may have closed it
	if content != "" {
		s.write(file, content, 0)
	}
	return file
}

// put makes a closed file with content.
func (s *suite) put(name, content string) {
	s.Helper()
	s.ok(s.create(name, content).Close())
}

func (s *suite) write(file vfs.File, content string, offset int64) {
	s.Helper()
	n, err := file.WriteAt([]byte(content), offset)
	s.ok(err)
	if n != len(content) {
		s.Fatalf("wrote %d bytes of %d", n, len(content))
	}
}

func (s *suite) wantFile(file vfs.File, want string) {
	s.Helper()
	size, err := file.Size()
	s.ok(err)
	got := make([]byte, size)
	if n, err := file.ReadAt(got, 0); n != len(got) || err != nil && err != io.EOF {
		s.Fatalf("read %d of %d bytes: %v", n, len(got), err)
	}
	if !bytes.Equal(got, []byte(want)) {
		s.Fatalf("file holds %d bytes %.60q, want %d bytes %.60q", len(got), got, len(want), want)
	}
}

func (s *suite) wantContent(name, want string) {
	s.Helper()
	file, err := s.fs.OpenRead(s.path(name))
	s.ok(err)
	s.wantFile(file, want)
	s.ok(file.Close())
}

func (s *suite) wantList(dir string, want ...string) {
	s.Helper()
	got, err := s.fs.List(dir)
	s.ok(err)
	if !slices.Equal(got, want) {
		s.Fatalf("list gives %q, want %q", got, want)
	}
}

// zeros is a run of zero bytes.
func zeros(n int) string { return string(make([]byte, n)) }

func (s *suite) readWrite() {
	file := s.create("a", "hello world")
	s.write(file, "HELLO", 0)
	s.wantFile(file, "HELLO world")
	s.write(file, "far", 5000) // leaves a hole
	s.wantFile(file, "HELLO world"+zeros(5000-11)+"far")
	pattern := make([]byte, 3<<20)
	for i := range pattern {
		pattern[i] = byte(i*7 + i>>12)
	}
	s.write(file, string(pattern), 4095)
	got := make([]byte, 1<<20)
	_, err := file.ReadAt(got, 4095+12345)
	s.ok(err)
	if !bytes.Equal(got, pattern[12345:12345+len(got)]) {
		s.Fatal("a read across blocks differs from what was written")
	}
	s.ok(file.Close())
	s.wantContent("a", "HELLO world"+zeros(4095-11)+string(pattern))
}

func (s *suite) readPastEnd() {
	file := s.create("a", "12345")
	p := make([]byte, 10)
	n, err := file.ReadAt(p, 2)
	if n != 3 || err != io.EOF || string(p[:n]) != "345" {
		s.Fatalf("read %d %q %v, want 3 bytes and EOF", n, p[:n], err)
	}
	if n, err := file.ReadAt(p, 5); n != 0 || err != io.EOF {
		s.Fatalf("read at the end gives %d, %v", n, err)
	}
	if n, err := file.ReadAt(p, 500); n != 0 || err != io.EOF {
		s.Fatalf("read past the end gives %d, %v", n, err)
	}
}

func (s *suite) createTruncates() {
	s.put("a", "long content")
	file := s.create("a", "")
	s.wantFile(file, "")
	s.write(file, "x", 3)
	s.wantFile(file, zeros(3)+"x")
	_, err := s.fs.Create(s.path("missing", "a"))
	s.wantErr(err, fs.ErrNotExist)
	_, err = s.fs.Create(s.dir)
	s.failed("create over a directory", err)
}

func (s *suite) missing() {
	_, err := s.fs.Open(s.path("a"))
	s.wantErr(err, fs.ErrNotExist)
	_, err = s.fs.OpenRead(s.path("a"))
	s.wantErr(err, fs.ErrNotExist)
	_, err = s.fs.Stat(s.path("a"))
	s.wantErr(err, fs.ErrNotExist)
	_, err = s.fs.List(s.path("a"))
	s.wantErr(err, fs.ErrNotExist)
	s.wantErr(s.fs.SyncDir(s.path("a")), fs.ErrNotExist)
	s.wantErr(s.fs.Remove(s.path("a")), fs.ErrNotExist)
	s.wantErr(s.fs.Rename(s.path("a"), s.path("b")), fs.ErrNotExist)
	_, err = s.fs.Free(s.path("a"))
	s.failed("free space of nothing", err)
	_, err = s.fs.Lock(s.path("a", "lock"))
	s.wantErr(err, fs.ErrNotExist)
	s.wantList(s.dir)
}

func (s *suite) readOnly() {
	s.put("a", "kept")
	file, err := s.fs.OpenRead(s.path("a"))
	s.ok(err)
	_, err = file.WriteAt([]byte("x"), 0)
	s.failed("write to a read-only file", err)
	s.failed("truncate of a read-only file", file.Truncate(0))
	s.failed("zero-fill of a read-only file", file.ZeroFill(100))
	s.wantFile(file, "kept")
	s.ok(file.Close())
	writable, err := s.fs.Open(s.path("a"))
	s.ok(err)
	s.write(writable, "K", 0)
	s.wantFile(writable, "Kept")
	s.ok(writable.Close())
}

func (s *suite) truncate() {
	file := s.create("a", "0123456789")
	s.ok(file.Truncate(4))
	s.wantFile(file, "0123")
	s.ok(file.Truncate(8))
	s.wantFile(file, "0123"+zeros(4))
	s.write(file, string(bytes.Repeat([]byte{'x'}, 3*4096)), 0)
	s.ok(file.Truncate(4096))
	s.ok(file.Truncate(2 * 4096))
	s.wantFile(file, string(bytes.Repeat([]byte{'x'}, 4096))+zeros(4096))
	s.ok(file.Truncate(0))
	s.wantFile(file, "")
}

func (s *suite) zeroFill() {
	file := s.create("a", "head")
	const size = 600_000
	s.ok(file.ZeroFill(size))
	s.wantFile(file, "head"+zeros(size-4))
	s.ok(file.ZeroFill(10)) // does not shrink
	s.write(file, "tail", size-4)
	s.ok(file.ZeroFill(size))
	s.wantFile(file, "head"+zeros(size-8)+"tail")
}

func (s *suite) rename() {
	s.put("a", "content of a")
	s.put("b", "content of b")
	s.ok(s.fs.Rename(s.path("a"), s.path("b")))
	s.wantList(s.dir, "b")
	s.wantContent("b", "content of a")
	s.ok(s.fs.MkdirAll(s.path("d")))
	s.ok(s.fs.Rename(s.path("b"), s.path("d", "c")))
	s.wantList(s.dir, "d")
	s.wantContent(filepath.Join("d", "c"), "content of a")
	s.ok(s.fs.Rename(s.path("d", "c"), s.path("d", "c")))
	s.wantContent(filepath.Join("d", "c"), "content of a")
	s.wantErr(s.fs.Rename(s.path("d", "c"), s.path("missing", "c")), fs.ErrNotExist)
	s.put("f", "")
	s.failed("rename of a file over a directory", s.fs.Rename(s.path("f"), s.path("d")))
	s.ok(s.fs.Rename(s.path("d"), s.path("e")))
	s.wantContent(filepath.Join("e", "c"), "content of a")
}

func (s *suite) remove() {
	s.put("a", "x")
	s.ok(s.fs.Remove(s.path("a")))
	s.wantErr(s.fs.Remove(s.path("a")), fs.ErrNotExist)
	s.ok(s.fs.MkdirAll(s.path("d")))
	s.put(filepath.Join("d", "b"), "")
	s.failed("remove of a directory that is not empty", s.fs.Remove(s.path("d")))
	s.ok(s.fs.Remove(s.path("d", "b")))
	s.ok(s.fs.Remove(s.path("d")))
	s.wantList(s.dir)
	if runtime.GOOS == "windows" {
		return // does not remove what is open
	}
	file := s.create("open", "still here")
	s.ok(s.fs.Remove(s.path("open")))
	s.wantFile(file, "still here")
	s.write(file, "S", 0)
	s.ok(file.Sync())
	s.wantFile(file, "Still here")
	s.wantList(s.dir)
}

func (s *suite) list() {
	s.wantList(s.dir)
	for _, name := range []string{"log-2", "log-10", "A", "ckpt-1"} {
		s.put(name, name)
	}
	s.ok(s.fs.MkdirAll(s.path("dir", "inner")))
	s.wantList(s.dir, "A", "ckpt-1", "dir", "log-10", "log-2")
	s.wantList(s.path("dir"), "inner")
	_, err := s.fs.List(s.path("A"))
	s.failed("list of a file", err)
}

func (s *suite) mkdir() {
	s.ok(s.fs.MkdirAll(s.path("x", "y", "z")))
	s.ok(s.fs.MkdirAll(s.path("x", "y")))
	s.wantList(s.path("x"), "y")
	s.put("file", "")
	s.failed("a directory over a file", s.fs.MkdirAll(s.path("file")))
	s.failed("a directory below a file", s.fs.MkdirAll(s.path("file", "d")))
	size, err := s.fs.Stat(s.path("x"))
	s.ok(err)
	if size != 0 {
		s.Fatalf("a directory has size %d", size)
	}
}

func (s *suite) stat() {
	file := s.create("a", "12345")
	for _, size := range []int64{5, 4, 100} {
		s.ok(file.Truncate(size))
		got, err := s.fs.Stat(s.path("a"))
		s.ok(err)
		if got != size {
			s.Fatalf("stat gives %d bytes, want %d", got, size)
		}
	}
}

func (s *suite) sync() {
	file := s.create("a", "12345")
	s.ok(file.Sync())
	s.ok(file.Datasync())
	s.ok(file.Sync()) // with nothing to do
	s.ok(s.fs.SyncDir(s.dir))
	s.wantFile(file, "12345")
	s.failed("sync of a file as a directory", s.fs.SyncDir(s.path("a")))
}

func (s *suite) lock() {
	first, err := s.fs.Lock(s.path("LOCK"))
	s.ok(err)
	_, err = s.fs.Lock(s.path("LOCK"))
	s.wantErr(err, vfs.ErrLocked)
	other, err := s.fs.Lock(s.path("OTHER"))
	s.ok(err)
	s.ok(first.Close())
	s.failed("second release of a lock", first.Close())
	again, err := s.fs.Lock(s.path("LOCK"))
	s.ok(err)
	s.ok(again.Close())
	s.ok(other.Close())
	s.wantList(s.dir, "LOCK", "OTHER")
}

func (s *suite) lockRace() {
	var group sync.WaitGroup
	var mu sync.Mutex
	var held []io.Closer
	for range 8 {
		group.Go(func() {
			lock, err := s.fs.Lock(s.path("LOCK"))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				held = append(held, lock)
			} else if !errors.Is(err, vfs.ErrLocked) {
				s.Error(err)
			}
		})
	}
	group.Wait()
	if len(held) != 1 {
		s.Errorf("%d hold the lock, want 1", len(held))
	}
	for _, lock := range held {
		s.ok(lock.Close())
	}
}

func (s *suite) free() {
	freeBytes, err := s.fs.Free(s.dir)
	s.ok(err)
	if freeBytes == 0 || freeBytes > 1<<60 {
		s.Fatalf("%d bytes free", freeBytes)
	}
}

func (s *suite) closed() {
	file := s.create("a", "x")
	s.ok(file.Close())
	s.wantErr(file.Close(), os.ErrClosed)
	s.wantErr(file.Sync(), os.ErrClosed)
	s.wantErr(file.Datasync(), os.ErrClosed)
	s.wantErr(file.Truncate(0), os.ErrClosed)
	s.wantErr(file.ZeroFill(10), os.ErrClosed)
	_, err := file.Size()
	s.wantErr(err, os.ErrClosed)
	_, err = file.ReadAt(make([]byte, 1), 0)
	s.wantErr(err, os.ErrClosed)
	_, err = file.WriteAt(make([]byte, 1), 0)
	s.wantErr(err, os.ErrClosed)
	s.wantContent("a", "x")
}

func (s *suite) handles() {
	writer := s.create("a", "one")
	reader, err := s.fs.OpenRead(s.path("a"))
	s.ok(err)
	s.wantFile(reader, "one")
	s.write(writer, "two", 3)
	s.wantFile(reader, "onetwo")
	s.ok(writer.Close())
	s.wantFile(reader, "onetwo")
	s.ok(reader.Close())
}

func (s *suite) concurrent() {
	const writers, rounds, width = 4, 50, 1000
	file := s.create("a", "")
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			data := bytes.Repeat([]byte{byte('a' + w)}, width)
			got := make([]byte, width)
			for round := range rounds {
				at := int64((round*writers + w) * width)
				if _, err := file.WriteAt(data, at); err != nil {
					s.Error(err)
				}
				if _, err := file.ReadAt(got, at); err != nil && err != io.EOF || !bytes.Equal(got, data) {
					s.Errorf("read back %.10q, %v", got, err)
				}
			}
			if err := file.Datasync(); err != nil {
				s.Error(err)
			}
		})
	}
	group.Wait()
	size, err := file.Size()
	s.ok(err)
	if size != writers*rounds*width {
		s.Fatalf("size is %d", size)
	}
}

func (s *suite) negative() {
	file := s.create("a", "x")
	_, err := file.ReadAt(make([]byte, 1), -1)
	s.failed("read at -1", err)
	_, err = file.WriteAt(make([]byte, 1), -1)
	s.failed("write at -1", err)
	s.failed("truncate to -1", file.Truncate(-1))
	s.ok(file.ZeroFill(-1)) // every file is that long
	s.wantFile(file, "x")
}

// direct mixes writes that may go past the system's cache with others, and reads after each.
func (s *suite) direct() {
	const page = 4 << 10
	file := s.create("a", "")
	s.ok(file.ZeroFill(8 * page))
	s.ok(file.Sync())
	want := make([]byte, 8*page)
	memory := make([]byte, 64*page) // so large that it begins at a page
	write := func(offset, length int, content byte) {
		s.Helper()
		piece := memory[:length]
		for i := range piece {
			piece[i] = content
		}
		n, err := file.WriteAt(piece, int64(offset))
		s.ok(err)
		if n != length {
			s.Fatalf("wrote %d bytes of %d", n, length)
		}
		copy(want[offset:], piece)
		s.wantFile(file, string(want))
	}
	file.Direct(false) // nothing to give up
	file.Direct(true)
	file.Direct(true)
	write(0, 2*page, 'a')
	write(page, 3*page, 'b')
	write(page+1, page, 'c') // not whole pages
	write(page, page, 'd')
	s.ok(file.Datasync())
	file.Direct(false)
	write(2*page, page, 'e')
	file.Direct(true)
	write(7*page, page, 'f')
	want = append(want, make([]byte, 2*page)...)
	write(8*page, 2*page, 'g') // beyond the end
	s.ok(file.Close())
	s.wantContent("a", string(want))
	_, err := file.WriteAt(memory[:page], 0)
	s.wantErr(err, os.ErrClosed)
}
