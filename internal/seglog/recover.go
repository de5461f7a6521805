package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	l := &Log{cfg: withDefaults(c), done: make(chan struct{})}
	l.logger = l.cfg.Logger
	l.work.L, l.room.L = &l.mu, &l.mu
	l.table.Store(&fileTable{})
	l.files.open = make(map[uint32]vfs.File)
	if err := l.cfg.FS.MkdirAll(l.cfg.Dir); err != nil {
		return nil, nil, err
	}
	lock, err := l.cfg.FS.Lock(filepath.Join(l.cfg.Dir, lockName))
	if err != nil {
		return nil, nil, fmt.Errorf("data directory %s: %w", l.cfg.Dir, err)
	}
	l.lock = lock
	report, err := l.recover(visit)
	if err != nil {
		l.closeFiles()
		return nil, nil, err
	}
	return l, report, nil
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
	named := make(map[string]bool)
	for _, f := range m.files {
		named[logName(f.number)] = true
	}
	if err := l.tidyDir(named); err != nil {
		return nil, err
	}
	s := scan{l: l, visit: visit, report: &Report{Clean: m.clean > 0}}
	if len(m.files) > 0 {
		s.next = m.files[0].firstLSN
	} else {
		s.next = max(m.clean, 1)
	}
	if err := s.run(); err != nil {
		return nil, err
	}
	if m.clean > 0 && s.next != m.clean {
		return nil, fmt.Errorf("%w: the log ends at LSN %d, a clean shutdown ended it at %d", ErrDamaged, s.next, m.clean)
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
		if len(name) > len(logPrefix) && name[:len(logPrefix)] == logPrefix {
			return nil, fmt.Errorf("%w: %s has log files but no %s", ErrDamaged, l.cfg.Dir, manifestName)
		}
	}
	l.files.manifest = &manifest{node: l.cfg.Random()}
	if err := l.tidyDir(nil); err != nil {
		return nil, err
	}
	if err := writeManifest(l.cfg.FS, l.cfg.Dir, l.files.manifest); err != nil {
		return nil, err
	}
	l.nextLSN, l.synced = 1, 1
	l.durable.Store(1)
	go l.commit()
	return &Report{Fresh: true, NextLSN: 1}, nil
}

// tailBatch is a batch that was read but that nothing claims to be durable.
type tailBatch struct {
	file   *logFile
	at     int64 // of its header
	header batchHeader
	data   []byte // the payload, copied
}

// scan reads the log from its first file on.
type scan struct {
	l      *Log
	visit  func(Entry) error
	report *Report
	next   LSN // expected
	tail   []tailBatch
	files  []*logFile
	free   [][]byte

	window []byte // of the current file
	base   int64
}

const windowBytes = 8 << 20

func (s *scan) run() error {
	m := s.l.files.manifest
	for i, mf := range m.files {
		f := newLogFile(mf)
		h, err := s.l.cfg.FS.Open(filepath.Join(s.l.cfg.Dir, f.name()))
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, f.name(), err)
		}
		s.l.files.open[f.number] = h
		s.files = append(s.files, f)
		at, err := s.readFile(f, h)
		if err != nil {
			return err
		}
		if i+1 < len(m.files) && m.files[i+1].firstLSN == s.next {
			continue // it ended here; the rest of it is of no account
		}
		if mf.cutAt > 0 {
			return fmt.Errorf("%w: %s was cut at LSN %d, no file goes on there", ErrDamaged, f.name(), mf.cutLSN)
		}
		if err := s.badSpot(i, at); err != nil {
			return err
		}
		break
	}
	return nil
}

// readFile reads the batches of one file and returns the offset at which no
// valid one follows.
func (s *scan) readFile(f *logFile, h vfs.File) (int64, error) {
	s.window = s.window[:0]
	at := int64(0)
	for at+batchHeaderBytes <= f.bytes && (f.cutAt == 0 || at < f.cutAt) {
		head, err := s.bytes(h, at, batchHeaderBytes, f.bytes)
		if err != nil {
			return at, err
		}
		hd, ok := parseBatchHeader(head, f.nonce)
		if !ok || hd.firstLSN != s.next || at+batchHeaderBytes+int64(hd.payloadBytes) > f.bytes {
			return at, nil
		}
		payload, err := s.bytes(h, at+batchHeaderBytes, int(hd.payloadBytes), f.bytes)
		if err != nil {
			return at, err
		}
		if crc32Of(f.nonce, payload) != hd.payloadCRC || countRecords(payload, at+batchHeaderBytes) != int(hd.records) {
			return at, nil
		}
		if err := s.settle(hd.durableLSN); err != nil {
			return at, err
		}
		s.tail = append(s.tail, tailBatch{f, at, hd, append(s.buffer(), payload...)})
		s.next += LSN(hd.records)
		at = alignPage(at + batchHeaderBytes + int64(hd.payloadBytes))
	}
	return at, nil
}

// settle hands over the batches that a later header claims to be durable.
func (s *scan) settle(durable LSN) error {
	n := 0
	for n < len(s.tail) && s.tail[n].header.firstLSN+LSN(s.tail[n].header.records) <= durable {
		if err := s.give(&s.tail[n]); err != nil {
			return err
		}
		n++
	}
	if n > 0 {
		for _, t := range s.tail[:n] {
			s.free = append(s.free, t.data[:0])
		}
		s.tail = append(s.tail[:0], s.tail[n:]...)
	}
	return nil
}

// buffer returns memory of a batch that has been handed over.
func (s *scan) buffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return nil
}

func (s *scan) give(t *tailBatch) error {
	lsn := t.header.firstLSN
	var err error
	walk(t.data, t.at+batchHeaderBytes, func(b []byte, at int64) bool {
		r, n, _ := parseRecord(b)
		if !recordChecksumOK(b[:n], t.file.nonce) {
			err = fmt.Errorf("%w: %s at %d: wrong record checksum", ErrDamaged, t.file.name(), at)
			return false
		}
		err = s.visit(Entry{Record: r, Place: makePlace(t.file.number, at), LSN: lsn, TimeMillis: t.header.timeMillis})
		lsn++
		s.report.Records++
		return err == nil
	})
	return err
}

// bytes returns n bytes of the file, read ahead in large steps. What lies beyond
// the end of a file that is shorter than it should be reads as zeros: the file
// may have been growing.
func (s *scan) bytes(h vfs.File, at int64, n int, fileBytes int64) ([]byte, error) {
	if at >= s.base && at+int64(n) <= s.base+int64(len(s.window)) {
		return s.window[at-s.base:][:n], nil
	}
	size := min(max(int64(n), windowBytes), fileBytes-at)
	if int64(cap(s.window)) < size {
		s.window = make([]byte, size)
	}
	s.window = s.window[:size]
	s.base = at
	if err := readFull(h, s.window, at); err != nil {
		return nil, err
	}
	return s.window[:n], nil
}

// readFull reads len(b) bytes; past the end of the file there are zeros.
func readFull(h io.ReaderAt, b []byte, at int64) error {
	n, err := h.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(b[n:])
	return nil
}

func crc32Of(nonce uint64, payload []byte) uint32 {
	c := batchCRC(nonce)
	c.add(payload)
	return c.sum
}

// countRecords counts the records of a payload, -1 if they do not fill it.
func countRecords(payload []byte, at int64) int {
	n := 0
	if !walk(payload, at, func([]byte, int64) bool { n++; return true }) {
		return -1
	}
	return n
}

// badSpot is where the log cannot be read on, in file i at that offset. If
// anything after it claims that this LSN had been durable, the log is damaged.
// If not, it is a torn tail, which was never confirmed.
func (s *scan) badSpot(i int, at int64) error {
	m := s.l.files.manifest
	for j := i; j < len(m.files); j++ {
		f := newLogFile(m.files[j])
		h, err := s.l.cfg.FS.OpenRead(filepath.Join(s.l.cfg.Dir, f.name()))
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, f.name(), err)
		}
		s.window = s.window[:0]
		from := int64(0)
		if j == i {
			from = at
		}
		for o := from; o+batchHeaderBytes <= f.bytes; o += pageBytes {
			b, err := s.bytes(h, o, batchHeaderBytes, f.bytes)
			if err != nil {
				h.Close()
				return err
			}
			hd, ok := parseBatchHeader(b, f.nonce)
			if !ok {
				continue
			}
			if hd.durableLSN > s.next {
				h.Close()
				return fmt.Errorf("%w: LSN %d in %s at %d cannot be read, but %s at %d says that everything below LSN %d was durable",
					ErrDamaged, s.next, logName(m.files[i].number), at, f.name(), o, hd.durableLSN)
			}
			s.report.CutBytes += batchHeaderBytes + int64(hd.payloadBytes)
		}
		h.Close()
	}
	return nil
}

// resume makes the log ready for appends after a scan: what nothing claims to be
// durable is written again to a new file, because a failed sync of an earlier
// run may have left it in the page cache alone; and the old place is cut.
func (s *scan) resume() error {
	l := s.l
	last := uint32(0)
	for _, f := range s.files {
		l.table.Store(l.table.Load().with(f))
		last = f.number
	}
	first := s.next
	if len(s.tail) > 0 {
		first = s.tail[0].header.firstLSN
	}
	l.nextLSN, l.synced = first, first
	l.durable.Store(uint64(first))
	if l.files.manifest.clean > 0 {
		// Synced to the last byte: nothing to write again.
		for i := range s.tail {
			if err := s.give(&s.tail[i]); err != nil {
				return err
			}
		}
		l.nextLSN, l.synced = s.next, s.next
		l.durable.Store(uint64(s.next))
		s.tail = nil
	}
	if n := len(l.files.manifest.files); n > 0 {
		last = max(last, l.files.manifest.files[n-1].number)
	}
	s.report.NextLSN = s.next
	if err := s.startFile(last + 1); err != nil {
		return err
	}
	go l.commit()
	return s.reappend()
}

// startFile begins the file after the last one, with a cut of the file that was
// being written if there is a tail, and without files that hold nothing.
func (s *scan) startFile(number uint32) error {
	l := s.l
	size := l.cfg.FirstFileBytes
	for _, t := range s.tail {
		size = max(size, alignPage(int64(len(t.data)))+4*blockBytes)
	}
	size = (size + blockBytes - 1) / blockBytes * blockBytes
	l.addFile(number, size)
	read := make(map[uint32]bool)
	for _, f := range s.files {
		read[f.number] = true
	}
	_, err := l.create(l.file, func(m *manifest) {
		kept := m.files[:0]
		for _, f := range m.files {
			if !read[f.number] && f.number != number {
				continue // after the torn tail: never confirmed
			}
			if len(s.tail) > 0 && f.number != number {
				first := s.tail[0]
				if f.number > first.file.number || f.number == first.file.number && first.at == 0 {
					continue // all of it is in the tail
				}
				if f.number == first.file.number {
					f.cutAt, f.cutLSN = first.at, first.header.firstLSN
				}
			}
			kept = append(kept, f)
		}
		m.files = kept
	})
	return err
}

// reappend writes the tail again, with the same numbers, and waits for the disk.
func (s *scan) reappend() error {
	l := s.l
	var moved []Entry
	for i := range s.tail {
		t := &s.tail[i]
		records, bytes := 0, 0
		walk(t.data, t.at+batchHeaderBytes, func(b []byte, _ int64) bool {
			records++
			bytes += len(b)
			return true
		})
		if records == 0 {
			continue
		}
		r := l.Reserve(records, bytes, true)
		walk(t.data, t.at+batchHeaderBytes, func(b []byte, _ int64) bool {
			old, _, _ := parseRecord(b)
			payload, at, lsn := r.Add(old.Type, len(old.Payload))
			copy(payload, old.Payload)
			moved = append(moved, Entry{Record: old, Place: at, LSN: lsn, TimeMillis: t.header.timeMillis})
			return true
		})
		s.report.Reappended += records
		if err := l.WaitDurable(r.Done()); err != nil {
			return err
		}
	}
	for _, e := range moved {
		if err := s.visit(e); err != nil {
			return err
		}
		s.report.Records++
	}
	return nil
}

// Close writes and syncs everything, marks the log as shut down in order, and
// gives the directory free.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.ending {
		l.mu.Unlock()
		return nil
	}
	l.ending = true
	l.work.Signal()
	l.mu.Unlock()
	<-l.done
	l.files.mu.Lock()
	l.files.closed = true
	l.files.mu.Unlock()
	l.files.spareWG.Wait()
	err := l.Err()
	if err == nil {
		m := *l.files.manifest
		m.clean = l.nextLSN
		err = writeManifest(l.cfg.FS, l.cfg.Dir, &m)
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
	l.mu.Lock()
	if l.err == nil {
		l.err = ErrClosed
	}
	l.gathering, l.closed = nil, nil
	l.ending = true
	l.work.Signal()
	l.room.Broadcast()
	l.mu.Unlock()
	<-l.done
	l.files.mu.Lock()
	l.files.closed = true
	l.files.mu.Unlock()
	l.files.spareWG.Wait()
	l.closeFiles()
}

func (l *Log) closeFiles() {
	l.files.openMu.Lock()
	for n, h := range l.files.open {
		h.Close()
		delete(l.files.open, n)
	}
	l.files.openMu.Unlock()
	if l.lock != nil {
		l.lock.Close()
	}
}
