package vfs

import "sync"

// space is the limit of bytes of a Fault. While there is one, operations that change sizes are
// done one after the other, so that two of them cannot both take the last bytes.
type space struct {
	inner FS

	mu        sync.Mutex
	limited   bool
	freeBytes int64
}

func (s *space) set(freeBytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limited, s.freeBytes = freeBytes >= 0, freeBytes
}

func (s *space) limit(freeBytes uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.limited {
		return freeBytes
	}
	return min(freeBytes, uint64(s.freeBytes))
}

// run does an operation within the limit.
func (s *space) run(op *Op, on File, run func() error) error {
	const resizing = OpCreate | OpRemove | OpRename | OpWrite | OpTruncate | OpZeroFill
	if op.Kind&resizing == 0 || !s.isLimited() {
		return run()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch op.Kind {
	case OpCreate, OpRemove:
		return s.givingBack(s.sizeBytes(op.Name), run)
	case OpRename:
		return s.givingBack(s.sizeBytes(op.NewName), run)
	default:
		return s.resize(op, on, run)
	}
}

func (s *space) isLimited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limited
}

// givingBack runs what frees bytes if it works. A file that is still open somewhere would free
// them only when closed; that is not modelled.
func (s *space) givingBack(bytes int64, run func() error) error {
	err := run()
	if err == nil {
		s.freeBytes += bytes
	}
	return err
}

func (s *space) sizeBytes(name string) int64 {
	sizeBytes, err := s.inner.Stat(name)
	if err != nil {
		return 0 // there is none; if there is another reason, the operation itself will say so
	}
	return sizeBytes
}

// resize does a write, truncate or zero-fill, or of the first and last as much as fits.
func (s *space) resize(op *Op, on File, run func() error) error {
	before, err := on.Size()
	if err != nil {
		return run() // the file is closed; it says so itself
	}
	end := op.Bytes
	if op.Kind == OpWrite {
		end += op.Offset
	}
	full := end-before > s.freeBytes
	if full {
		if op.Kind == OpTruncate {
			return pathError(op.Kind.String(), op.Name, errFull)
		}
		op.Bytes = max(0, op.Bytes-(end-before-s.freeBytes))
	}
	if !full || op.Bytes > 0 {
		err = run()
	}
	if after, sizeErr := on.Size(); sizeErr == nil {
		s.freeBytes -= after - before
	}
	if err == nil && full {
		err = pathError(op.Kind.String(), op.Name, errFull)
	}
	return err
}
