package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/warrenmq/warren/internal/vfs"
)

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
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s, which begins at LSN %d, is missing", ErrDamaged, f.name(), f.firstLSN)
		}
		if err != nil {
			return err
		}
		s.l.files.open[f.number] = h
		s.files = append(s.files, f)
		s.l.table.Store(s.l.table.Load().with(f))
		if m.below(i) {
			// All of it is accounted for by what the mark names. It is only opened.
			s.next = m.files[i+1].firstLSN
			continue
		}
		// The file was named in the manifest after all before it was durable.
		if err := s.settle(s.next); err != nil {
			return err
		}
		at, err := s.readFile(f, h)
		if err != nil {
			return err
		}
		s.report.ReadFiles++
		if err := s.settle(m.durable); err != nil {
			return err
		}
		if i+1 == len(m.files) {
			return s.end(f, h, at)
		}
		// If the next file goes on here, this one ended here, whatever follows
		// in it.
		if next := m.files[i+1]; next.firstLSN != s.next {
			return s.damage(f, at, next.firstLSN, logName(next.number)+" begins there")
		}
	}
	return nil
}

func (s *scan) damage(f *logFile, at int64, durable LSN, why string) error {
	return fmt.Errorf("%w: LSN %d in %s at offset %d cannot be read, but everything below LSN %d was durable: %s",
		ErrDamaged, s.next, f.name(), at, durable, why)
}

// end looks at the last file from the offset on at which no batch continues the
// log. If anything there claims that this LSN has been durable, the log is
// damaged. If not, this is a torn tail, which was never confirmed, and whatever
// stands there is left behind.
func (s *scan) end(f *logFile, h vfs.File, at int64) error {
	if f.cutAt > 0 {
		return s.damage(f, at, f.cutLSN, "the file was cut there, and the next one is missing")
	}
	if clean := s.l.files.manifest.clean; clean > 0 && s.next != clean {
		return s.damage(f, at, clean, "the log was closed in order there")
	}
	if durable := s.l.files.manifest.durable; s.next < durable {
		return s.damage(f, at, durable, manifestName+" says so")
	}
	if mark := s.l.files.manifest.mark; s.next < mark.From {
		return s.damage(f, at, mark.From, mark.Name+" was made there")
	}
	size, err := h.Size()
	if err != nil {
		return err
	}
	for o := at; o+batchHeaderBytes <= min(f.bytes, size); o += pageBytes {
		b, err := s.bytes(h, o, batchHeaderBytes, f.bytes)
		if err != nil {
			return err
		}
		hd, ok := parseBatchHeader(b, f.nonce)
		if !ok {
			continue
		}
		if hd.durableLSN > s.next {
			return s.damage(f, at, hd.durableLSN, fmt.Sprintf("the batch at offset %d says so", o))
		}
		s.report.CutBytes += batchHeaderBytes + int64(hd.payloadBytes)
	}
	return nil
}

// readFile reads the batches of one file and returns the offset at which none
// follows that continues the log.
func (s *scan) readFile(f *logFile, h vfs.File) (int64, error) {
	s.window = s.window[:0]
	limit := f.bytes
	if f.cutAt > 0 {
		limit = f.cutAt
	}
	at := int64(0)
	for at+batchHeaderBytes <= limit {
		head, err := s.bytes(h, at, batchHeaderBytes, f.bytes)
		if err != nil {
			return at, err
		}
		hd, ok := parseBatchHeader(head, f.nonce)
		if !ok || hd.firstLSN != s.next || at+batchHeaderBytes+int64(hd.payloadBytes) > limit {
			return at, nil
		}
		if hd.flags&^flagClaim != 0 {
			return at, fmt.Errorf("%s at offset %d: a batch with flags %#x, which this program does not know: "+
				"use the version of the program that wrote it", f.name(), at, hd.flags)
		}
		payload, err := s.bytes(h, at+batchHeaderBytes, int(hd.payloadBytes), f.bytes)
		if err != nil {
			return at, err
		}
		if crc32Of(f.nonce, payload) != hd.payloadCRC || countRecords(payload, at+batchHeaderBytes) != int(hd.records) {
			return at, nil
		}
		if err := s.settle(max(hd.durableLSN, s.l.files.manifest.durable)); err != nil {
			return at, err
		}
		s.report.LastTimeMillis, s.l.timeMillis = hd.timeMillis, hd.timeMillis
		if hd.records > 0 {
			s.tail = append(s.tail, tailBatch{f, at, hd, append(s.buffer(), payload...)})
		}
		s.next += LSN(hd.records)
		end := alignPage(at + batchHeaderBytes + int64(hd.payloadBytes))
		if s.next > s.l.files.manifest.mark.From {
			s.report.ReadBytes += end - at
		}
		at = end
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
			err = fmt.Errorf("%w: LSN %d in %s at offset %d: wrong checksum", ErrDamaged, lsn, t.file.name(), at)
			return false
		}
		err = s.show(Entry{Record: r, Place: makePlace(t.file.number, at), LSN: lsn, TimeMillis: t.header.timeMillis})
		lsn++
		s.report.Records++
		return err == nil
	})
	return err
}

// show has a record visited, unless it is below the mark.
func (s *scan) show(e Entry) error {
	if e.LSN < s.l.files.manifest.mark.From {
		return nil
	}
	return s.visit(e)
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
