package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
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
	begun    int      // files of the usual size begun since the last TidySpares
	busy     int      // most files begun between two TidySpares, lately
	calm     int      // calls of TidySpares since it was so many
	closed   bool
	// reserveBytes is the size of the reserve, 0 if there is none.
	reserveBytes int64

	writing vfs.File // the newest, nil at first; the committer's own

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
	if l.files.writing != nil {
		l.files.writing.Direct(false) // full, and it may be dropped once it is not the newest
	}
	h, err := l.makeFile(f)
	if err != nil {
		return nil, err
	}
	l.files.writing = h
	return h, l.nameFile(f, h, manifestFile{}, f.firstLSN)
}

// makeFile makes a log file, from a spare if one fits. It is not in the manifest
// yet: a crash now, and it is removed at the next start.
func (l *Log) makeFile(f *logFile) (vfs.File, error) {
	path := filepath.Join(l.cfg.Dir, f.name())
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	if f.bytes == l.cfg.FileBytes {
		l.files.begun++
		if len(l.files.spares) > 0 {
			return l.useSpare(path)
		}
	}
	h, err := l.createFile(path, f)
	if vfs.IsNoSpace(err) && f.bytes < l.cfg.FileBytes && len(l.files.spares) > 0 {
		return l.useSpare(path) // larger than needed, but it is there
	}
	if vfs.IsNoSpace(err) && l.releaseReserve() {
		h, err = l.createFile(path, f)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", f.name(), err)
	}
	return h, nil
}

// createFile makes a log file, a small one with all its room.
func (l *Log) createFile(path string, f *logFile) (vfs.File, error) {
	h, err := l.cfg.FS.Create(path)
	if err == nil && f.bytes <= l.cfg.FirstFileBytes {
		err = h.ZeroFill(f.bytes)
	}
	if err == nil {
		return h, nil
	}
	if h != nil {
		h.Close() // nothing has been written; the first error is what matters
	}
	return nil, err
}

// useSpare turns a spare into the file of that name. Called with files.mu held.
func (l *Log) useSpare(path string) (vfs.File, error) {
	last := len(l.files.spares) - 1
	spare := l.files.spares[last]
	l.files.spares = l.files.spares[:last]
	if err := l.cfg.FS.Rename(filepath.Join(l.cfg.Dir, spare), path); err != nil {
		return nil, fmt.Errorf("use %s: %w", spare, err)
	}
	h, err := l.cfg.FS.Open(path)
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", spare, err)
	}
	// Its zeros are on the disk, so nothing is in the way there, and a batch gets there
	// with less work than through the cache. What is read again soon is resident.
	h.Direct(true)
	return h, nil
}

// nameFile makes the file's name durable and then puts it into the manifest.
// From then on recovery reads it, and takes it as a claim that everything below
// its first LSN is durable. In the same stroke an older file is cut, if cut says
// so, and one that holds nothing below that LSN is forgotten. durable is for the
// manifest. On error h is closed.
func (l *Log) nameFile(f *logFile, h vfs.File, cut manifestFile, durable LSN) error {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	m := *l.files.manifest
	m.clean, m.files, m.durable = 0, nil, max(m.durable, durable)
	var empty []uint32
	for _, old := range l.files.manifest.files {
		if old.firstLSN == f.firstLSN {
			empty = append(empty, old.number)
			continue
		}
		if old.number == cut.number {
			old = cut
		}
		m.files = append(m.files, old)
	}
	m.files = append(m.files, manifestFile{number: f.number, nonce: f.nonce, bytes: f.bytes, firstLSN: f.firstLSN})
	err := l.cfg.FS.SyncDir(l.cfg.Dir)
	if err == nil {
		err = l.writeManifest(&m)
	}
	if err != nil {
		h.Close() // the log stops with err, whatever this says
		return fmt.Errorf("name %s in %s: %w", f.name(), manifestName, err)
	}
	l.files.manifest = &m
	l.files.openMu.Lock()
	l.files.open[f.number] = h
	l.files.openMu.Unlock()
	for _, number := range empty {
		l.forget(number)
		// If it stays, the next start removes it, because nothing names it.
		_ = l.cfg.FS.Remove(filepath.Join(l.cfg.Dir, logName(number)))
	}
	return nil
}

// forget takes a file that the manifest does not name any more out of memory.
func (l *Log) forget(number uint32) {
	l.mu.Lock()
	f := l.table.Load().get(number)
	l.table.Store(l.table.Load().without(number))
	l.resident = slices.DeleteFunc(l.resident, func(r residentBlock) bool {
		if r.f == f {
			l.residentN -= int64(len(r.b.buf))
		}
		return r.f == f
	})
	l.mu.Unlock()
	l.files.openMu.Lock()
	if h := l.files.open[number]; h != nil {
		h.Close() // it has been read and synced; an error has nothing to lose
		delete(l.files.open, number)
	}
	l.files.openMu.Unlock()
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
	start := !l.files.making && !l.files.closed && len(l.files.spares) < l.cfg.Spares
	if start {
		l.files.making = true
		l.files.spareWG.Add(1)
	}
	l.files.mu.Unlock()
	fill := func() {
		defer l.files.spareWG.Done()
		for l.makeSpare() {
		}
	}
	switch {
	case start && l.inline:
		fill()
	case start:
		go fill()
	}
}

// makeSpare makes one file full of written zeros. It reports whether more are
// wanted.
func (l *Log) makeSpare() bool {
	l.files.mu.Lock()
	if l.files.closed || len(l.files.spares) >= l.cfg.Spares || !l.roomForSpare() {
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

// roomForSpare tells whether a spare would leave enough of the disk for a file
// that is growing. Called with files.mu held.
func (l *Log) roomForSpare() bool {
	free, err := l.cfg.FS.Free(l.cfg.Dir)
	return err != nil || free >= 2*uint64(l.cfg.FileBytes)
}

// Drop gives a file up: none of its records will be read again. It has to be the
// oldest one, or below the mark, because recovery follows the numbers of the
// records from the mark on without a gap; the newest one is refused as well,
// because it says where the numbers go on. After an error the file is still
// there, or is gone at the next start.
func (l *Log) Drop(number uint32) error {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	if err := l.mayDrop(number); err != nil {
		return fmt.Errorf("seglog: drop %s: %w", logName(number), err)
	}
	m := *l.files.manifest
	m.durable = max(m.durable, l.Durable())
	size := int64(0)
	m.files = slices.DeleteFunc(slices.Clone(m.files), func(f manifestFile) bool {
		if f.number == number {
			size = f.bytes
		}
		return f.number == number
	})
	if err := l.writeManifest(&m); err != nil {
		return fmt.Errorf("seglog: drop %s: %w", logName(number), err)
	}
	l.files.manifest = &m
	l.forget(number)
	path := filepath.Join(l.cfg.Dir, logName(number))
	if n := len(l.files.spares); size == l.cfg.FileBytes && n < l.sparesToKeep() && (n < l.cfg.Spares || l.roomForSpare()) {
		l.files.lastName++
		name := sparePrefix + strconv.Itoa(l.files.lastName)
		if err := l.cfg.FS.Rename(path, filepath.Join(l.cfg.Dir, name)); err == nil {
			l.files.spares = append(l.files.spares, name)
			return nil
		}
	}
	if err := l.cfg.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seglog: drop %s: %w", logName(number), err)
	}
	return nil
}

const (
	// maxSpares bounds the spares of a busy log.
	maxSpares = 16
	// calmRounds is how many calls of TidySpares it takes until one spare less is
	// kept: load that comes again finds the files of the last time.
	calmRounds = 30
)

// sparesToKeep is how many given up files stay as spares: besides the usual ones
// as many as a busy log begins between two looks of its owner, who gives files up
// only then. Writing zeros for each of them anew would cost the disk as much as the
// log itself. Called with files.mu held.
func (l *Log) sparesToKeep() int {
	if l.cfg.Spares < 0 {
		return 0
	}
	return max(l.cfg.Spares, min(maxSpares, l.cfg.Spares+max(l.files.begun, l.files.busy)))
}

// TidySpares removes the spares that a busy time has left. The owner calls it
// regularly, when it has given up what it can.
func (l *Log) TidySpares() {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	l.files.calm++
	if n := l.files.begun; n >= l.files.busy {
		l.files.busy, l.files.calm = n, 0
	} else if l.files.calm >= calmRounds {
		l.files.busy, l.files.calm = l.files.busy-1, 0
	}
	l.files.begun = 0
	if !l.roomForSpare() {
		l.files.busy = 0
	}
	for n := len(l.files.spares); n > max(0, l.sparesToKeep()) && !l.files.closed; n-- {
		// If it stays, the next start removes it.
		_ = l.cfg.FS.Remove(filepath.Join(l.cfg.Dir, l.files.spares[n-1]))
		l.files.spares = l.files.spares[:n-1]
	}
}

// mayDrop tells why a file cannot be dropped. Called with files.mu held.
func (l *Log) mayDrop(number uint32) error {
	if l.files.closed {
		return ErrClosed
	}
	if err := l.Err(); err != nil {
		return err
	}
	named := l.files.manifest.files
	switch {
	case len(named) <= 1 || named[len(named)-1].number == number:
		return errors.New("it is the newest file")
	case named[0].number == number:
		return nil
	}
	for i, f := range named {
		if f.number == number && l.files.manifest.below(i) {
			return nil
		}
	}
	return errors.New("it is neither the oldest file nor below the mark")
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

// numbered returns the number in a name such as log-00000007, 0 if it is none.
func numbered(name string) uint32 {
	digits, ok := strings.CutPrefix(name, logPrefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || logName(uint32(n)) != name {
		return 0
	}
	return uint32(n)
}

// spareNumber is the same for names such as spare-7.
func spareNumber(name string) int {
	digits, ok := strings.CutPrefix(name, sparePrefix)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || sparePrefix+strconv.Itoa(n) != name {
		return 0
	}
	return n
}

// tidyDir removes what an interrupted run has left and collects the spares. It
// touches nothing but files with names that the log gives.
func (l *Log) tidyDir() error {
	names, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(l.cfg.Dir, name)
		stale := name == manifestNewName || name == reserveNewName
		if name == reserveName {
			if l.files.reserveBytes, err = l.cfg.FS.Stat(path); err != nil {
				return err
			}
		}
		if n := numbered(name); n > 0 {
			stale = !l.files.manifest.names(n)
		}
		if n := spareNumber(name); n > 0 {
			size, err := l.cfg.FS.Stat(path)
			stale = err != nil || size != l.cfg.FileBytes || len(l.files.spares) >= l.cfg.Spares
			if !stale {
				l.files.spares = append(l.files.spares, name)
				l.files.lastName = max(l.files.lastName, n)
			}
		}
		if stale {
			if err := l.cfg.FS.Remove(path); err != nil {
				return fmt.Errorf("remove what an earlier run has left: %w", err)
			}
		}
	}
	return nil
}
