package seglog

import (
	"fmt"
	"regexp"
)

// Mark says where a start begins to read: the records below from are accounted
// for in what the caller keeps under that name. The manifest holds it; it is
// durable when SetMark returns.
type Mark struct {
	Name string // letters, digits and dashes; empty for no mark
	From LSN
}

var markName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// SetMark makes recovery begin at m.From from now on, and waits until everything
// below it is durable. Places of records that were durable before the call stay
// good over a restart, until their file is dropped; others may move. Files whose records are all below it are not read at a start any
// more, and may be dropped in any order.
func (l *Log) SetMark(m Mark) error {
	if !markName.MatchString(m.Name) || m.From == 0 {
		return fmt.Errorf("seglog: a mark cannot be %+v", m)
	}
	if err := l.WaitDurable(m.From); err != nil {
		return err
	}
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	if l.files.closed {
		return ErrClosed
	}
	next := *l.files.manifest
	if m.From < next.mark.From {
		return fmt.Errorf("seglog: a mark at LSN %d after one at %d", m.From, next.mark.From)
	}
	// A start must not write again, at another place, what the caller knows by
	// place. It does that only with what is not known to be durable.
	next.mark, next.durable = m, max(next.durable, l.Durable())
	if err := l.writeManifest(&next); err != nil {
		return fmt.Errorf("seglog: mark LSN %d: %w", m.From, err)
	}
	l.files.manifest = &next
	return nil
}

// Marked is the mark in force.
func (l *Log) Marked() Mark {
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	return l.files.manifest.mark
}

// below tells whether all records of the i-th file are below the mark.
func (m *manifest) below(i int) bool {
	return i+1 < len(m.files) && m.files[i+1].firstLSN <= m.mark.From
}

// Written is how many bytes this run has written to log files.
func (l *Log) Written() int64 { return l.written.Load() }

// FileBytes is the size of a log file, FirstFileBytes that of the first of a run.
func (l *Log) FileBytes() int64      { return l.cfg.FileBytes }
func (l *Log) FirstFileBytes() int64 { return l.cfg.FirstFileBytes }
