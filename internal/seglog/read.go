package seglog

import (
	"encoding/binary"
	"fmt"
)

// Resident returns the record at a place if it is in memory. It takes no lock
// and may be called anywhere. ok is false if the record has to be loaded first,
// or fails its checksum: Load tells which.
func (l *Log) Resident(at Place) (r Record, ok bool) {
	f := l.table.Load().get(at.File())
	if f == nil {
		return r, false
	}
	i := at.Offset() / blockBytes
	if i >= int64(len(f.blocks)) {
		return r, false
	}
	b := f.blocks[i].Load()
	if b == nil || at.Offset() >= b.base+int64(len(b.buf)) {
		return r, false
	}
	rest := b.buf[at.Offset()-b.base:]
	r, n, ok := parseRecord(rest)
	if !ok || b.fromDisk && !recordChecksumOK(rest[:n], f.nonce) {
		return r, false
	}
	return r, true
}

// Load brings the record at a place into memory, with the block around it, and
// verifies it. The error says which record cannot be read.
func (l *Log) Load(at Place) error {
	f := l.table.Load().get(at.File())
	if f == nil {
		return fmt.Errorf("seglog: there is no file %s", logName(at.File()))
	}
	if _, ok := l.Resident(at); ok {
		return nil
	}
	l.files.openMu.RLock()
	defer l.files.openMu.RUnlock()
	h := l.files.open[f.number]
	if h == nil {
		return fmt.Errorf("seglog: %s is not open", f.name())
	}
	var head [4]byte
	if err := readFull(h, head[:], at.Offset()); err != nil {
		return fmt.Errorf("seglog: read %s at %d: %w", f.name(), at.Offset(), err)
	}
	size := int64(binary.LittleEndian.Uint32(head[:]))
	if size < RecordOverhead || at.Offset()+size > f.bytes {
		return fmt.Errorf("%w: %s at %d: no record", ErrDamaged, f.name(), at.Offset())
	}
	base := at.Offset() / blockBytes * blockBytes
	length := min(alignBlock(at.Offset()-base+size), f.bytes-base)
	b := &block{base: base, buf: make([]byte, length), fromDisk: true}
	if err := readFull(h, b.buf, base); err != nil {
		return fmt.Errorf("seglog: read %s at %d: %w", f.name(), base, err)
	}
	if !recordChecksumOK(b.buf[at.Offset()-base:][:size], f.nonce) {
		return fmt.Errorf("%w: %s at %d: wrong checksum", ErrDamaged, f.name(), at.Offset())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table.Load().get(f.number) != f {
		return fmt.Errorf("seglog: %s has been dropped", f.name())
	}
	if old := f.blocks[base/blockBytes].Load(); old != nil && !old.fromDisk {
		return nil // it is being appended to, or has been kept all along
	}
	f.put(b)
	l.keep(f, b)
	l.loads++
	return nil
}
