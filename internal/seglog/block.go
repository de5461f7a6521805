package seglog

import (
	"sync/atomic"
)

// block is a stretch of a log file in memory: blockBytes long and aligned to
// that, or longer for one large region. Appenders fill it, the committer writes
// it, readers copy from it. It is never recycled: whoever holds the slice may
// read on after the block has been evicted.
type block struct {
	base     int64 // offset in the file
	buf      []byte
	fromDisk bool // records have to pass their checksum when they are read
}

// logFile is one log file of this run.
type logFile struct {
	number   uint32
	nonce    uint64
	bytes    int64
	firstLSN LSN
	cutAt    int64 // from an earlier recovery: nothing after it counts, 0 for none
	cutLSN   LSN   // then the next record, which is in the next file

	// blocks is indexed by offset / blockBytes; a large block stands under each
	// index it covers.
	blocks []atomic.Pointer[block]
}

func newLogFile(f manifestFile) *logFile {
	return &logFile{
		number: f.number, nonce: f.nonce, bytes: f.bytes, firstLSN: f.firstLSN, cutAt: f.cutAt, cutLSN: f.cutLSN,
		blocks: make([]atomic.Pointer[block], (f.bytes+blockBytes-1)/blockBytes),
	}
}

// newBlock makes the block for a region at that offset: the whole block around
// it, or as many as a large region covers, which then begins at a boundary.
func (f *logFile) newBlock(at, size int64) *block {
	base := at / blockBytes * blockBytes
	length := alignBlock(at - base + size)
	b := &block{base: base, buf: make([]byte, min(length, f.bytes-base))}
	f.put(b)
	return b
}

func (f *logFile) put(b *block) {
	for i := b.base / blockBytes; i <= (b.base+int64(len(b.buf))-1)/blockBytes; i++ {
		f.blocks[i].Store(b)
	}
}

func (f *logFile) drop(b *block) {
	for i := b.base / blockBytes; i <= (b.base+int64(len(b.buf))-1)/blockBytes; i++ {
		f.blocks[i].CompareAndSwap(b, nil)
	}
}

// fileTable finds a file by number without a lock. It is replaced as a whole.
type fileTable struct {
	base  uint32 // number of files[0]
	files []*logFile
}

func (t *fileTable) get(number uint32) *logFile {
	if i := int(number) - int(t.base); i >= 0 && i < len(t.files) {
		return t.files[i]
	}
	return nil
}

// with returns a table that also has f, whose number is above all others.
func (t *fileTable) with(f *logFile) *fileTable {
	n := &fileTable{base: t.base}
	if len(t.files) == 0 {
		n.base = f.number
	}
	n.files = make([]*logFile, f.number-n.base+1)
	copy(n.files, t.files)
	n.files[f.number-n.base] = f
	return n
}

// without returns a table that lacks the file.
func (t *fileTable) without(number uint32) *fileTable {
	n := &fileTable{base: t.base, files: append([]*logFile(nil), t.files...)}
	if i := int(number) - int(t.base); i >= 0 && i < len(n.files) {
		n.files[i] = nil
	}
	for len(n.files) > 1 && n.files[0] == nil {
		n.files = n.files[1:]
		n.base++
	}
	return n
}
