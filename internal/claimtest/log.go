package claimtest

import (
	"slices"
	"sync"
)

// Log collects what handlers saw.
type Log[T any] struct {
	mu   sync.Mutex
	list []T
}

// Add returns how long the list is then.
func (l *Log[T]) Add(v T) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, v)
	return len(l.list)
}

// All is the list so far, in the order of Add.
func (l *Log[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// Len is the length of the list so far.
func (l *Log[T]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.list)
}
