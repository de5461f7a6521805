package store

import (
	"sync"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/session"
)

// MemoryLog is the log of a broker without a data directory: it keeps nothing,
// and what is appended is durable at once, unless a test holds it.
type MemoryLog struct {
	mu      sync.Mutex
	end     session.Position
	durable session.Position
	held    bool
	moved   func(session.Position)
}

// NewMemoryLog returns a log whose positions start above zero.
func NewMemoryLog() *MemoryLog { return &MemoryLog{} }

// OnDurable sets the function that hears of the durable position when it moves
// after Append returned. It is called without locks held.
func (l *MemoryLog) OnDurable(f func(session.Position)) { l.moved = f }

// Append takes a run of facts and returns the position they end at. The facts
// may be reused once it returns.
func (l *MemoryLog) Append([]queue.Fact) session.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end++
	if !l.held {
		l.durable = l.end
	}
	return l.end
}

// Durable is the highest position that survives a crash.
func (l *MemoryLog) Durable() session.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// Held tells whether the durable position is being held.
func (l *MemoryLog) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held
}

// Hold keeps the durable position where it is until Release: confirms wait.
func (l *MemoryLog) Hold() {
	l.mu.Lock()
	l.held = true
	l.mu.Unlock()
}

// Release ends a Hold.
func (l *MemoryLog) Release() {
	l.mu.Lock()
	l.held = false
	l.durable = l.end
	d, f := l.durable, l.moved
	l.mu.Unlock()
	if f != nil {
		f(d)
	}
}
