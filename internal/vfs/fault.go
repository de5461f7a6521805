package vfs

import (
	"path/filepath"
	"sync"
	"syscall"
)

// Rule says which operations of a Fault go wrong, and how.
type Rule struct {
	// Kinds are the operations it is about; 0 means OpsChange.
	Kinds OpKind
	// Name is a pattern (path/filepath.Match) for the last element of the file's name, or of
	// either name of a rename. Empty means every name.
	Name string
	// Nth picks the n-th matching operation, counted from 1 since the rule was added. 0 means
	// every one.
	Nth int
	// Sticky lets all matching operations after the Nth go wrong as well, as on a dead disk.
	Sticky bool
	// Err is what the operation fails with, within an fs.PathError, without being done (Close is
	// done all the same). nil lets it pass, for rules that only have a Before.
	// A Sync or Datasync that fails on a MemFS loses the unsynced bytes for good.
	Err error
	// ShortBytes is how much of a write or zero-fill happens before it fails.
	ShortBytes int64
	// Before runs before the operation, in its goroutine and outside all locks: to be slow, or to
	// take a crash clone at exactly this point.
	Before func(Op)
}

// Fault wraps a file system and makes chosen operations go wrong. It counts all operations, so
// that a test can first count and then fail each one of them in turn. The zero number of rules
// and no SetFree change nothing. Safe for use from several goroutines.
type Fault struct {
	wrapped

	mu     sync.Mutex
	counts map[OpKind]int
	rules  []*activeRule

	space space
}

type activeRule struct {
	Rule
	matched int // operations that matched Kinds and Name
	struck  int // of those, the ones chosen by Nth and Sticky
}

// NewFault wraps inner.
func NewFault(inner FS) *Fault {
	f := &Fault{counts: map[OpKind]int{}}
	f.wrapped = wrapped{inner: inner, around: f.run}
	f.space.inner = inner
	return f
}

// Add adds a rule. The first rule with an error that applies decides about an operation. What is
// returned gives how often this rule has struck so far.
func (f *Fault) Add(rule Rule) (struck func() int) {
	if rule.Kinds == 0 {
		rule.Kinds = OpsChange
	}
	active := &activeRule{Rule: rule}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, active)
	return func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return active.struck
	}
}

// Clear removes all rules; the count and the limit of space stay.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Count gives how many operations of these kinds were called so far, failed ones included.
func (f *Fault) Count(kinds OpKind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	total := 0
	for kind, count := range f.counts {
		if kind&kinds != 0 {
			total += count
		}
	}
	return total
}

// SetFree limits the disk: from now on freeBytes can be written before it is full. Growth of files
// uses space up, a write that does not fit is done in part and fails with ENOSPC; removing,
// replacing and cutting files gives space back. What a size covers counts, also without blocks.
// A negative number takes the limit away.
func (f *Fault) SetFree(freeBytes int64) { f.space.set(freeBytes) }

// Free implements FS: the limit of SetFree counts here too.
func (f *Fault) Free(dir string) (uint64, error) {
	freeBytes, err := f.wrapped.Free(dir)
	return f.space.limit(freeBytes), err
}

// run is the around of a Fault.
func (f *Fault) run(op *Op, on File, run func() error) error {
	befores, failing := f.strike(*op)
	for _, before := range befores {
		before(*op)
	}
	if failing == nil {
		return f.space.run(op, on, run)
	}
	switch op.Kind {
	case OpSync, OpDatasync:
		if loser, ok := on.(unsyncedLoser); ok {
			loser.loseUnsynced()
		}
	case OpWrite, OpZeroFill:
		if err := f.short(op, on, failing.ShortBytes, run); err != nil {
			return err
		}
	case OpClose:
		if err := run(); err != nil {
			return err
		}
	}
	return pathError(op.Kind.String(), op.Name, failing.Err)
}

// short does the part of a failing write that the rule lets through.
func (f *Fault) short(op *Op, on File, shortBytes int64, run func() error) error {
	if shortBytes <= 0 {
		return nil
	}
	if op.Kind == OpZeroFill {
		sizeBytes, err := on.Size()
		if err != nil {
			return err
		}
		shortBytes += sizeBytes
	}
	op.Bytes = min(op.Bytes, shortBytes)
	return f.space.run(op, on, run)
}

// strike counts the operation and gives what the rules say about it.
func (f *Fault) strike(op Op) (befores []func(Op), failing *Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[op.Kind]++
	for _, rule := range f.rules {
		if !rule.matches(op) {
			continue
		}
		rule.matched++
		if rule.Nth != 0 && rule.matched != rule.Nth && !(rule.Sticky && rule.matched > rule.Nth) {
			continue
		}
		rule.struck++
		if rule.Before != nil {
			befores = append(befores, rule.Before)
		}
		if rule.Err != nil && failing == nil {
			failing = &rule.Rule
		}
	}
	return befores, failing
}

func (r *Rule) matches(op Op) bool {
	if r.Kinds&op.Kind == 0 {
		return false
	}
	return r.Name == "" || matchesBase(r.Name, op.Name) || op.Kind == OpRename && matchesBase(r.Name, op.NewName)
}

// matchesBase takes a malformed pattern for one that matches nothing.
func matchesBase(pattern, name string) bool {
	ok, err := filepath.Match(pattern, filepath.Base(name))
	return ok && err == nil
}

// errFull is what a full disk answers.
const errFull = syscall.ENOSPC
