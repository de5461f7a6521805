package store

import (
	"log/slog"
	"sync/atomic"

	"github.com/warrenmq/warren/internal/vfs"
)

// Which chunks are in memory: those that have not spilled yet are needed the
// later the newer they are, as far as queues are read in order. So what comes
// beyond the budget goes to the disk, except the newest few chunks, which a flow
// that is kept up with has left soon; and what is loaded again, because somebody
// reads there, pushes out what was loaded before it, or what is oldest: if
// that had been read in order it would be gone.

// spill is the part of an Arena that keeps chunks out of memory. The lists are
// guarded by Arena.mu.
type spill struct {
	files  *scratch // nil: everything stays in memory
	budget int64
	above  atomic.Int64 // memory at which Relieve has something to do
	logger *slog.Logger
	failed atomic.Bool // the last write did, and that has been logged

	fresh  chunkList // in memory and never loaded, oldest first
	loaded chunkList // in memory again, in the order of loading
}

// youngBytes is how much of what came last does not spill. It is a quarter of the
// budget, and this at most.
const youngBytes = 4 << 20

// failedStepBytes: after a write has failed, the next is tried when so much more
// memory is used, or by the janitor.
const failedStepBytes = 16 << 20

// chunkList is a doubly linked list.
type chunkList struct {
	oldest, newest *chunk
	bytes          int64
}

func (l *chunkList) push(c *chunk) {
	c.list, c.older, c.newer = l, l.newest, nil
	if l.newest != nil {
		l.newest.newer = c
	} else {
		l.oldest = c
	}
	l.newest = c
	l.bytes += int64(c.bytes)
}

func (l *chunkList) remove(c *chunk) {
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		l.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		l.newest = c.older
	}
	c.list, c.older, c.newer = nil, nil, nil
	l.bytes -= int64(c.bytes)
}

// SpillTo lets chunks beyond a memory budget go to scratch files in a directory,
// from which it first removes those of an earlier process. It is called before
// anything is stored; CloseScratch ends it.
func (a *Arena) SpillTo(fsys vfs.FS, dir string, budgetBytes int64, logger *slog.Logger) {
	removeScratch(fsys, dir)
	a.spill.files = &scratch{fs: fsys, dir: dir}
	a.spill.budget = max(budgetBytes, 2*ChunkBytes) // one that is filled and one that is read
	a.spill.above.Store(a.spill.budget)
	a.spill.logger = logger
}

// CloseScratch ends the use of scratch files: what has spilled cannot be read any
// more. remove says whether they are removed too, which only the owner of the
// directory may do.
func (a *Arena) CloseScratch(remove bool) {
	if a.spill.files != nil {
		a.spill.files.close(remove)
	}
}

// forget drops what is kept of a chunk that nothing refers to. Called with a.mu
// held.
func (s *spill) forget(a *Arena, c *chunk) {
	if c.list != nil {
		c.list.remove(c)
	}
	if c.kept.file != nil {
		s.files.give(c.kept)
		c.kept.file = nil
	}
	s.lower(a)
}

// lower keeps the mark of Relieve close to what is used.
func (s *spill) lower(a *Arena) {
	if above := s.above.Load(); above > s.budget {
		s.above.Store(max(s.budget, min(above, a.used.Load()+ChunkBytes)))
	}
}

// OverBudget tells whether Relieve has anything to do.
func (a *Arena) OverBudget() bool {
	return a.spill.files != nil && a.used.Load() > a.spill.above.Load()
}

// Relieve writes chunks to scratch files until the memory is within the budget or
// nothing suitable is left. It blocks on the disk, so the caller holds no locks;
// that it is a publisher's reader who calls it slows that one to what the disk
// takes. If the disk takes nothing, chunks stay in memory.
func (a *Arena) Relieve() {
	s := &a.spill
	if s.files == nil {
		return
	}
	for a.used.Load() > s.budget {
		c := a.pickFresh()
		if c == nil {
			s.above.Store(max(s.budget, a.used.Load()+ChunkBytes))
			return
		}
		if !a.spillChunk(c) {
			s.above.Store(a.used.Load() + failedStepBytes)
			return
		}
	}
	s.above.Store(s.budget)
}

// TidyScratch removes scratch files that hold nothing any more.
func (a *Arena) TidyScratch() {
	if a.spill.files != nil {
		a.spill.files.tidy()
	}
}

// pickFresh chooses what is spilled when more has come than the budget allows,
// and holds it.
func (a *Arena) pickFresh() *chunk {
	a.mu.Lock()
	defer a.mu.Unlock()
	young := min(a.spill.budget/4, youngBytes)
	for c := a.spill.fresh.newest; c != nil; c = c.older {
		if young > 0 {
			young -= int64(c.bytes)
			continue
		}
		if a.maySpill(c) && c.hold() {
			return c
		}
	}
	return nil
}

// pickAfterLoad chooses what makes room for a chunk that has been loaded, and
// holds it.
func (a *Arena) pickAfterLoad(just *chunk) *chunk {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.spill
	lists := [2]*chunk{s.fresh.oldest, s.loaded.oldest}
	if s.loaded.bytes > s.budget/2 {
		lists[0], lists[1] = lists[1], lists[0]
	}
	for _, c := range lists {
		for ; c != nil; c = c.newer {
			if c != just && a.maySpill(c) && c.hold() {
				return c
			}
		}
	}
	return nil
}

// maySpill: what is being filled cannot, and of what is sparse the rest is better
// moved together (Engine.sweep) than written.
func (a *Arena) maySpill(c *chunk) bool {
	return c != a.current && c.filled.Load() == c.records.Load() && !c.sparse()
}

// hold adds a reference to a chunk that has one. Called with Arena.mu held.
func (c *chunk) hold() bool {
	for {
		n := c.refs.Load()
		if n <= 0 {
			return false
		}
		if c.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// spillChunk takes a chunk out of memory, which the caller holds, and lets go of
// it. It reports false if the disk did not take it.
func (a *Arena) spillChunk(c *chunk) bool {
	defer a.releaseChunk(c, 1)
	s := &a.spill
	c.io.Lock()
	defer c.io.Unlock()
	mem := c.mem.Load()
	if mem == nil {
		return true
	}
	if c.kept.file == nil {
		kept, err := s.files.write((*mem)[:c.fill])
		if err != nil {
			if !s.failed.Swap(true) {
				s.logger.Warn("messages cannot be written to scratch files and stay in memory", "error", err)
			}
			return false
		}
		c.kept = kept
		if s.failed.Swap(false) {
			s.logger.Info("scratch files can be written again")
		}
	}
	a.mu.Lock()
	c.mem.Store(nil) // the memory is not used again: somebody may be reading in it
	c.list.remove(c)
	a.used.Add(-int64(c.bytes))
	a.mu.Unlock()
	return true
}

// Load brings the record at r into memory, with the chunk around it. It blocks on
// the disk. An error says that it cannot be read. The caller need not hold a
// reference: a record that has gone is no error.
func (a *Arena) Load(r Ref) error {
	a.mu.Lock()
	var c *chunk
	if table := *a.table.Load(); int(r.chunk()) < len(table) {
		c = table[r.chunk()]
	}
	if c == nil || !c.hold() {
		a.mu.Unlock()
		return nil
	}
	a.mu.Unlock()
	defer a.releaseChunk(c, 1)
	if err := a.loadChunk(c); err != nil {
		return err
	}
	for a.spill.files != nil && a.used.Load() > a.spill.budget {
		other := a.pickAfterLoad(c)
		if other == nil || !a.spillChunk(other) {
			break
		}
	}
	return nil
}

func (a *Arena) loadChunk(c *chunk) error {
	c.io.Lock()
	defer c.io.Unlock()
	if c.mem.Load() != nil {
		return nil
	}
	buf := make([]byte, c.bytes)
	if err := a.spill.files.read(c.kept, buf); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c.mem.Store(&buf)
	a.spill.loaded.push(c)
	a.used.Add(int64(c.bytes))
	return nil
}
