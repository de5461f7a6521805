package vfs

import (
	"fmt"
	"io"
	"os"
	"unsafe"
)

// Only the broker's own user may read its data: it holds message bodies and password hashes.
const (
	osFileMode = 0o600
	osDirMode  = 0o700
)

// zeroFillStepBytes is the size of one write while zero-filling; large enough that the number of
// system calls does not matter, small enough to allocate for each call.
const zeroFillStepBytes = 256 << 10

// OS is the file system of the operating system. The zero value is ready to use.
type OS struct{}

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Open implements FS.
func (OS) Open(name string) (File, error) { return openOS(name, os.O_RDWR) }

// OpenRead implements FS.
func (OS) OpenRead(name string) (File, error) { return openOS(name, os.O_RDONLY) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Rename implements FS.
func (OS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

// MkdirAll implements FS.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, osDirMode) }

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

// Stat implements FS.
func (OS) Stat(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	if info.IsDir() {
		return 0, nil
	}
	return info.Size(), nil
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) error { return syncDir(dir) }

// Lock implements FS.
func (OS) Lock(name string) (io.Closer, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, osFileMode)
	if err != nil {
		return nil, err
	}
	if err := lockFile(file); err != nil {
		_ = file.Close() // nothing was written; the lock's error is what matters
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return file, nil // closing the handle releases the lock on every system
}

// Free implements FS.
func (OS) Free(dir string) (uint64, error) {
	available, err := freeBytes(dir)
	if err != nil {
		return 0, &os.PathError{Op: "free space of", Path: dir, Err: err}
	}
	return available, nil
}

// osFile adds to os.File what File asks for. os.File repeats calls that a signal interrupted.
type osFile struct {
	*os.File
	direct *os.File // the same file, past the cache; nil without
}

func openOS(name string, flags int) (File, error) {
	file, err := os.OpenFile(name, flags, osFileMode)
	if err != nil {
		return nil, err
	}
	return &osFile{File: file}, nil
}

// WriteAt implements io.WriterAt.
func (f *osFile) WriteAt(p []byte, offset int64) (int, error) {
	if f.direct == nil || !isWholePages(p, offset) {
		return f.File.WriteAt(p, offset)
	}
	n, err := f.direct.WriteAt(p, offset)
	if err == nil || !isNotDirect(err) {
		return n, err
	}
	// This file system, or the disk under it, wants something else than we have.
	f.Direct(false)
	rest, err := f.File.WriteAt(p[n:], offset+int64(n))
	return n + rest, err
}

// Direct implements File.
func (f *osFile) Direct(on bool) {
	if on == (f.direct != nil) {
		return
	}
	if !on {
		_ = f.direct.Close() // what it wrote is with the disk, and Datasync says whether it stays
		f.direct = nil
		return
	}
	direct, err := openDirect(f.Name())
	if err != nil {
		return
	}
	if !isSameFile(f.File, direct) { // it has been renamed
		_ = direct.Close()
		return
	}
	f.direct = direct
}

func isSameFile(a, b *os.File) bool {
	one, err := a.Stat()
	if err != nil {
		return false
	}
	two, err := b.Stat()
	return err == nil && os.SameFile(one, two)
}

// isWholePages tells whether a write may go past the cache: with less than 4 KiB alignment some
// disks could do with, all can with that.
func isWholePages(p []byte, offset int64) bool {
	const page = 4 << 10
	return len(p) > 0 && len(p)%page == 0 && offset%page == 0 && uintptr(unsafe.Pointer(&p[0]))%page == 0
}

// Close implements io.Closer.
func (f *osFile) Close() error {
	f.Direct(false)
	return f.File.Close()
}

// Datasync implements File.
func (f *osFile) Datasync() error {
	if err := datasync(f.File); err != nil {
		return fmt.Errorf("datasync %s: %w", f.Name(), err)
	}
	return nil
}

// Size implements File.
func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// ZeroFill implements File. It writes rather than calls fallocate: blocks that are reserved but
// unwritten still cost a metadata update at the first sync after each write into them.
func (f *osFile) ZeroFill(sizeBytes int64) error {
	at, err := f.Size()
	if err != nil || at >= sizeBytes {
		return err
	}
	zeros := make([]byte, min(zeroFillStepBytes, sizeBytes-at))
	for at < sizeBytes {
		written, err := f.WriteAt(zeros[:min(int64(len(zeros)), sizeBytes-at)], at)
		if err != nil {
			return err
		}
		at += int64(written)
	}
	return nil
}
