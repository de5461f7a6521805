package seglog

import (
	"fmt"

	"github.com/warrenmq/warren/internal/vfs"
)

// resume makes the log ready for appends after a scan. It never appends to an
// old file: the first append makes a new one, and where that begins, the old one
// ends.
func (s *scan) resume() error {
	l := s.l
	s.report.NextLSN = s.next
	l.nextLSN, l.synced, l.idle.claimed = s.next, s.next, s.next
	l.durable.Store(uint64(s.next))
	if len(s.tail) == 0 {
		return nil
	}
	if l.files.manifest.clean == 0 {
		return s.rewrite()
	}
	// Closed in order: synced to the last byte.
	for i := range s.tail {
		if err := s.give(&s.tail[i]); err != nil {
			return err
		}
	}
	return nil
}

// rewrite writes the tail, which nothing claims to be durable, again: a failed
// sync of an earlier run may have left it in the page cache alone. It goes to a
// new file with the same LSNs. Once that is synced, the manifest names it and
// cuts the old file, in one stroke: a crash before that leaves all as it was.
//
// The tail is in one file, the last: naming a file claims all before it.
func (s *scan) rewrite() error {
	l := s.l
	first := s.tail[0]
	l.nextLSN, l.synced, l.idle.claimed = first.header.firstLSN, first.header.firstLSN, first.header.firstLSN
	l.addFile(s.tailFileBytes())
	f := l.file
	moved := s.refill()
	l.closeBatch()
	if l.file != f {
		return fmt.Errorf("seglog: %d batches of a tail did not fit %d bytes", len(s.tail), f.bytes)
	}
	batches := l.closed
	l.closed = nil
	h, err := l.makeFile(f)
	if err != nil {
		return err
	}
	if err := l.fill(h, batches); err != nil {
		h.Close() // the file is not in the manifest, the next start removes it
		return fmt.Errorf("write %s: %w", f.name(), err)
	}
	cut := manifestFile{
		number: first.file.number, nonce: first.file.nonce, bytes: first.file.bytes,
		firstLSN: first.file.firstLSN, cutAt: first.at, cutLSN: first.header.firstLSN,
	}
	if err := l.nameFile(f, h, cut, s.next); err != nil {
		return err
	}
	l.synced, l.idle.claimed = s.next, s.next
	l.durable.Store(uint64(s.next))
	for _, b := range batches {
		l.backlog -= b.end - b.start
	}
	l.retain(batches)
	s.report.Reappended = len(moved)
	for _, e := range moved {
		if err := s.show(e); err != nil {
			return err
		}
		s.report.Records++
	}
	return nil
}

// tailFileBytes is a size that the tail fits in, wherever its regions go.
func (s *scan) tailFileBytes() int64 {
	size := int64(blockBytes)
	for _, t := range s.tail {
		n := int64(len(t.data))
		size += 2*pageBytes + n + slackFor(n)
		if n > blockBytes/2 {
			size += 3 * blockBytes // it may begin at a boundary
		} else {
			size += n // as may this one: it leaves less than itself empty
		}
	}
	return max(s.l.cfg.FirstFileBytes, alignBlock(size))
}

// refill appends the tail in memory, each batch as one region. The entries that
// it returns alias the tail.
func (s *scan) refill() (moved []Entry) {
	for _, t := range s.tail {
		bytes := 0
		walk(t.data, t.at+batchHeaderBytes, func(b []byte, _ int64) bool {
			bytes += len(b)
			return true
		})
		r := s.l.Reserve(int(t.header.records), bytes, true)
		walk(t.data, t.at+batchHeaderBytes, func(b []byte, _ int64) bool {
			old, _, _ := parseRecord(b)
			payload, at, lsn := r.add(old, len(old.Payload))
			copy(payload, old.Payload)
			moved = append(moved, Entry{Record: old, Place: at, LSN: lsn, TimeMillis: t.header.timeMillis})
			return true
		})
		r.Done()
	}
	return moved
}

// fill writes batches to a file and syncs it.
func (l *Log) fill(h vfs.File, batches []*batch) error {
	for _, b := range batches {
		l.seal(b)
		if err := l.writeBatch(h, b); err != nil {
			return err
		}
	}
	return h.Sync()
}
