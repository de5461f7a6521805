package vfs

import (
	"bytes"
	"io"
	"os"
	"sync/atomic"
	"syscall"
)

// memFile is an open file of a MemFS. It keeps its content alive after a Remove, as POSIX has it.
type memFile struct {
	fs       *MemFS
	node     *node
	name     string
	writable bool
	closed   atomic.Bool
}

// ReadAt implements io.ReaderAt.
func (f *memFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.check("read", offset, false); err != nil {
		return 0, err
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	n := int(min(int64(len(p)), max(0, f.node.live.sizeBytes-offset)))
	f.node.live.readAt(p[:n], offset)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (f *memFile) WriteAt(p []byte, offset int64) (int, error) {
	if err := f.check("write", offset, true); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	data := bytes.Clone(p)
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.record(change{sequence: f.fs.nextSequence(), offset: offset, data: data})
	return len(p), nil
}

// Truncate implements File.
func (f *memFile) Truncate(sizeBytes int64) error {
	if err := f.check("truncate", sizeBytes, true); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if sizeBytes != f.node.live.sizeBytes {
		f.node.record(change{sequence: f.fs.nextSequence(), sizeBytes: sizeBytes})
	}
	return nil
}

// ZeroFill implements File. Zeros need no blocks here, so it is only a new size.
func (f *memFile) ZeroFill(sizeBytes int64) error {
	if err := f.check("zero-fill", max(0, sizeBytes), true); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if sizeBytes > f.node.live.sizeBytes {
		f.node.record(change{sequence: f.fs.nextSequence(), sizeBytes: sizeBytes})
	}
	return nil
}

// Sync implements File.
func (f *memFile) Sync() error {
	if err := f.check("sync", 0, false); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.sync()
	return nil
}

// Datasync implements File.
func (f *memFile) Datasync() error { return f.Sync() }

// Direct implements File: there is nothing to do.
func (f *memFile) Direct(bool) {}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	if err := f.check("size", 0, false); err != nil {
		return 0, err
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.node.live.sizeBytes, nil
}

// Close implements io.Closer.
func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return pathError("close", f.name, os.ErrClosed)
	}
	return nil
}

// loseUnsynced implements unsyncedLoser.
func (f *memFile) loseUnsynced() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.loseUnsynced()
}

func (f *memFile) check(op string, offset int64, change bool) error {
	switch {
	case f.closed.Load():
		return pathError(op, f.name, os.ErrClosed)
	case offset < 0:
		return pathError(op, f.name, syscall.EINVAL)
	case change && !f.writable:
		return pathError(op, f.name, syscall.EBADF)
	}
	return nil
}
