package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/warrenmq/warren/internal/vfs"
)

// The reserve is a file of written zeros that is given up when the disk is full,
// because space is freed only by writing a little first: a checkpoint, a manifest
// that names a file less, the records that say why nobody needs it any more.
// Others may take the room that it leaves before we do; then it ends as it would
// without.
const (
	reserveName    = "RESERVE"
	reserveNewName = "RESERVE.new"
)

// KeepReserve sees to it that at least so many bytes are kept back, and not far
// more. It makes no reserve while that would leave less than leaveBytes on the
// disk. It writes as many zeros, so it is not for a goroutine in a hurry. After an
// error there is the reserve of before, if any.
func (l *Log) KeepReserve(bytes, leaveBytes int64) error {
	l.files.mu.Lock()
	have := l.files.reserveBytes
	closed := l.files.closed
	l.files.mu.Unlock()
	// The owner may want room for a log file now and not in a second; making the
	// reserve anew each time would cost the disk more than the log does.
	enough := have >= bytes && have <= 2*(bytes+l.cfg.FileBytes)
	if bytes <= 0 || closed || enough {
		return nil
	}
	size := bytes
	if have > 0 && have < bytes {
		size += bytes / 4 // it grows: not every time anew
	}
	free, err := l.cfg.FS.Free(l.cfg.Dir)
	if err != nil {
		return fmt.Errorf("seglog: make %s: %w", reserveName, err)
	}
	if free < uint64(size+leaveBytes) {
		return nil
	}
	if err := l.makeReserve(size); err != nil {
		return fmt.Errorf("seglog: make %s: %w", reserveName, err)
	}
	return nil
}

// makeReserve makes a new one beside the old, which stays of use meanwhile.
func (l *Log) makeReserve(size int64) error {
	path := filepath.Join(l.cfg.Dir, reserveNewName)
	h, err := l.cfg.FS.Create(path)
	if err == nil {
		if err = h.ZeroFill(size); err == nil {
			err = h.Sync() // or the blocks are promised only
		}
		if cerr := h.Close(); err == nil {
			err = cerr
		}
	}
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	if err == nil && l.files.closed {
		err = ErrClosed
	}
	if err == nil {
		err = l.cfg.FS.Rename(path, filepath.Join(l.cfg.Dir, reserveName))
	}
	if err != nil {
		l.cfg.FS.Remove(path) // if it stays, the next start removes it
		return err
	}
	l.files.reserveBytes = size
	return nil
}

// Reserved is the size of the reserve, 0 if there is none.
func (l *Log) Reserved() int64 {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	return l.files.reserveBytes
}

// ReleaseReserve gives the reserve up. It reports whether there was one: then
// what has failed for want of space may be tried again.
func (l *Log) ReleaseReserve() bool {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	return l.releaseReserve()
}

func (l *Log) releaseReserve() bool {
	if l.files.reserveBytes == 0 {
		return false
	}
	if err := l.cfg.FS.Remove(filepath.Join(l.cfg.Dir, reserveName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.logger.Error("the disk is full, and what is kept back for that cannot be given up", "error", err)
		return false
	}
	l.logger.Warn("the disk is full: what is kept back for that is given up", "bytes", l.files.reserveBytes)
	l.files.reserveBytes = 0
	return true
}

// writeManifest replaces the manifest, on a full disk with the reserve's room.
// Called with files.mu held.
func (l *Log) writeManifest(m *manifest) error {
	err := writeManifest(l.cfg.FS, l.cfg.Dir, m)
	if vfs.IsNoSpace(err) && l.releaseReserve() {
		err = writeManifest(l.cfg.FS, l.cfg.Dir, m)
	}
	return err
}
