package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/warrenmq/warren/internal/vfs"
)

// Checked is what a Checker found.
type Checked struct {
	Node    uint64
	Mark    Mark
	Clean   bool // shut down in order
	Files   []CheckedFile
	Bad     []BadSpot // in the order of the log
	Records int64     // that could be read
	// TornBytes stand behind the last durable record and were never confirmed: a
	// start leaves them behind, which is no damage.
	TornBytes int64
	NextLSN   LSN
}

// Lost is how many durable records cannot be read.
func (c *Checked) Lost() (records int64) {
	for _, b := range c.Bad {
		records += int64(b.End - b.First)
	}
	return records
}

// CheckedFile is what stands in one log file.
type CheckedFile struct {
	Name       string
	Bytes      int64 // of the file, most of it maybe not yet used
	UsedBytes  int64 // by batches that can be read
	First, End LSN   // records, End excluded
	Records    int64 // that could be read
	Below      bool  // all of it is below the mark: a start does not read it
}

// BadSpot is a stretch of durable data that cannot be read.
type BadSpot struct {
	File       string
	Offset     int64
	First, End LSN // the records that are lost, End excluded; none if they are equal
	Why        string
}

// Checker reads a log directory and changes nothing in it, whatever state it is
// in. It belongs to one goroutine.
type Checker struct {
	fs       vfs.FS
	dir      string
	lock     interface{ Close() error }
	manifest *manifest
	rebuilt  string // why the manifest had to be made from the files, "" if it did not

	window []byte // of the file being read
	base   int64
	opened vfs.File
	name   string
}

const checkWindowBytes = 1 << 20

// OpenChecker opens a directory for reading. vfs.ErrLocked says that a broker has
// it; fs.ErrNotExist that there is no log in it; another error may say that it is
// of a newer format. A damaged manifest is made up from the log files, as well as
// they allow.
func OpenChecker(fsys vfs.FS, dir string) (*Checker, error) {
	c := &Checker{fs: fsys, dir: dir}
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, lockName) {
		// A lock that we may not take does not keep us from reading.
		lock, err := fsys.Lock(filepath.Join(dir, lockName))
		if errors.Is(err, vfs.ErrLocked) {
			return nil, err
		}
		if err == nil {
			c.lock = lock
		}
	}
	m, err := readManifest(fsys, dir)
	switch {
	case err == nil && m != nil:
		c.manifest = m
		return c, nil
	case err == nil && !slices.ContainsFunc(names, func(n string) bool { return numbered(n) > 0 }):
		err = fmt.Errorf("%s: %w", filepath.Join(dir, manifestName), fs.ErrNotExist)
	case err == nil:
		err = fmt.Errorf("%w: there is no %s", ErrDamaged, manifestName)
	}
	if !errors.Is(err, ErrDamaged) {
		c.Close()
		return nil, err
	}
	c.rebuilt = err.Error()
	c.manifest = c.rebuild(names)
	return c, nil
}

// Close lets go of the directory.
func (c *Checker) Close() {
	c.forget()
	if c.lock != nil {
		c.lock.Close() // read only: nothing can be lost
		c.lock = nil
	}
}

// Mark is the mark in force, empty if there is none or the manifest is lost.
func (c *Checker) Mark() Mark { return c.manifest.mark }

// Assume sets a mark that the lost manifest would have had.
func (c *Checker) Assume(m Mark) { c.manifest.mark = m }

// Rebuilt tells whether the manifest had to be made up.
func (c *Checker) Rebuilt() bool { return c.rebuilt != "" }

func (c *Checker) forget() {
	if c.opened != nil {
		c.opened.Close() // read only
	}
	c.opened, c.name, c.window = nil, "", c.window[:0]
}

func (c *Checker) open(name string) error {
	if c.opened != nil && c.name == name {
		return nil
	}
	c.forget()
	f, err := c.fs.OpenRead(filepath.Join(c.dir, name))
	if err == nil {
		c.opened, c.name = f, name
	}
	return err
}

// bytes returns n bytes of the open file; past its end there are zeros.
func (c *Checker) bytes(at int64, n int) ([]byte, error) {
	if at >= c.base && at+int64(n) <= c.base+int64(len(c.window)) {
		return c.window[at-c.base:][:n], nil
	}
	size := max(n, checkWindowBytes)
	if cap(c.window) < size {
		c.window = make([]byte, size)
	}
	c.window, c.base = c.window[:size], at
	if err := readFull(c.opened, c.window, at); err != nil {
		c.window = c.window[:0]
		// A bad sector need not take a whole window with it.
		b := make([]byte, n)
		return b, readFull(c.opened, b, at)
	}
	return c.window[:n], nil
}

// header is the batch header at a page. ok is false if none can be read there.
func (c *Checker) header(at int64, f *manifestFile) (h batchHeader, ok bool) {
	b, err := c.bytes(at, batchHeaderBytes)
	if err != nil {
		return h, false
	}
	return parseBatchHeader(b, f.nonce)
}

// Scan goes through all files. visit gets every record that can be read, those
// below the mark too; its payload is valid during the call only. The error is
// visit's.
func (c *Checker) Scan(visit func(Entry) error) (*Checked, error) {
	m := c.manifest
	out := &Checked{Node: m.node, Mark: m.mark, Clean: m.clean > 0, NextLSN: max(m.clean, 1)}
	if c.rebuilt != "" {
		out.Bad = append(out.Bad, BadSpot{File: manifestName, Why: c.rebuilt})
	}
	for i := range m.files {
		s := fileScan{c: c, f: &m.files[i], out: out, visit: visit, next: m.files[i].firstLSN}
		if err := c.scanFile(&s, i); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (c *Checker) scanFile(s *fileScan, i int) error {
	m := c.manifest
	name := logName(s.f.number)
	last := i+1 == len(m.files)
	file := CheckedFile{Name: name, Bytes: s.f.bytes, First: s.f.firstLSN, Below: m.below(i)}
	err := c.open(name)
	switch {
	case !last && (!file.Below || m.files[i+1].number == s.f.number+1):
		s.durable = m.files[i+1].firstLSN
	case err == nil: // the last one, or one whose successor has been given up
		s.durable = c.claims(s.f)
		if last {
			s.durable = max(s.durable, m.clean, m.durable, m.mark.From, s.f.cutLSN)
		}
	case last:
		s.durable = max(s.f.firstLSN, m.clean, m.durable, m.mark.From)
	default:
		s.durable = s.f.firstLSN
	}
	if err != nil {
		s.bad(0, s.next, s.durable, fmt.Sprintf("the file cannot be opened: %v", err))
		if s.durable <= s.next {
			s.out.Bad = append(s.out.Bad, BadSpot{File: name, First: s.next, End: s.next, Why: fmt.Sprintf("the file cannot be opened: %v", err)})
		}
		s.next = max(s.next, s.durable)
	} else if err := s.run(last); err != nil {
		return err
	}
	file.End, file.Records, file.UsedBytes = s.next, s.records, s.used
	s.out.Files = append(s.out.Files, file)
	s.out.Records += s.records
	s.out.NextLSN = max(s.out.NextLSN, s.next)
	return nil
}

// claims is what the headers of the open file say of what is durable.
func (c *Checker) claims(f *manifestFile) (durable LSN) {
	for at := int64(0); at+batchHeaderBytes <= f.bytes; at += pageBytes {
		if h, ok := c.header(at, f); ok {
			durable = max(durable, h.durableLSN)
		}
	}
	return durable
}

// fileScan is the scan of one file.
type fileScan struct {
	c       *Checker
	f       *manifestFile
	out     *Checked
	visit   func(Entry) error
	next    LSN // expected
	durable LSN // everything in the file below it has been
	records int64
	used    int64
}

func (s *fileScan) bad(at int64, first, end LSN, why string) {
	if end = min(end, s.durable); first < end {
		s.out.Bad = append(s.out.Bad, BadSpot{File: logName(s.f.number), Offset: at, First: first, End: end, Why: why})
	}
}

// run reads the batches of the open file.
func (s *fileScan) run(last bool) error {
	limit := s.f.bytes
	if s.f.cutAt > 0 {
		limit = s.f.cutAt
	}
	broken := int64(-1) // where no header could be read
	at := int64(0)
	for at+batchHeaderBytes <= limit {
		h, ok := s.c.header(at, s.f)
		if !ok || at+batchHeaderBytes+int64(h.payloadBytes) > limit || h.firstLSN < s.next {
			if broken < 0 {
				broken = at
			}
			at += pageBytes
			continue
		}
		if h.firstLSN > s.next || broken >= 0 {
			if s.next >= s.durable {
				break // a torn tail
			}
			if err := s.gap(max(broken, 0), at, h.firstLSN, broken < 0); err != nil {
				return err
			}
			broken = -1
		}
		ok, err := s.batch(at, &h)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		at = alignPage(at + batchHeaderBytes + int64(h.payloadBytes))
	}
	if s.next < s.durable {
		if broken < 0 {
			broken = at
		}
		if err := s.gap(broken, limit, s.durable, false); err != nil {
			return err
		}
	} else if last && s.f.cutAt == 0 {
		s.countTorn(at, broken)
	}
	return nil
}

// gap accounts for what is missing between two places: records up to end, or a
// batch without any.
func (s *fileScan) gap(from, to int64, end LSN, here bool) error {
	why := "no batch can be read here"
	if here {
		why = "the batch that follows is not the next one"
	}
	if end == s.next {
		s.out.Bad = append(s.out.Bad, BadSpot{File: logName(s.f.number), Offset: from, First: end, End: end, Why: "a page without records cannot be read"})
		return nil
	}
	if !here {
		// The header may be all that is broken: records have their own checksums.
		return s.rescue(from, from+batchHeaderBytes, to, end, 0, why)
	}
	s.bad(from, s.next, end, why)
	s.next = end
	return nil
}

// batch gives the records of a batch. ok is false if it is broken and was never
// confirmed.
func (s *fileScan) batch(at int64, h *batchHeader) (ok bool, err error) {
	start, end := at+batchHeaderBytes, at+batchHeaderBytes+int64(h.payloadBytes)
	payload, err := s.c.bytes(start, int(h.payloadBytes))
	if err != nil || crc32Of(s.f.nonce, payload) != h.payloadCRC || countRecords(payload, start) != int(h.records) {
		if h.firstLSN >= s.durable {
			return false, nil
		}
		why := "wrong checksum of a batch"
		if err != nil {
			why = err.Error()
		}
		return true, s.rescue(at, start, end, h.firstLSN+LSN(h.records), h.timeMillis, why)
	}
	s.used += alignPage(end) - at
	walk(payload, start, func(b []byte, at int64) bool {
		err = s.give(b, at, h.timeMillis)
		return err == nil
	})
	return true, err
}

func (s *fileScan) give(b []byte, at int64, timeMillis int64) error {
	r, _, _ := parseRecord(b)
	lsn := s.next
	s.next++
	if !recordChecksumOK(b, s.f.nonce) {
		s.bad(at, lsn, s.next, "wrong checksum of a record")
		return nil
	}
	s.records++
	return s.visit(Entry{Record: r, Place: makePlace(s.f.number, at), LSN: lsn, TimeMillis: timeMillis})
}

// rescue gives what records can be read in a broken stretch [from, to) of the
// file, up to the record end. Numbers hold as long as the lengths lead from one
// record to the next; behind that the rest is lost.
func (s *fileScan) rescue(spot, from, to int64, end LSN, timeMillis int64, why string) error {
	first, lostAt, known := s.next, spot, len(s.out.Bad)
	for at := from; s.next < end && at+RecordOverhead <= to; {
		if rest := blockBytes - at%blockBytes; rest < RecordOverhead {
			at += rest
			continue
		}
		head, err := s.c.bytes(at, RecordOverhead)
		if err != nil {
			break
		}
		n := int(binary.LittleEndian.Uint32(head))
		if n < RecordOverhead || at+int64(n) > to {
			break
		}
		b, err := s.c.bytes(at, n)
		if err != nil {
			break
		}
		if b[4] == typePad {
			at += int64(n)
			continue
		}
		if recordChecksumOK(b, s.f.nonce) {
			s.bad(lostAt, first, s.next, why)
			if err := s.give(b, at, timeMillis); err != nil {
				return err
			}
			first, lostAt = s.next, at+int64(n)
		} else {
			if first == s.next {
				lostAt = at
			}
			s.next++
		}
		at += int64(n)
	}
	s.bad(lostAt, first, end, why)
	if len(s.out.Bad) == known { // every record was saved, but the batch is damaged
		s.out.Bad = append(s.out.Bad, BadSpot{File: logName(s.f.number), Offset: spot, First: end, End: end, Why: why})
	}
	s.next = end
	return nil
}

// countTorn adds up what stands behind the last durable record.
func (s *fileScan) countTorn(at, broken int64) {
	if broken >= 0 {
		at = broken
	}
	for ; at+batchHeaderBytes <= s.f.bytes; at += pageBytes {
		if h, ok := s.c.header(at, s.f); ok && h.firstLSN >= s.next {
			s.out.TornBytes += batchHeaderBytes + int64(h.payloadBytes)
		}
	}
}

// rebuild makes a manifest from the log files. A file may have been in use
// before: its own batches are those with the highest numbers.
func (c *Checker) rebuild(names []string) *manifest {
	m := &manifest{}
	for _, name := range names {
		n := numbered(name)
		if n == 0 || c.open(name) != nil {
			continue
		}
		size, err := c.opened.Size()
		if err != nil {
			continue
		}
		f := manifestFile{number: n, bytes: size}
		highest := LSN(0)
		for at := int64(0); at+batchHeaderBytes <= size; at += pageBytes {
			h, nonce, ok := c.anyHeader(at)
			switch {
			case !ok:
			case h.firstLSN >= highest && nonce != f.nonce:
				f.nonce, f.firstLSN, highest = nonce, h.firstLSN, h.firstLSN
			case nonce == f.nonce:
				f.firstLSN, highest = min(f.firstLSN, h.firstLSN), max(highest, h.firstLSN)
			}
		}
		if highest > 0 {
			m.files = append(m.files, f)
		}
	}
	slices.SortFunc(m.files, func(a, b manifestFile) int { return int(a.number) - int(b.number) })
	// A tail that was written again begins a file: the one before ends there.
	for i := 1; i < len(m.files); i++ {
		c.cut(&m.files[i-1], m.files[i].firstLSN)
	}
	return m
}

// cut ends a file at the batch that begins at an LSN, if there is one.
func (c *Checker) cut(f *manifestFile, lsn LSN) {
	if c.open(logName(f.number)) != nil {
		return
	}
	for at := int64(0); at+batchHeaderBytes <= f.bytes; at += pageBytes {
		if h, ok := c.header(at, f); ok && h.firstLSN == lsn && h.records > 0 {
			f.cutAt, f.cutLSN = at, lsn
			return
		}
	}
}

// anyHeader is a header of any use of the file: its checksum covers the nonce.
func (c *Checker) anyHeader(at int64) (h batchHeader, nonce uint64, ok bool) {
	b, err := c.bytes(at, batchHeaderBytes)
	if err != nil {
		return h, 0, false
	}
	nonce = binary.LittleEndian.Uint64(b[16:])
	h, ok = parseBatchHeader(b, nonce)
	return h, nonce, ok
}
