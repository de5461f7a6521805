package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
)

// A checkpoint file holds the topology and the queues' indexes as of some LSN,
// so that a start reads the log only from there on. It is a row of sections:
//
//	bytes u32, of the payload | type u8 | payload | CRC-32C of all before it u32
//
//	begin:      version u32 | from LSN u64
//	definition: type u8 | its payload, as in the log
//	tails:      queue id u64 | for each priority level: next position u64
//	cold page:  queue id u64 | level u8 | page number u64 | messages u16 | flags u8
//	            | body bytes u64 | page file u32 | offset u32 | bytes u32
//	            then for each log file that its messages stand in: number u32 | messages u16
//	page:       queue id u64 | level u8 | page number u64 | live bits 4 x u64 | flags u8
//	            then for each live message: place u64 | body bytes u32 | flags u32
//	            | deadline, Unix ns i64, if flags has 1
//	            | times returned u32, of these failed u32, if flags has 4
//	            | times returned u32, if flags has 2 (version 1)
//	end:        sections before it u64
//	blobs:      for each message with its body in a blob: place u64 | blob id u64
//
// It is written under a new name, synced, and then named by the log's mark. A
// file without the end section never is.
const (
	checkpointVersion = 3
	checkpointPrefix  = "ckpt-"

	secBegin      = 1
	secDefinition = 2
	secTails      = 3
	secPage       = 4
	secEnd        = 5
	secColdPage   = 6
	secBlobs      = 7

	secHeaderBytes = 5
	secCRCBytes    = 4
	// maxSectionBytes bounds what a reader allocates for one.
	maxSectionBytes = 1 << 20

	pageHasDeadlines = 1
	pageHasCounts    = 2 // in version 1
	pageHasTries     = 4
	pageExpires      = 1 // of a cold page

	coldFixedBytes = 8 + 1 + 8 + 2 + 1 + 8 + 4 + 4 + 4
	coldHomeBytes  = 4 + 2

	checkpointBufferBytes = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checkpoint is a checkpoint file being written.
type Checkpoint struct {
	d        *Disk
	name     string
	f        vfs.File
	at       int64
	buf      []byte
	sections uint64
	from     seglog.LSN
	pages    map[uint32]bool // page files that it relies on
	err      error
}

// BeginCheckpoint begins a checkpoint. Everything that happened before from has
// to be in it; what happened after may be.
func (d *Disk) BeginCheckpoint(from seglog.LSN) (*Checkpoint, error) {
	n := 0
	if old, ok := strings.CutPrefix(d.log.Marked().Name, checkpointPrefix); ok {
		n, _ = strconv.Atoi(old)
	}
	// Not that of one that failed either: the manifest may name it all the same.
	d.filesM.Lock()
	n = max(n, d.checkpoints) + 1
	d.checkpoints = n
	d.filesM.Unlock()
	c := &Checkpoint{d: d, name: checkpointPrefix + strconv.Itoa(n), from: from, pages: map[uint32]bool{}}
	f, err := d.cfg.FS.Create(filepath.Join(d.cfg.Dir, c.name))
	if err != nil {
		return nil, fmt.Errorf("store: begin a checkpoint: %w", err)
	}
	c.f = f
	c.section(secBegin, func(b []byte) []byte { return append(b, beginPayload(from)...) })
	return c, nil
}

func beginPayload(from seglog.LSN) []byte {
	b := binary.LittleEndian.AppendUint32(nil, checkpointVersion)
	return binary.LittleEndian.AppendUint64(b, uint64(from))
}

// appendSection appends a section with what payload appends.
func appendSection(b []byte, typ uint8, payload func([]byte) []byte) []byte {
	start := len(b)
	b = append(binary.LittleEndian.AppendUint32(b, 0), typ)
	b = payload(b)
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-secHeaderBytes))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func (c *Checkpoint) section(typ uint8, payload func([]byte) []byte) {
	c.buf = appendSection(c.buf, typ, payload)
	c.sections++
	if len(c.buf) >= checkpointBufferBytes {
		c.flush()
	}
}

func (c *Checkpoint) flush() {
	if c.err == nil && len(c.buf) > 0 {
		_, c.err = c.f.WriteAt(c.buf, c.at)
	}
	c.at += int64(len(c.buf))
	c.buf = c.buf[:0]
}

// Define adds definitions.
func (c *Checkpoint) Define(defs []Definition) {
	for i := range defs {
		c.section(secDefinition, func(b []byte) []byte { return append(append(b, uint8(defs[i].Kind)), defs[i].encode()...) })
	}
}

// Tails adds the next positions of a queue's levels.
func (c *Checkpoint) Tails(q queue.ID, tails []uint64) {
	c.section(secTails, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint64(b, uint64(q))
		for _, t := range tails {
			b = binary.LittleEndian.AppendUint64(b, t)
		}
		return b
	})
}

// Page adds a page of a queue.
func (c *Checkpoint) Page(q queue.ID, img *queue.Image) {
	if img.Cold != nil {
		c.pages[pagePlaceFile(img.Cold.Place)] = true
		c.section(secColdPage, func(b []byte) []byte { return appendColdPage(b, q, img) })
		return
	}
	c.section(secPage, func(b []byte) []byte { return appendPage(b, q, img) })
}

func appendColdPage(b []byte, q queue.ID, img *queue.Image) []byte {
	le, cold := binary.LittleEndian, img.Cold
	b = le.AppendUint64(b, uint64(q))
	b = append(b, uint8(img.Level))
	b = le.AppendUint64(b, img.Number)
	b = le.AppendUint16(b, cold.Messages)
	var flags uint8
	if cold.Expiring {
		flags |= pageExpires
	}
	b = append(b, flags)
	b = le.AppendUint64(b, uint64(cold.BodyBytes))
	b = le.AppendUint32(b, pagePlaceFile(cold.Place))
	b = le.AppendUint32(b, uint32(cold.Place))
	b = le.AppendUint32(b, cold.Length)
	for _, h := range cold.Homes {
		b = le.AppendUint32(b, h.File)
		b = le.AppendUint16(b, h.References)
	}
	return b
}

func parseColdSection(b []byte) (q queue.ID, at queue.ColdPage, ok bool) {
	if len(b) < coldFixedBytes || (len(b)-coldFixedBytes)%coldHomeBytes != 0 {
		return 0, at, false
	}
	le := binary.LittleEndian
	c := &queue.Cold{
		Messages: le.Uint16(b[17:]), Expiring: b[19]&pageExpires != 0, BodyBytes: int64(le.Uint64(b[20:])),
		Place: pagePlace(le.Uint32(b[28:]), int64(le.Uint32(b[32:]))), Length: le.Uint32(b[36:]),
	}
	if c.Messages == 0 || c.Messages > queue.PageLen || c.Length > maxSectionBytes {
		return 0, at, false
	}
	q, at = queue.ID(le.Uint64(b)), queue.ColdPage{Level: int(b[8]), Number: le.Uint64(b[9:]), Cold: c}
	c.Homes = make([]queue.Home, 0, (len(b)-coldFixedBytes)/coldHomeBytes)
	for b = b[coldFixedBytes:]; len(b) > 0; b = b[coldHomeBytes:] {
		c.Homes = append(c.Homes, queue.Home{File: le.Uint32(b), References: le.Uint16(b[4:])})
	}
	return q, at, true
}

func appendPage(b []byte, q queue.ID, img *queue.Image) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(q))
	b = append(b, uint8(img.Level))
	b = le.AppendUint64(b, img.Number)
	for _, w := range img.Live {
		b = le.AppendUint64(b, w)
	}
	var flags uint8
	if len(img.Deadlines) > 0 {
		flags |= pageHasDeadlines
	}
	if len(img.Tries) > 0 {
		flags |= pageHasTries
	}
	b = append(b, flags)
	next := 0
	img.Each(func(i int) {
		e := &img.Entries[i]
		b = le.AppendUint64(b, e.Ref)
		b = le.AppendUint32(b, e.BodyBytes)
		b = le.AppendUint32(b, uint32(e.Flags))
		if flags&pageHasDeadlines != 0 {
			deadline := queue.Never
			if i < len(img.Deadlines) {
				deadline = img.Deadlines[i]
			}
			b = le.AppendUint64(b, uint64(deadline))
		}
		if flags&pageHasTries != 0 {
			var t queue.Tries
			for next < len(img.Tries) && int(img.Tries[next].Index) < i {
				next++
			}
			if next < len(img.Tries) && int(img.Tries[next].Index) == i {
				t = img.Tries[next].Tries
			}
			b = le.AppendUint32(le.AppendUint32(b, t.Returned), t.Failed)
		}
	})
	return b
}

// Abandon gives a checkpoint up.
func (c *Checkpoint) Abandon() {
	c.f.Close()
	c.d.cfg.FS.Remove(filepath.Join(c.d.cfg.Dir, c.name)) // if it stays, the next start removes it
}

// Blobs adds which messages have which blobs. It comes after all pages, and before
// the caller waits for the log: a message that a page has, but that has gone since,
// may be missing here only if that is durable when the checkpoint is named.
func (c *Checkpoint) Blobs() {
	for pairs := c.d.blobs.pairs(); len(pairs) > 0; {
		n := min(len(pairs), maxSectionBytes/blobPairBytes*blobPairBytes)
		c.section(secBlobs, func(b []byte) []byte { return append(b, pairs[:n]...) })
		pairs = pairs[n:]
	}
}

// Finish makes the checkpoint durable, lets the log begin there, and removes the
// one before.
func (c *Checkpoint) Finish() error {
	before := c.sections
	c.section(secEnd, func(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, before) })
	c.flush()
	if c.err == nil {
		c.err = c.d.pages.sync(c.pages)
	}
	if c.err == nil {
		c.err = c.f.Sync()
	}
	if err := c.f.Close(); c.err == nil {
		c.err = err
	}
	if c.err == nil {
		c.err = c.d.cfg.FS.SyncDir(c.d.cfg.Dir)
	}
	if c.err != nil {
		c.d.cfg.FS.Remove(filepath.Join(c.d.cfg.Dir, c.name))
		return fmt.Errorf("store: write a checkpoint: %w", c.err)
	}
	old := c.d.log.Marked().Name
	if err := c.d.log.SetMark(seglog.Mark{Name: c.name, From: c.from}); err != nil {
		// The manifest may or may not name the new file: both stay, the next start
		// knows.
		return err
	}
	if old != "" {
		c.d.cfg.FS.Remove(filepath.Join(c.d.cfg.Dir, old)) // if it stays, the next start removes it
	}
	c.d.pages.nowNamed(c.d, c.pages)
	return nil
}

// Marked is the LSN from which a start reads the log.
func (d *Disk) Marked() seglog.LSN { return d.log.Marked().From }

// Written is how many bytes this run has written to the log.
func (d *Disk) Written() int64 { return d.log.Written() }

// errCheckpoint is damage to a checkpoint that the log's mark names.
func errCheckpoint(name string, at int64, why string) error {
	return fmt.Errorf("%w: %s at offset %d: %s", seglog.ErrDamaged, name, at, why)
}

// errOpening is the error for a file that a checkpoint needs. One that is not there
// is damage; one that cannot be read for another reason may be whole.
func errOpening(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s: %w", seglog.ErrDamaged, name, err)
	}
	return fmt.Errorf("open %s: %w", name, err)
}

// loadCheckpoint hands what is in a checkpoint to r.
func (d *Disk) loadCheckpoint(m seglog.Mark, r Restorer) error {
	f, err := d.cfg.FS.OpenRead(filepath.Join(d.cfg.Dir, m.Name))
	if err != nil {
		return errOpening(m.Name, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	s := sectionReader{name: m.Name, in: io.NewSectionReader(f, 0, size), buf: make([]byte, 0, 4*checkpointBufferBytes)}
	for n := uint64(0); ; n++ {
		typ, payload, err := s.next()
		if err != nil {
			return err
		}
		if n == 0 && (typ != secBegin || len(payload) != 12 || !knownCheckpoint(payload)) {
			return fmt.Errorf("%s: %w", m.Name, ErrFormat)
		}
		if typ == secEnd {
			if len(payload) != 8 || binary.LittleEndian.Uint64(payload) != n {
				return errCheckpoint(m.Name, s.at, "sections are missing")
			}
			return nil
		}
		if err := d.loadSection(typ, payload, r); err != nil {
			return fmt.Errorf("%s at offset %d: %w", m.Name, s.at, err)
		}
	}
}

func (d *Disk) loadSection(typ uint8, payload []byte, r Restorer) error {
	short := fmt.Errorf("%w: a section of type %d with %d bytes", ErrFormat, typ, len(payload))
	switch typ {
	case secBegin:
		return nil
	case secDefinition:
		if len(payload) == 0 {
			return short
		}
		def, err := parseDefinition(payload[0], payload[1:])
		if err != nil {
			return err
		}
		return r.Define(&def)
	case secTails:
		if len(payload) < 8 || len(payload)%8 != 0 {
			return short
		}
		var tails []uint64
		for b := payload[8:]; len(b) > 0; b = b[8:] {
			tails = append(tails, binary.LittleEndian.Uint64(b))
		}
		r.Tails(queue.ID(binary.LittleEndian.Uint64(payload)), tails)
		return nil
	case secPage:
		q, ok := parsePage(payload, &d.image)
		if !ok {
			return short
		}
		if r.Page(q, &d.image) {
			d.countPage(&d.image)
		}
		return nil
	case secColdPage:
		q, at, ok := parseColdSection(payload)
		if !ok {
			return short
		}
		if _, err := d.pages.openNamed(d, pagePlaceFile(at.Cold.Place)); err != nil {
			return err
		}
		if r.ColdPage(q, at) {
			d.takePage(at.Cold)
		}
		return nil
	case secBlobs:
		if len(payload)%blobPairBytes != 0 {
			return short
		}
		d.blobs.tellPairs(payload)
		return nil
	}
	return short
}

// knownCheckpoint tells whether this version understands what follows: version 1
// has no cold pages, and 2 no blobs.
func knownCheckpoint(begin []byte) bool {
	v := binary.LittleEndian.Uint32(begin)
	return v >= 1 && v <= checkpointVersion
}

func parsePage(b []byte, img *queue.Image) (q queue.ID, ok bool) {
	const fixed = 8 + 1 + 8 + 32 + 1
	if len(b) < fixed {
		return 0, false
	}
	le := binary.LittleEndian
	q = queue.ID(le.Uint64(b))
	img.Level, img.Number, img.Cold = int(b[8]), le.Uint64(b[9:]), nil
	for w := range img.Live {
		img.Live[w] = le.Uint64(b[17+8*w:])
	}
	flags := b[fixed-1]
	b = b[fixed:]
	size, n := 16, 0
	if flags&pageHasDeadlines != 0 {
		size += 8
	}
	if flags&pageHasTries != 0 {
		size += 8
	} else if flags&pageHasCounts != 0 {
		size += 4
	}
	img.Each(func(int) { n++ })
	if len(b) != n*size {
		return 0, false
	}
	img.Entries = append(img.Entries[:0], make([]queue.Entry, queue.PageLen)...)
	img.Deadlines, img.Tries = img.Deadlines[:0], img.Tries[:0]
	if flags&pageHasDeadlines != 0 {
		for range queue.PageLen {
			img.Deadlines = append(img.Deadlines, queue.Never)
		}
	}
	img.Each(func(i int) {
		img.Entries[i] = queue.Entry{Ref: le.Uint64(b), BodyBytes: le.Uint32(b[8:]), Flags: queue.Flags(le.Uint32(b[12:]))}
		b = b[16:]
		if flags&pageHasDeadlines != 0 {
			img.Deadlines[i] = queue.Time(le.Uint64(b))
			b = b[8:]
		}
		if flags&pageHasTries != 0 {
			if t := triesOf(le.Uint64(b)); t != (queue.Tries{}) {
				img.Tries = append(img.Tries, queue.ImageTries{Index: uint8(i), Tries: t})
			}
			b = b[8:]
		} else if flags&pageHasCounts != 0 {
			if n := le.Uint32(b); n > 0 {
				img.Tries = append(img.Tries, queue.ImageTries{Index: uint8(i), Tries: queue.Tries{Returned: n}})
			}
			b = b[4:]
		}
	})
	return q, true
}

// countPage counts the references of a page that has been restored.
func (d *Disk) countPage(img *queue.Image) {
	var last Ref
	n, bytes := 0, 0
	flush := func() {
		if n > 0 {
			d.placed(last.File(), bytes, n)
		}
		n, bytes = 0, 0
	}
	img.Each(func(i int) {
		r := Ref(img.Entries[i].Ref)
		if n > 0 && r.File() != last.File() {
			flush()
		}
		last = r
		n++
		bytes += checkpointRecordBytes
		if r.Large() {
			d.blobs.restore(r, 0, 1) // a later section says which it is
		} else {
			bytes += int(img.Entries[i].BodyBytes)
		}
	})
	flush()
}

// checkpointRecordBytes is what a record is reckoned to take besides its body,
// when only the index is at hand.
const checkpointRecordBytes = 128

// sectionReader reads sections in large steps.
type sectionReader struct {
	name string
	in   io.Reader
	buf  []byte
	r    int
	at   int64
}

func (s *sectionReader) need(n int) error {
	for len(s.buf)-s.r < n {
		if s.r > 0 {
			s.buf = s.buf[:copy(s.buf, s.buf[s.r:])]
			s.r = 0
		}
		if cap(s.buf) < n {
			s.buf = append(make([]byte, 0, n+checkpointBufferBytes), s.buf...)
		}
		k, err := s.in.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+k]
		if errors.Is(err, io.EOF) && len(s.buf)-s.r < n {
			return errCheckpoint(s.name, s.at, "the file ends too early")
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func (s *sectionReader) next() (typ uint8, payload []byte, err error) {
	if err := s.need(secHeaderBytes); err != nil {
		return 0, nil, err
	}
	n := int(binary.LittleEndian.Uint32(s.buf[s.r:]))
	if n > maxSectionBytes {
		return 0, nil, errCheckpoint(s.name, s.at, "no section")
	}
	if err := s.need(secHeaderBytes + n + secCRCBytes); err != nil {
		return 0, nil, err
	}
	b := s.buf[s.r : s.r+secHeaderBytes+n]
	sum := binary.LittleEndian.Uint32(s.buf[s.r+len(b):])
	if sum != crc32.Checksum(b, castagnoli) {
		return 0, nil, errCheckpoint(s.name, s.at, "wrong checksum")
	}
	s.r += len(b) + secCRCBytes
	s.at += int64(len(b) + secCRCBytes)
	return b[4], b[secHeaderBytes:], nil
}

// tidyCheckpoints removes checkpoint files that the mark does not name.
func (d *Disk) tidyCheckpoints() {
	names, err := d.cfg.FS.List(d.cfg.Dir)
	if err != nil {
		return // the next start tries again
	}
	for _, name := range names {
		if strings.HasPrefix(name, checkpointPrefix) && name != d.log.Marked().Name {
			d.cfg.FS.Remove(filepath.Join(d.cfg.Dir, name))
		}
	}
}
