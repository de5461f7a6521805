package seglog

import (
	"fmt"
	"time"
)

// The last batches that were synced have no header after them that says so:
// recovery cannot tell damage in them from a torn tail, and has to write them
// again. So when nothing is appended for a while, the committer writes a batch
// without records, whose header names the durable position. It is not synced:
// if it is lost, recovery knows as much as it would without.

// idleClaim is the state of that. Guarded by Log.mu.
type idleClaim struct {
	timer   *time.Timer // nil if it does not run
	fired   bool        // it has run out
	since   LSN         // the durable position when it was armed
	claimed LSN         // what the newest header on the disk says
}

// claim returns the batch to be written now, if any; else it sees to it that the
// committer is woken when one may be due. Called with l.mu held, by the
// committer, when there is nothing else to do.
func (l *Log) claim() *batch {
	i := &l.idle
	fired := i.fired
	i.fired = false
	if l.cfg.ClaimDelay < 0 || l.file == nil || i.claimed == l.synced || l.gathering != nil {
		return nil
	}
	if !fired || i.since != l.synced {
		l.armClaim()
		return nil
	}
	i.claimed = l.synced
	if l.at+pageBytes > l.file.bytes {
		return nil // the next file will say it: naming one is a claim too
	}
	b := l.openBatch(0)
	b.flags = flagClaim
	l.closeBatch()
	l.closed = nil
	return b
}

// writeClaim writes such a batch.
func (l *Log) writeClaim(b *batch) error {
	f, err := l.openForWrite(b.file)
	if err != nil {
		return err
	}
	l.seal(b)
	if err := l.writeBatch(f, b); err != nil {
		return fmt.Errorf("write %s: %w", b.file.name(), err)
	}
	return nil
}

// armClaim has the committer woken when a claim may be due. Called with l.mu held.
func (l *Log) armClaim() {
	i := &l.idle
	if l.cfg.ClaimDelay < 0 || i.timer != nil || i.fired {
		return
	}
	i.since = l.synced
	i.timer = time.AfterFunc(l.cfg.ClaimDelay, func() {
		l.mu.Lock()
		i.timer, i.fired = nil, true
		l.work.Signal()
		l.mu.Unlock()
	})
}
