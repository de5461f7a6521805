package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// Entry is a record that recovery found.
type Entry struct {
	Record
	Place      Place
	LSN        LSN
	TimeMillis int64 // of its batch
}

// Report is what recovery did.
type Report struct {
	Fresh    bool // the directory was empty
	Clean    bool // the last run shut down in order
	Records  int64
	NextLSN  LSN
	CutBytes int64 // of a torn tail, never confirmed
	// ReadBytes and ReadFiles are how much log was read: what the mark does not
	// account for.
	ReadBytes int64
	ReadFiles int
	// LastTimeMillis is the time of the last batch, Unix milliseconds; 0 if none was
	// read.
	LastTimeMillis int64
	// Reappended are records that were written but that nothing on the disk
	// claims to be durable: they have been written again, and synced.
	Reappended int
}

// Open opens the log in a directory, or begins one. visit gets every record, in
// order, before Open returns; its payload is valid during the call only. After
// that the log takes appends.
//
// ErrDamaged says that records are missing or broken that had been durable:
// nothing is changed then. vfs.ErrLocked says that another process has the
// directory.
func Open(c Config, visit func(Entry) error) (*Log, *Report, error) {
	l, report, err := openInline(c, visit)
	if err == nil {
		l.inline = false
		go l.commit()
	}
	return l, report, err
}

// openInline opens a log without goroutines: step does the committer's work, and
// spares are made when they are due. Tests have every operation in a fixed order
// that way.
func openInline(c Config, visit func(Entry) error) (*Log, *Report, error) {
	l := &Log{cfg: withDefaults(c), done: make(chan struct{}), inline: true}
	l.logger = l.cfg.Logger
	l.work.L, l.room.L = &l.mu, &l.mu
	l.table.Store(&fileTable{})
	l.files.open = make(map[uint32]vfs.File)
	if err := makeDir(l.cfg.FS, l.cfg.Dir); err != nil {
		return nil, nil, fmt.Errorf("data directory %s: %w", l.cfg.Dir, err)
	}
	lock, err := l.cfg.FS.Lock(filepath.Join(l.cfg.Dir, lockName))
	if err != nil {
		return nil, nil, fmt.Errorf("data directory %s: %w", l.cfg.Dir, err)
	}
	l.lock = lock
	report, err := l.recover(visit)
	if err != nil {
		l.closeFiles()
		return nil, nil, fmt.Errorf("data directory %s: %w", l.cfg.Dir, err)
	}
	return l, report, nil
}

// makeDir makes the directory and sees to it that its name survives a power
// loss, and those of all its parents: which of them an earlier run has made, and
// was killed before it could do this, nobody knows.
func makeDir(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	if _, err := fsys.Stat(filepath.Join(dir, manifestName)); err == nil {
		return nil // an earlier run has come further than this
	}
	for at := dir; filepath.Dir(at) != at; {
		at = filepath.Dir(at)
		// A parent that we may not read is not of our making.
		if err := fsys.SyncDir(at); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

func withDefaults(c Config) Config {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.FileBytes, 64<<20)
	def(&c.FirstFileBytes, 4<<20)
	def(&c.BatchBytes, 4<<20)
	def(&c.BacklogBytes, 32<<20)
	def(&c.ResidentBytes, 16<<20)
	if c.FlushDelay == 0 {
		c.FlushDelay = 50 * time.Millisecond
	}
	if c.ClaimDelay == 0 {
		c.ClaimDelay = 200 * time.Millisecond
	}
	if c.Spares == 0 {
		c.Spares = 2
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = func() uint64 {
			var b [8]byte
			rand.Read(b[:]) // never fails
			return binary.LittleEndian.Uint64(b[:])
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (l *Log) recover(visit func(Entry) error) (*Report, error) {
	m, err := readManifest(l.cfg.FS, l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return l.begin()
	}
	l.files.manifest = m
	s := scan{l: l, visit: visit, report: &Report{Clean: m.clean > 0}, next: max(m.clean, 1)}
	if n := len(m.files); n > 0 {
		s.next = m.files[0].firstLSN
		l.number = m.files[n-1].number
	}
	if m.mark.Name != "" && l.cfg.OnMark != nil {
		if err := l.cfg.OnMark(m.mark); err != nil {
			return nil, err
		}
	}
	if err := s.run(); err != nil {
		return nil, err
	}
	// Only now, when nothing is damaged, is anything changed. If the last run was
	// killed between renaming the manifest and syncing the directory, a power
	// loss could still bring the one before it back, with files that it names.
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
		return nil, err
	}
	if err := l.tidyDir(); err != nil {
		return nil, err
	}
	return s.report, s.resume()
}

// begin starts a log in an empty directory.
func (l *Log) begin() (*Report, error) {
	names, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if numbered(name) > 0 {
			return nil, fmt.Errorf("%w: there is %s but no %s", ErrDamaged, name, manifestName)
		}
	}
	l.files.manifest = &manifest{node: l.cfg.Random()}
	if err := l.tidyDir(); err != nil {
		return nil, err
	}
	if err := l.writeManifest(l.files.manifest); err != nil {
		return nil, fmt.Errorf("write %s: %w", manifestName, err)
	}
	l.nextLSN, l.synced, l.idle.claimed = 1, 1, 1
	l.durable.Store(1)
	return &Report{Fresh: true, NextLSN: 1}, nil
}

// Close writes and syncs everything, marks the log as shut down in order, and
// gives the directory free.
func (l *Log) Close() error {
	if !l.end(nil) {
		return nil
	}
	err := l.Err()
	if err == nil {
		err = l.markClean()
	}
	l.mu.Lock()
	if l.err == nil {
		l.err = ErrClosed
	}
	l.room.Broadcast()
	l.mu.Unlock()
	l.closeFiles()
	return err
}

// Abandon ends the log without writing anything more, as a crash would. For
// tests and for a broker that has failed.
func (l *Log) Abandon() {
	if l.end(ErrClosed) {
		l.closeFiles()
	}
}

// end stops the goroutines: with an error after what they are just doing, without
// one after everything is written. It reports false if that has been done.
func (l *Log) end(err error) bool {
	l.mu.Lock()
	if l.ending {
		l.mu.Unlock()
		<-l.done
		return false
	}
	l.ending = true
	if err != nil {
		if l.err == nil {
			l.err = err
		}
		l.gathering, l.closed = nil, nil
		l.room.Broadcast()
	}
	l.work.Signal()
	l.mu.Unlock()
	if l.inline {
		l.endInline()
	}
	<-l.done
	l.files.mu.Lock()
	l.files.closed = true
	l.files.mu.Unlock()
	l.files.spareWG.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, timer := range []*time.Timer{l.lazy, l.idle.timer} {
		if timer != nil {
			timer.Stop() // else it would keep the log in memory until it fires
		}
	}
	return true
}

// endInline does what the committer does at the end.
func (l *Log) endInline() {
	select {
	case <-l.done: // it has failed
	default:
		if l.Err() == nil {
			l.commit()
		} else {
			close(l.done)
		}
	}
}

// markClean writes into the manifest that the log ends here.
func (l *Log) markClean() error {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	m := *l.files.manifest
	if m.clean == l.Durable() {
		return nil // nothing has been appended in this run
	}
	m.clean, m.durable = l.Durable(), l.Durable()
	if err := l.writeManifest(&m); err != nil {
		return fmt.Errorf("seglog: everything is on disk, but not marked as complete: %w", err)
	}
	return nil
}

func (l *Log) closeFiles() {
	l.files.openMu.Lock()
	for n, h := range l.files.open {
		h.Close() // read only, or synced; an error has nothing to lose
		delete(l.files.open, n)
	}
	l.files.openMu.Unlock()
	if l.lock != nil {
		l.lock.Close() // the lock is gone with the process at the latest
	}
}
