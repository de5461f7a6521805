package boltstore

// Waiting is how many callers have not got into a transaction yet.
func (s *Store) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}
