package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/warrenmq/warren/internal/vfs"
)

const (
	logPrefix   = "log-"
	sparePrefix = "spare-"
	lockName    = "LOCK"
)

func (f *logFile) name() string { return logName(f.number) }

func logName(number uint32) string { return fmt.Sprintf("%s%08d", logPrefix, number) }

// files are the log files on the disk and the manifest that names them.
type files struct {
	mu       sync.Mutex // guards what follows, and writing the manifest
	manifest *manifest
	spares   []string // names, ready for use
	making   bool     // a goroutine makes a spare
	lastName int      // number of the last spare name given out
	closed   bool

	openMu  sync.RWMutex // held for reading while a file is read
	open    map[uint32]vfs.File
	spareWG sync.WaitGroup
}

// openForWrite returns the file, which it makes and names in the manifest before
// its first use. Only the committer calls it.
func (l *Log) openForWrite(f *logFile) (vfs.File, error) {
	l.files.openMu.RLock()
	h := l.files.open[f.number]
	l.files.openMu.RUnlock()
	if h != nil {
		l.makeSpares(f)
		return h, nil
	}
	return l.create(f, nil)
}

// create makes a log file, from a spare if one fits, and names it in the
// manifest, which edit may change further in the same stroke.
func (l *Log) create(f *logFile, edit func(*manifest)) (vfs.File, error) {
	fsys, path := l.cfg.FS, filepath.Join(l.cfg.Dir, f.name())
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	var h vfs.File
	var err error
	if n := len(l.files.spares); n > 0 && f.bytes == l.cfg.FileBytes {
		spare := l.files.spares[n-1]
		l.files.spares = l.files.spares[:n-1]
		if err = fsys.Rename(filepath.Join(l.cfg.Dir, spare), path); err == nil {
			h, err = fsys.Open(path)
		}
	} else {
		h, err = fsys.Create(path)
		if err == nil && f.bytes <= l.cfg.FirstFileBytes {
			err = h.ZeroFill(f.bytes)
		}
	}
	if err == nil {
		err = l.cfg.FS.SyncDir(l.cfg.Dir)
	}
	if err == nil {
		m := *l.files.manifest
		m.clean = 0
		m.files = append(append([]manifestFile(nil), m.files...),
			manifestFile{number: f.number, nonce: f.nonce, bytes: f.bytes, firstLSN: f.firstLSN})
		if edit != nil {
			edit(&m)
		}
		if err = writeManifest(fsys, l.cfg.Dir, &m); err == nil {
			l.files.manifest = &m
		}
	}
	if err != nil {
		if h != nil {
			h.Close()
		}
		return nil, fmt.Errorf("make %s: %w", f.name(), err)
	}
	l.files.openMu.Lock()
	l.files.open[f.number] = h
	l.files.openMu.Unlock()
	return h, nil
}

// makeSpares prepares files ahead of need, on a goroutine of its own, once the
// current one is half full: a broker with little to do keeps one small file.
func (l *Log) makeSpares(f *logFile) {
	if l.cfg.Spares < 0 {
		return
	}
	l.mu.Lock()
	half := l.file != f || l.at > f.bytes/2
	l.mu.Unlock()
	if !half {
		return
	}
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	if l.files.making || l.files.closed || len(l.files.spares) >= l.cfg.Spares {
		return
	}
	l.files.making = true
	l.files.spareWG.Add(1)
	go func() {
		defer l.files.spareWG.Done()
		for l.makeSpare() {
		}
	}()
}

// makeSpare makes one file full of written zeros. It reports whether more are
// wanted.
func (l *Log) makeSpare() bool {
	l.files.mu.Lock()
	if l.files.closed || len(l.files.spares) >= l.cfg.Spares {
		l.files.making = false
		l.files.mu.Unlock()
		return false
	}
	l.files.lastName++
	name := sparePrefix + strconv.Itoa(l.files.lastName)
	l.files.mu.Unlock()

	path := filepath.Join(l.cfg.Dir, name)
	h, err := l.cfg.FS.Create(path)
	if err == nil {
		if err = h.ZeroFill(l.cfg.FileBytes); err == nil {
			err = h.Sync()
		}
		if cerr := h.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = l.cfg.FS.SyncDir(l.cfg.Dir)
	}
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	if err != nil {
		// No harm done: a file is made when it is needed.
		l.logger.Warn("no spare log file", "error", err)
		l.cfg.FS.Remove(path)
		l.files.making = false
		return false
	}
	l.files.spares = append(l.files.spares, name)
	return true
}

// Drop gives the oldest file up: none of its records will be read again, and
// recovery does not need them. Any other file is refused, because recovery
// follows the numbers of the records without a gap.
func (l *Log) Drop(number uint32) error {
	l.mu.Lock()
	if l.file != nil && number >= l.file.number {
		l.mu.Unlock()
		return errors.New("seglog: the current file cannot be dropped")
	}
	if oldest := l.Files(); len(oldest) == 0 || oldest[0].Number != number {
		l.mu.Unlock()
		return fmt.Errorf("seglog: %s is not the oldest file", logName(number))
	}
	f := l.table.Load().get(number)
	l.table.Store(l.table.Load().without(number))
	keep := l.resident[:0]
	for _, r := range l.resident {
		if r.f == f {
			l.residentN -= int64(len(r.b.buf))
		} else {
			keep = append(keep, r)
		}
	}
	clear(l.resident[len(keep):])
	l.resident = keep
	l.mu.Unlock()

	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	m := *l.files.manifest
	m.files = nil
	var size int64
	for _, f := range l.files.manifest.files {
		if f.number == number {
			size = f.bytes
			continue
		}
		m.files = append(m.files, f)
	}
	if err := writeManifest(l.cfg.FS, l.cfg.Dir, &m); err != nil {
		return fmt.Errorf("drop %s: %w", logName(number), err)
	}
	l.files.manifest = &m
	l.files.openMu.Lock()
	if h := l.files.open[number]; h != nil {
		h.Close() // it has been read and synced; an error has nothing to lose
		delete(l.files.open, number)
	}
	l.files.openMu.Unlock()
	path := filepath.Join(l.cfg.Dir, logName(number))
	if size == l.cfg.FileBytes && len(l.files.spares) < l.cfg.Spares && !l.files.closed {
		l.files.lastName++
		name := sparePrefix + strconv.Itoa(l.files.lastName)
		if err := l.cfg.FS.Rename(path, filepath.Join(l.cfg.Dir, name)); err == nil {
			l.files.spares = append(l.files.spares, name)
			return nil
		}
	}
	if err := l.cfg.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop %s: %w", logName(number), err)
	}
	return nil
}

// FileInfo describes a log file.
type FileInfo struct {
	Number   uint32
	Bytes    int64
	FirstLSN LSN
}

// Files lists the log files in order, the current one last.
func (l *Log) Files() []FileInfo {
	var out []FileInfo
	for _, f := range l.table.Load().files {
		if f != nil {
			out = append(out, FileInfo{f.number, f.bytes, f.firstLSN})
		}
	}
	return out
}

// tidyDir removes what an interrupted run has left and collects the spares.
// named are the log files that the manifest knows.
func (l *Log) tidyDir(named map[string]bool) error {
	names, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(l.cfg.Dir, name)
		stale := name == manifestNewName || strings.HasPrefix(name, logPrefix) && !named[name]
		if number, ok := strings.CutPrefix(name, sparePrefix); ok {
			n, err := strconv.Atoi(number)
			size, serr := l.cfg.FS.Stat(path)
			if err == nil && serr == nil && size == l.cfg.FileBytes && len(l.files.spares) < l.cfg.Spares {
				l.files.spares = append(l.files.spares, name)
				l.files.lastName = max(l.files.lastName, n)
				continue
			}
			stale = true
		}
		if stale {
			if err := l.cfg.FS.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}
