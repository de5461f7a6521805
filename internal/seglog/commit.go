package seglog

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// commit is the committer: if there is something somebody waits for, it writes
// and syncs it at once; what is appended meanwhile gathers for the next round.
func (l *Log) commit() {
	defer close(l.done)
	for {
		batches, ending := l.nextBatches(true)
		if len(batches) == 0 && ending || !l.put(batches) {
			return
		}
		// Those who were woken run first, on this processor: the next round mostly
		// blocks in a sync, and they would wait for another thread to come for them.
		runtime.Gosched()
	}
}

// nextBatches takes all there is to write, and if told so waits for it. Somebody who
// does the committer's work (see Commit) is waited for.
func (l *Log) nextBatches(wait bool) (batches []*batch, ending bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for l.busy {
			l.work.Wait()
		}
		if batches = l.takeDue(); len(batches) > 0 || l.ending || l.err != nil {
			return batches, l.ending || l.err != nil
		}
		if b := l.claim(); b != nil {
			l.writing, l.busy = []*batch{b}, true
			return l.writing, false
		}
		if !wait {
			return nil, false
		}
		l.work.Wait()
	}
}

// takeDue closes the batch that gathers if it is due, and takes all that is closed.
// Whoever gets something is the committer until finish or fail. Called with l.mu
// held, and nobody at it.
func (l *Log) takeDue() []*batch {
	if g := l.gathering; g != nil && (g.force || l.flush || l.ending || len(l.closed) > 0) {
		l.closeBatch()
	}
	l.flush = false
	l.due.Store(false)
	batches := l.closed
	l.closed = nil
	l.writing, l.busy = batches, len(batches) > 0
	return batches
}

// fastSync is how long a write with sync may have taken last time for Commit to do
// the next one in its caller's goroutine.
const fastSync = time.Millisecond

// Commit sees to it that what was reserved with force so far is written. If here is
// set, nobody is at it and the disk is fast, that happens in the caller's goroutine:
// waking the committer would take about as long as the disk does. Otherwise the
// committer does it, and Commit does not wait for it. Locks may be held only if here
// is not set.
func (l *Log) Commit(here bool) {
	if !l.due.Load() {
		return // nothing was reserved, or it is under way
	}
	l.mu.Lock()
	if here && !l.slow && l.isFree() {
		l.commitHere()
	} else {
		l.work.Signal()
	}
	l.mu.Unlock()
}

// isFree tells whether the caller may be the committer. Called with l.mu held.
func (l *Log) isFree() bool { return !l.busy && !l.inline && !l.ending && l.err == nil }

// commitHere is one round of the committer. Called with l.mu held, which it gives up
// meanwhile, and isFree.
func (l *Log) commitHere() {
	batches := l.takeDue()
	l.mu.Unlock()
	l.put(batches)
	l.mu.Lock()
}

// put brings batches to the disk. It reports false if the log has stopped.
func (l *Log) put(batches []*batch) bool {
	if len(batches) == 0 {
		return true
	}
	start := time.Now()
	var err error
	if batches[0].flags&flagClaim != 0 {
		err = l.writeClaim(batches[0])
	} else {
		err = l.write(batches)
	}
	d := time.Since(start)
	if d > time.Second {
		l.logger.Warn("slow disk: a write with sync took long", "duration", d)
	}
	l.finish(batches, d, err)
	return err == nil
}

// step is one round of the committer, for a log without that goroutine.
func (l *Log) step() {
	if l.Err() != nil {
		return
	}
	if batches, _ := l.nextBatches(false); !l.put(batches) {
		close(l.done)
	}
}

// write puts batches on the disk, each file synced before the next is begun.
func (l *Log) write(batches []*batch) error {
	for i, b := range batches {
		l.seal(b)
		f, err := l.openForWrite(b.file)
		if err != nil {
			return err
		}
		if err := l.writeBatch(f, b); err != nil {
			return fmt.Errorf("write %s: %w", b.file.name(), err)
		}
		l.written.Add(alignPage(b.end) - b.start)
		l.hand(b.first + LSN(b.records))
		if i+1 == len(batches) || batches[i+1].file != b.file {
			if err := f.Datasync(); err != nil {
				return fmt.Errorf("sync %s: %w", b.file.name(), err)
			}
			l.synced = b.first + LSN(b.records)
		}
	}
	return nil
}

// hand moves the position up to which everything is with the operating system.
func (l *Log) hand(position LSN) {
	l.handed.Store(uint64(position))
	if l.handedWaits.Load() > 0 {
		l.mu.Lock()
		l.room.Broadcast()
		l.mu.Unlock()
	}
}

// seal waits until every region is filled, and completes checksums and header.
func (l *Log) seal(b *batch) {
	for tries := 0; b.writers.Load() > 0; tries++ {
		// Somebody is copying, maybe under a queue lock: soon done, unless the
		// scheduler has put them aside.
		if tries < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(20 * time.Microsecond)
		}
	}
	crc := batchCRC(b.file.nonce)
	for _, s := range b.spans() {
		walk(s.bytes, s.at, func(rec []byte, _ int64) bool {
			end := len(rec) - recordCRCBytes
			binary.LittleEndian.PutUint32(rec[end:], checksum(b.file.nonce, rec[:end]))
			return true
		})
		crc.add(s.bytes)
	}
	l.timeMillis = max(l.timeMillis, l.cfg.Now().UnixMilli())
	h := batchHeader{
		flags: b.flags, records: b.records, payloadBytes: uint32(b.end - b.start - batchHeaderBytes),
		firstLSN: b.first, durableLSN: l.synced, timeMillis: l.timeMillis, payloadCRC: crc.sum,
	}
	first := b.blocks[0]
	h.put(first.buf[b.start-first.base:], b.file.nonce)
}

type span struct {
	bytes []byte
	at    int64 // in the file
}

// spans are the payload's stretches in memory, in order.
func (b *batch) spans() []span {
	var out []span
	at := b.start + batchHeaderBytes
	for _, blk := range b.blocks {
		end := min(b.end, blk.base+int64(len(blk.buf)))
		if at < end {
			out = append(out, span{blk.buf[at-blk.base : end-blk.base], at})
			at = end
		}
	}
	return out
}

// writeBatch writes header, payload and the padding to a whole page, on a full
// disk with the reserve's room: a write may be tried again, unlike a sync, because
// nothing relies on it yet.
func (l *Log) writeBatch(f writerAt, b *batch) error {
	err := b.write(f)
	if vfs.IsNoSpace(err) && l.ReleaseReserve() {
		err = b.write(f)
	}
	return err
}

func (b *batch) write(f writerAt) error {
	at, end := b.start, alignPage(b.end)
	for _, blk := range b.blocks {
		stop := min(end, blk.base+int64(len(blk.buf)))
		if at >= stop {
			continue
		}
		if _, err := f.WriteAt(blk.buf[at-blk.base:stop-blk.base], at); err != nil {
			return err
		}
		at = stop
	}
	return nil
}

type writerAt interface {
	WriteAt(p []byte, off int64) (int, error)
}

// fail stops the log. The owner hears of it before anybody who waits does, so
// that whoever is told of a failure finds it known everywhere.
func (l *Log) fail(err error) {
	l.logger.Error("the log has stopped; nothing more is confirmed", "error", err)
	if l.cfg.OnFailure != nil {
		l.cfg.OnFailure(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	l.gathering, l.closed = nil, nil // nobody writes them any more
	l.room.Broadcast()
	l.rest()
}

// finish moves the durable position, or stops the log.
func (l *Log) finish(batches []*batch, took time.Duration, err error) {
	if err != nil {
		l.fail(fmt.Errorf("seglog: the log has stopped: %w", err))
		return
	}
	l.mu.Lock()
	last := batches[len(batches)-1]
	durable := last.first + LSN(last.records)
	moved := l.Durable() < durable
	for _, b := range batches {
		l.backlog -= b.end - b.start
	}
	l.durable.Store(uint64(durable))
	l.writing = nil
	if last.flags&flagClaim == 0 { // a claim is not synced
		l.slow = took > fastSync
	}
	l.retain(batches)
	l.room.Broadcast()
	l.mu.Unlock()
	if moved && l.cfg.OnDurable != nil {
		l.cfg.OnDurable(durable) // one after the other: before somebody else is the committer
	}
	l.mu.Lock()
	l.rest()
	l.mu.Unlock()
}

// rest ends a round of whoever was the committer. Its goroutine goes on with what is
// due by now. Called with l.mu held.
func (l *Log) rest() {
	l.writing, l.busy = nil, false
	if l.due.Load() || l.flush || l.ending || l.err != nil || len(l.closed) > 0 || l.idle.fired {
		l.work.Signal()
	} else {
		l.armClaim()
	}
}

// retain keeps the blocks that are complete now among the resident ones, and
// evicts the oldest beyond the budget. Called with l.mu held.
func (l *Log) retain(batches []*batch) {
	for _, b := range batches {
		// A block that is still being appended to, or that holds records that
		// are not on the disk yet, stays whatever the budget is. It comes here
		// again with a later batch, or in addFile.
		complete := b.file.bytes
		if p := l.firstPending(b.file); p != nil {
			complete = p.start
		} else if b.file == l.file {
			complete = l.at
		}
		for _, blk := range b.blocks {
			if blk.base+int64(len(blk.buf)) <= complete {
				l.keep(b.file, blk)
			}
		}
	}
}

// keep adds a block to the resident ones. Called with l.mu held.
func (l *Log) keep(f *logFile, blk *block) {
	for _, r := range l.resident {
		if r.b == blk {
			return
		}
	}
	l.resident = append(l.resident, residentBlock{f, blk})
	l.residentN += int64(len(blk.buf))
	l.evict(l.cfg.ResidentBytes)
}

// evict drops the oldest resident blocks beyond so many bytes, but for one. Called
// with l.mu held.
func (l *Log) evict(most int64) {
	for l.residentN > most && len(l.resident) > 1 {
		old := l.resident[0]
		l.resident = slices.Delete(l.resident, 0, 1)
		l.residentN -= int64(len(old.b.buf))
		old.f.drop(old.b)
	}
}

// TidyBlocks evicts the durable blocks of a log of which nobody has wanted anything
// since the last call, neither to append nor to read from the disk. The owner calls
// it regularly.
func (l *Log) TidyBlocks() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := [2]uint64{uint64(l.nextLSN), l.loads}
	if now == l.lookedAt {
		l.evict(0)
	}
	l.lookedAt = now
}
