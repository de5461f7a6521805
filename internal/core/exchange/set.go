package exchange

// indexFrom is the set size from which an index pays: below it a scan of a few
// cache lines is faster than hashing, and most keys have one or two bindings.
const indexFrom = 16

// entry is one binding under a key: where it leads, and its encoded arguments
// (empty for none), which tell apart two bindings with the same key.
type entry struct {
	dest Dest
	args string
}

// set is an unordered set of entries with O(1) add and remove at any size.
type set struct {
	entries []entry
	index   map[entry]int // position in entries; nil while small
}

func (s *set) find(e entry) int {
	if s.index != nil {
		if i, ok := s.index[e]; ok {
			return i
		}
		return -1
	}
	for i := range s.entries {
		if s.entries[i] == e {
			return i
		}
	}
	return -1
}

func (s *set) add(e entry) bool {
	if s.find(e) >= 0 {
		return false
	}
	s.entries = append(s.entries, e)
	if s.index != nil {
		s.index[e] = len(s.entries) - 1
	} else if len(s.entries) > indexFrom {
		s.index = make(map[entry]int, 2*len(s.entries))
		for i, x := range s.entries {
			s.index[x] = i
		}
	}
	return true
}

// remove takes e out by moving the last entry into its place.
func (s *set) remove(e entry) bool {
	i := s.find(e)
	if i < 0 {
		return false
	}
	last := len(s.entries) - 1
	moved := s.entries[last]
	s.entries[i] = moved
	s.entries[last] = entry{}
	s.entries = s.entries[:last]
	if s.index != nil {
		s.index[moved] = i
		delete(s.index, e)
		if last <= indexFrom/2 {
			// Hysteresis: a set that hovers around the limit does not rebuild.
			s.index = nil
		}
	}
	return true
}

func (s *set) appendTo(dst []Dest) []Dest {
	for i := range s.entries {
		dst = append(dst, s.entries[i].dest)
	}
	return dst
}
