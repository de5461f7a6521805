package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// Config is what a Log needs. FS and Dir are required.
type Config struct {
	FS  vfs.FS
	Dir string

	// FileBytes is the size of a log file; a larger region gets a file of its
	// own size. 0 means 64 MiB.
	FileBytes int64
	// FirstFileBytes is the size of the first file of a run, small so that
	// opening is quick. 0 means 4 MiB.
	FirstFileBytes int64
	// BatchBytes bounds a batch, but for one larger region. 0 means 4 MiB.
	BatchBytes int64
	// BacklogBytes is where WaitRoom begins to wait. 0 means 32 MiB.
	BacklogBytes int64
	// ResidentBytes bounds the blocks kept in memory once they are durable. 0
	// means 16 MiB.
	ResidentBytes int64
	// FlushDelay is how long records that nobody waits for may stay in memory.
	// 0 means 50 ms.
	FlushDelay time.Duration
	// ClaimDelay is how long nothing has to be appended until the log writes
	// down, unsynced, what is durable. 0 means 200 ms, negative never.
	ClaimDelay time.Duration
	// Spares is how many files are kept ready. 0 means 2, negative none.
	Spares int

	Now    func() time.Time // nil: time.Now
	Random func() uint64    // nil: crypto/rand; for nonces
	// OnMark hears of the mark, if there is one, before any record is visited.
	OnMark func(Mark) error
	// OnDurable hears of the durable position, from whoever is the committer (see
	// Commit and WaitDurable), one call after the other and without locks held. It
	// must not call these, nor Close or Abandon, which wait for it.
	OnDurable func(LSN)
	// OnFailure hears of the error that stopped the log, once, as OnDurable does.
	OnFailure func(error)
	Logger    *slog.Logger // nil: discarded
}

// Log is an open log. Open makes one; Close ends it.
type Log struct {
	cfg    Config
	lock   io.Closer
	logger *slog.Logger

	table atomic.Pointer[fileTable]

	mu        sync.Mutex
	work      sync.Cond // there is something for the committer
	room      sync.Cond // durable, handed or err has changed
	gathering *batch    // open for appends, nil if none
	closed    []*batch  // for the committer, in order
	writing   []*batch  // the committer has them; they come before closed
	busy      bool      // somebody is the committer: its goroutine, or see Commit
	file      *logFile  // being appended to, nil until the first append
	lastBlock *block    // of file, the one that the last closed batch ends in
	at        int64     // where the next batch of file begins
	number    uint32    // of the newest file, 0 if there has been none
	nextLSN   LSN
	backlog   int64       // bytes that are not durable
	loads     uint64      // blocks read from the disk
	lookedAt  [2]uint64   // nextLSN and loads at the last TidyBlocks
	lazy      *time.Timer // flushes, nil if it does not run
	flush     bool        // the flush timer has fired
	idle      idleClaim
	resident  []residentBlock
	residentN int64
	err       error
	ending    bool

	slow bool // the last write with sync was
	// due: the gathering batch has been reserved with force. Changed with mu held.
	due atomic.Bool

	written atomic.Int64  // bytes, in this run
	durable atomic.Uint64 // records below it are durable: the LSN of the first that may not be
	// handed: records below it have been handed to the operating system, and
	// survive this process. handedWaits is how many wait for that.
	handed      atomic.Uint64
	handedWaits atomic.Int32

	timeMillis int64 // of the newest batch; the committer's own

	synced LSN // as durable, but the committer's own: known between two files
	files  files
	done   chan struct{}
	inline bool // no goroutines, see openInline
}

type residentBlock struct {
	f *logFile
	b *block
}

// batch is a group of regions that becomes durable at once.
type batch struct {
	file    *logFile
	start   int64 // of the header, in the file
	end     int64 // of what is reserved
	first   LSN
	records uint32
	writers atomic.Int32 // regions that are not filled yet
	force   bool         // somebody waits for it
	blocks  []*block
	flags   uint32
}

// ErrClosed is the error of waits after Close.
var ErrClosed = errors.New("seglog: closed")

// maxRegionBytes bounds a region: offsets in a file have 36 bits, and a file
// larger than this would not be worth it.
const maxRegionBytes = 1 << 30

// Region is room for records, all in one batch. Its owner fills it with Add and
// then calls Done, soon: the committer waits for it.
type Region struct {
	b     *batch
	buf   []byte // rest of the room
	place Place  // of the next record
	next  LSN
	end   LSN // what next has to be in the end
	slack int // bytes of buf beyond what was asked for: a large region has them
}

// Reserve makes room for a group of records that is to become durable as a
// whole: RecordOverhead plus the payload, for each. force says that somebody
// waits for them: the caller has to call Commit soon, or WaitDurable. Others are
// written within FlushDelay. It never blocks on
// the disk. Once the log has failed or is closed, what is put into a region goes
// nowhere: its position is never durable, and WaitDurable says why.
func (l *Log) Reserve(records, bytes int, force bool) Region {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := int64(bytes)
	if size > maxRegionBytes || records <= 0 || size < int64(records)*RecordOverhead {
		panic(fmt.Sprintf("seglog: a region of %d records in %d bytes", records, size))
	}
	slack := slackFor(size)
	size += slack
	if l.err != nil || l.ending {
		r := Region{b: &batch{}, buf: make([]byte, size), next: l.nextLSN, end: l.nextLSN + LSN(records), slack: int(slack)}
		l.nextLSN += LSN(records)
		return r
	}
	b := l.gathering
	if b != nil && b.end-b.start+size > l.cfg.BatchBytes {
		l.closeBatch()
		l.work.Signal()
		b = nil
	}
	if b == nil {
		b = l.openBatch(size)
	}
	at := l.fit(b, size)
	if at+size > b.file.bytes {
		l.closeBatch()
		l.work.Signal()
		l.at = b.file.bytes // openBatch takes the next file
		b = l.openBatch(size)
		at = l.fit(b, size)
	}
	blk := l.blockFor(b, at, size)
	l.backlog += at + size - b.end
	b.end = at + size
	b.records += uint32(records)
	b.writers.Add(1)
	r := Region{b: b, place: makePlace(b.file.number, at), next: l.nextLSN, end: l.nextLSN + LSN(records), slack: int(slack)}
	r.buf = blk.buf[at-blk.base : at-blk.base+size : at-blk.base+size]
	l.nextLSN += LSN(records)
	l.schedule(b, force)
	return r
}

// slackFor is the room that a region needs beyond its records. In one larger
// than a block, records that would begin in the last bytes of a block are moved
// to the next (see walk), and what that leaves over has to be long enough for a
// padding record wherever it ends.
func slackFor(size int64) int64 {
	if size <= blockBytes {
		return 0
	}
	return RecordOverhead * (size/blockBytes + 4)
}

// schedule sees to it that the committer takes the batch: with the next Commit if
// somebody waits, else when the flush timer fires.
func (l *Log) schedule(b *batch, force bool) {
	if force {
		if !b.force {
			b.force = true
			l.due.Store(true)
		}
		return
	}
	if l.lazy == nil && !b.force {
		l.lazy = time.AfterFunc(l.cfg.FlushDelay, func() {
			l.mu.Lock()
			l.lazy, l.flush = nil, true
			l.work.Signal()
			l.mu.Unlock()
		})
	}
}

// fit returns where a region of that size goes in a batch: at its end, or at the
// next block boundary if it would cross one.
func (l *Log) fit(b *batch, size int64) int64 {
	rest := blockBytes - b.end%blockBytes
	if size <= rest || b.end%blockBytes == 0 {
		return b.end
	}
	return b.end + rest
}

// blockFor returns the block that holds [at, at+size), and pads what is left of
// the one before it.
func (l *Log) blockFor(b *batch, at, size int64) *block {
	if gap := at - b.end; gap >= RecordOverhead {
		old := b.file.blocks[b.end/blockBytes].Load()
		putPad(old.buf[b.end-old.base : b.end-old.base+gap])
	}
	blk := b.file.blocks[at/blockBytes].Load()
	if blk == nil {
		blk = b.file.newBlock(at, size)
	}
	if n := len(b.blocks); n == 0 || b.blocks[n-1] != blk {
		b.blocks = append(b.blocks, blk)
	}
	return blk
}

// openBatch begins a batch that a region of that size fits, in the next file if
// there is no room in this one.
func (l *Log) openBatch(size int64) *batch {
	need := int64(batchHeaderBytes) + size
	if size > blockBytes/2 {
		need += blockBytes // it may have to begin at a block boundary
	}
	if l.file == nil || l.at+need > l.file.bytes {
		l.nextFile(need)
	}
	b := &batch{file: l.file, start: l.at, end: l.at + batchHeaderBytes, first: l.nextLSN}
	blk := b.file.blocks[b.start/blockBytes].Load()
	if blk == nil {
		blk = b.file.newBlock(b.start, batchHeaderBytes)
	}
	b.blocks = append(b.blocks, blk)
	l.backlog += batchHeaderBytes
	l.gathering = b
	return b
}

// closeBatch puts the gathering batch among those for the committer.
func (l *Log) closeBatch() {
	b := l.gathering
	l.gathering = nil
	l.closed = append(l.closed, b)
	l.lastBlock = b.blocks[len(b.blocks)-1]
	l.at = alignPage(b.end)
}

// nextFile turns to a new file. It exists in memory only: the committer makes it
// before it writes there.
func (l *Log) nextFile(need int64) {
	size := l.cfg.FirstFileBytes
	if l.file != nil {
		size = l.cfg.FileBytes
	}
	l.addFile(max(size, alignBlock(need)))
}

// addFile makes a file of that size the current one. Called with l.mu held.
func (l *Log) addFile(size int64) {
	old := l.file
	l.number++
	l.file = newLogFile(manifestFile{number: l.number, nonce: l.cfg.Random(), bytes: size, firstLSN: l.nextLSN})
	l.at = 0
	l.table.Store(l.table.Load().with(l.file))
	// The block that was being appended to is complete now. If a batch that is
	// not durable yet ends in it, that one's finish keeps it.
	if old != nil && l.lastBlock != nil && l.firstPending(old) == nil {
		l.keep(old, l.lastBlock)
	}
	l.lastBlock = nil
}

// firstPending is the first batch in a file that is not durable, nil if there
// is none. Called with l.mu held.
func (l *Log) firstPending(f *logFile) *batch {
	for _, list := range [...][]*batch{l.writing, l.closed} {
		for _, b := range list {
			if b.file == f {
				return b
			}
		}
	}
	if b := l.gathering; b != nil && b.file == f {
		return b
	}
	return nil
}

// Add begins the next record and returns its payload to be filled, its place and
// its number. The records of a region have to add up to what was reserved. Type
// 0 is not for use: it is the log's own.
func (r *Region) Add(typ uint8, payloadBytes int) (payload []byte, at Place, lsn LSN) {
	if typ == typePad {
		panic("seglog: record type 0")
	}
	return r.add(Record{Type: typ}, payloadBytes)
}

// add takes all but the payload from head.
func (r *Region) add(head Record, payloadBytes int) (payload []byte, at Place, lsn LSN) {
	n := payloadBytes + RecordOverhead
	r.skipBlockEnd()
	b := r.buf[:n]
	binary.LittleEndian.PutUint32(b, uint32(n))
	b[4], b[5] = head.Type, head.Version
	binary.LittleEndian.PutUint16(b[6:], head.Shard)
	at, lsn = r.place, r.next
	r.buf = r.buf[n:]
	r.place += Place(n)
	r.next++
	return b[recordHeaderBytes : n-recordCRCBytes : n-recordCRCBytes], at, lsn
}

// skipBlockEnd leaves the last bytes of a block zero if they are too few for a
// record. Only a region larger than a block gets there with something to come.
func (r *Region) skipBlockEnd() {
	if r.slack == 0 {
		return
	}
	if rest := int(blockBytes - r.place.Offset()%blockBytes); rest < RecordOverhead {
		r.buf, r.place, r.slack = r.buf[rest:], r.place+Place(rest), r.slack-rest
	}
}

// Done hands the region to the committer and returns the position from which on
// it is durable. A region that was not filled to the end is a bug.
func (r *Region) Done() LSN {
	if len(r.buf) != r.slack || r.next != r.end {
		panic(fmt.Sprintf("seglog: %d bytes and %d records of a region were not filled", len(r.buf)-r.slack, r.end-r.next))
	}
	if r.slack > 0 {
		r.skipBlockEnd()
		putPad(r.buf)
	}
	r.b.writers.Add(-1)
	return r.next
}

// Durable is the position: every record with a number below it is durable.
func (l *Log) Durable() LSN { return LSN(l.durable.Load()) }

// End is the position behind everything that has been reserved so far.
func (l *Log) End() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nextLSN
}

// WaitDurable waits until every record below the position, which Done has given,
// is durable, or the log has failed. It does the committer's work if nobody else is
// at it, so OnDurable may be called from it. Called without locks.
func (l *Log) WaitDurable(position LSN) error {
	if l.Durable() >= position {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.force()
	for l.Durable() < position && l.err == nil {
		if l.isFree() && (l.due.Load() || len(l.closed) > 0) {
			l.commitHere() // see Commit; this one waits anyway
		} else {
			l.room.Wait()
		}
	}
	if l.Durable() >= position {
		return nil
	}
	return l.err
}

// force has the gathering batch written with the next round. Called with l.mu held.
func (l *Log) force() {
	if b := l.gathering; b != nil {
		b.force = true
		l.due.Store(true)
	}
}

// WaitWritten waits until every record below the position survives the end of this
// process, though maybe not a power loss: it has been written and need not be synced.
func (l *Log) WaitWritten(position LSN) error {
	l.handedWaits.Add(1) // counted first, looked at second: see hand
	defer l.handedWaits.Add(-1)
	survives := func() bool { return LSN(l.handed.Load()) >= position || l.Durable() >= position }
	if survives() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.force()
	l.work.Signal()
	for !survives() && l.err == nil {
		l.room.Wait()
	}
	if survives() {
		return nil
	}
	return l.err
}

// HasRoom tells whether WaitRoom would return at once.
func (l *Log) HasRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.backlog <= l.cfg.BacklogBytes
}

// WaitRoom waits while too much is waiting for the disk. Appenders call it
// before they take locks.
func (l *Log) WaitRoom() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.backlog > l.cfg.BacklogBytes && l.err == nil {
		l.room.Wait()
	}
	return l.err
}

// Err is the error that stopped the log, nil if none has.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
