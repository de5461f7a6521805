package engine

// Stored is what is left of messages in memory, for tests that look for what is
// never let go: references to bodies, and channels that await confirms or direct
// replies.
func (e *Engine) Stored() (references, channels int) {
	e.waitingMu.Lock()
	channels = len(e.waiting)
	e.waitingMu.Unlock()
	e.replies.mu.RLock()
	channels += len(e.replies.byToken)
	e.replies.mu.RUnlock()
	return int(e.arena.References()), channels
}
