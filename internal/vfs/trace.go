package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Trace wraps a file system and writes down every operation of chosen kinds, in the order in which
// they ended, as text that is the same on every system and in every directory: a golden file of
// it pins down what is synced before what. Safe for use from several goroutines.
type Trace struct {
	wrapped
	base  string
	kinds OpKind

	mu    sync.Mutex
	lines []string
}

// NewTrace wraps inner. Names are written relative to the directory base and with slashes.
func NewTrace(inner FS, base string, kinds OpKind) *Trace {
	t := &Trace{base: base, kinds: kinds}
	t.wrapped = wrapped{inner: inner, around: t.run}
	return t
}

// Lines gives a copy of what was written down since the last Reset.
func (t *Trace) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}

// Text gives the lines, each with its line end.
func (t *Trace) Text() string {
	lines := t.Lines()
	return strings.Join(append(lines, ""), "\n")
}

// Note writes a line of the test's own between the operations.
func (t *Trace) Note(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

// Reset forgets the lines.
func (t *Trace) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = nil
}

// run is the around of a Trace.
func (t *Trace) run(op *Op, _ File, run func() error) error {
	err := run()
	if op.Kind&t.kinds != 0 {
		shown := *op
		shown.Name, shown.NewName = t.relative(op.Name), t.relative(op.NewName)
		t.Note(shown.String() + outcome(err))
	}
	return err
}

func (t *Trace) relative(name string) string {
	if rel, err := filepath.Rel(t.base, name); err == nil {
		name = rel
	}
	return filepath.ToSlash(name)
}

// outcome names an error in words that do not depend on the system.
func outcome(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, io.EOF):
		return ": end of file"
	case errors.Is(err, fs.ErrNotExist):
		return ": does not exist"
	case errors.Is(err, os.ErrClosed):
		return ": closed"
	case errors.Is(err, ErrLocked):
		return ": locked"
	case IsNoSpace(err):
		return ": no space"
	}
	return ": failed"
}
