package store

import (
	"sync/atomic"

	"github.com/warrenmq/warren/internal/core/session"
)

// MemoryLog gives out the positions of a broker without a data directory: it
// keeps nothing, and what is appended is as durable at once as it will ever be.
type MemoryLog struct{ end atomic.Uint64 }

// Append counts one run and returns the position it ends at.
func (l *MemoryLog) Append() session.Position { return session.Position(l.end.Add(1)) }

// End is the position behind everything appended so far.
func (l *MemoryLog) End() session.Position { return session.Position(l.end.Load()) }
