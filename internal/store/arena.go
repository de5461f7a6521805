package store

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	// ChunkBytes is the size of a chunk. A run of messages larger than
	// bigSpanBytes gets a chunk of its own, of just its size.
	ChunkBytes   = 1 << 20
	bigSpanBytes = ChunkBytes / 4
	// maxFreeChunks bounds the chunks kept for reuse; more than that goes back
	// to the Go heap, and from there to the system. Few are enough for a steady
	// flow, and after a burst they are all that stays.
	maxFreeChunks = 4
	prefixBytes   = 4 // length of the record that follows
)

// Ref is the place of a record: in an Arena a chunk number and an offset, in the
// log see refAt. Zero is no place.
type Ref uint64

func (r Ref) chunk() uint32  { return uint32(r >> 32) }
func (r Ref) offset() uint32 { return uint32(r) }

// Arena holds records in chunks with a count of references. A chunk's memory is
// reused once nothing in it is referenced.
//
// Memory is accounted in whole chunks, because that is what is used: one small
// record that is still referenced pins its chunk. Sparse tells when it is worth
// moving such records together. With scratch files (SpillTo) a chunk may be out of
// memory; its references stay as they are.
type Arena struct {
	mu      sync.Mutex
	table   atomic.Pointer[[]*chunk] // index is the chunk number; replaced when it grows
	vacant  []uint32                 // chunk numbers not in use
	current *chunk
	free    [][]byte

	used  atomic.Int64 // bytes of memory in chunks that are referenced or being filled
	spill spill
}

type chunk struct {
	id      uint32
	bytes   int
	mem     atomic.Pointer[[]byte] // nil while the chunk stands in a scratch file only
	fill    int                    // under Arena.mu
	records atomic.Int32           // ever placed here
	filled  atomic.Int32           // of them copied: the chunk may spill once all are
	refs    atomic.Int32           // references, and one more while the chunk is current

	list         *chunkList // of Arena.spill, nil if in none; under Arena.mu
	older, newer *chunk     // in that list
	io           sync.Mutex // held while the chunk is written or read
	kept         scratchCopy
}

// NewArena returns an empty arena.
func NewArena() *Arena {
	a := &Arena{}
	table := make([]*chunk, 1, 64) // number 0 stays empty, so that Ref 0 is no place
	a.table.Store(&table)
	return a
}

// Used is the memory in chunks that hold anything, in bytes.
func (a *Arena) Used() int64 { return a.used.Load() }

// Span is room for a run of records. The goroutine that reserved it fills it
// with Put, all of it, and then calls Done.
type Span struct {
	c       *chunk
	buf     []byte
	at      int
	end     int
	records int32
}

// SpanBytes is the room that records of these lengths together need.
func SpanBytes(records int, recordBytes int) int { return recordBytes + records*prefixBytes }

// Reserve makes room for a run: bytes from SpanBytes, and as many references as
// Put and Retain will hand out. References that are not used are given back
// with Release.
func (a *Arena) Reserve(bytes int, records, refs int) Span {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.current
	if bytes > bigSpanBytes {
		c = a.newChunk(make([]byte, bytes))
	} else if c == nil || c.fill+bytes > c.bytes {
		if c != nil {
			a.current = nil
			if c.refs.Add(-1) == 0 {
				a.discard(c)
			}
		}
		c = a.newChunk(a.takeBuffer())
		c.refs.Store(1)
		a.current = c
	}
	c.refs.Add(int32(refs))
	c.records.Add(int32(records))
	s := Span{c: c, buf: *c.mem.Load(), at: c.fill, end: c.fill + bytes, records: int32(records)}
	c.fill += bytes
	return s
}

func (a *Arena) takeBuffer() []byte {
	if n := len(a.free); n > 0 {
		b := a.free[n-1]
		a.free = a.free[:n-1]
		return b
	}
	return make([]byte, ChunkBytes)
}

func (a *Arena) newChunk(buf []byte) *chunk {
	c := &chunk{bytes: len(buf)}
	c.mem.Store(&buf)
	table := *a.table.Load()
	if n := len(a.vacant); n > 0 {
		c.id = a.vacant[n-1]
		a.vacant = a.vacant[:n-1]
		table[c.id] = c // the slot was vacant: nobody holds a Ref into it
	} else {
		c.id = uint32(len(table))
		grown := append(table, c) // readers of the old slice do not look past its length
		a.table.Store(&grown)
	}
	a.used.Add(int64(len(buf)))
	a.spill.fresh.push(c)
	return c
}

// Put copies a record into the span.
func (s *Span) Put(record []byte) Ref {
	at := s.at
	binary.LittleEndian.PutUint32(s.buf[at:s.end], uint32(len(record)))
	copy(s.buf[at+prefixBytes:s.end], record)
	s.at = at + prefixBytes + len(record)
	return Ref(uint64(s.c.id)<<32 | uint64(uint32(at)))
}

// Done tells that every record of the span has been put.
func (s *Span) Done() { s.c.filled.Add(s.records) }

// Record is the record at r; ok is false if it has spilled and has to be loaded.
// The caller holds a reference. The slice stays as it is when the chunk spills.
func (a *Arena) Record(r Ref) (rec []byte, ok bool) {
	mem := (*a.table.Load())[r.chunk()].mem.Load()
	if mem == nil {
		return nil, false
	}
	buf, at := *mem, r.offset()
	n := binary.LittleEndian.Uint32(buf[at:])
	return buf[at+prefixBytes : at+prefixBytes+n : at+prefixBytes+n], true
}

// Resident tells whether Record would find it. The caller holds a reference.
func (a *Arena) Resident(r Ref) bool { return (*a.table.Load())[r.chunk()].mem.Load() != nil }

// Retain adds n references to the record at r; the caller holds one.
func (a *Arena) Retain(r Ref, n int) {
	(*a.table.Load())[r.chunk()].refs.Add(int32(n))
}

// Release drops n references to the record at r.
func (a *Arena) Release(r Ref, n int) {
	a.releaseChunk((*a.table.Load())[r.chunk()], n)
}

func (a *Arena) releaseChunk(c *chunk, n int) {
	if c.refs.Add(int32(-n)) == 0 {
		a.mu.Lock()
		a.discard(c)
		a.mu.Unlock()
	}
}

// Releaser drops many references, one atomic operation for each stretch in the
// same chunk.
type Releaser struct {
	a    *Arena
	d    *Disk // nil in a broker without a log
	last Ref
	n    int
}

// NewReleaser returns an empty Releaser for references into a and d; d may be
// nil.
func NewReleaser(a *Arena, d *Disk) Releaser { return Releaser{a: a, d: d} }

// sameHome tells whether two records are accounted together: in one chunk, or
// in one log file.
func sameHome(x, y Ref) bool {
	if x.Large() || y.Large() {
		return x == y
	}
	if x.OnDisk() {
		return y.OnDisk() && x.File() == y.File()
	}
	return x.chunk() == y.chunk()
}

// Drop adds one reference to those being dropped.
func (d *Releaser) Drop(r Ref) {
	if d.n > 0 && !sameHome(d.last, r) {
		d.Flush()
	}
	d.last = r
	d.n++
}

// Flush drops what was gathered.
func (d *Releaser) Flush() {
	if d.n == 0 {
		return
	}
	if d.last.OnDisk() {
		d.d.Release(d.last, d.n)
	} else {
		d.a.Release(d.last, d.n)
	}
	d.n = 0
}

// discard reuses a chunk that nothing refers to. Called with a.mu held.
func (a *Arena) discard(c *chunk) {
	(*a.table.Load())[c.id] = nil
	a.vacant = append(a.vacant, c.id)
	if mem := c.mem.Load(); mem != nil {
		a.used.Add(-int64(c.bytes))
		if c.bytes == ChunkBytes && len(a.free) < maxFreeChunks {
			a.free = append(a.free, *mem) // with the last reference the last reader has gone
		}
	}
	c.mem.Store(nil)
	a.spill.forget(a, c)
}

// sparseShare: a chunk is sparse when fewer than one in so many of the records
// ever placed in it is still referenced.
const sparseShare = 4

// SparseBytes is the memory in full chunks that are sparse.
func (a *Arena) SparseBytes() (bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range *a.table.Load() {
		if c != nil && c != a.current && c.sparse() && c.mem.Load() != nil {
			bytes += int64(c.bytes)
		}
	}
	return bytes
}

func (c *chunk) sparse() bool { return c.refs.Load()*sparseShare < c.records.Load() }

// Sparse tells whether r stands in a sparse chunk in memory, so that moving its
// record elsewhere helps to free the chunk. The caller holds a reference.
func (a *Arena) Sparse(r Ref) bool {
	c := (*a.table.Load())[r.chunk()]
	return c.sparse() && c.mem.Load() != nil
}

// Evacuate copies the record at r to a new place and drops n references to the
// old one; the caller's n references are to the new place then. A record that has
// spilled stays where it is.
func (a *Arena) Evacuate(r Ref, n int) Ref {
	rec, ok := a.Record(r)
	if !ok {
		return r
	}
	s := a.Reserve(SpanBytes(1, len(rec)), 1, n)
	moved := s.Put(rec)
	s.Done()
	a.Release(r, n)
	return moved
}

// References is the number of references held, for tests that look for one that
// was never dropped.
func (a *Arena) References() (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range *a.table.Load() {
		if c != nil {
			n += int64(c.refs.Load())
			if c == a.current {
				n--
			}
		}
	}
	return n
}
