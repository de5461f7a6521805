package reliable

import (
	"math/rand/v2"
	"testing"
)

// The settler's base is the lowest tag that is not settled, whatever the order.
func TestSettlerCounts(t *testing.T) {
	for range 200 {
		s := newSettler(nil, nil)
		const tags = 60
		open := map[uint64]bool{}
		for tag := uint64(1); tag <= tags; tag++ {
			open[tag] = true
		}
		for _, i := range rand.Perm(tags) {
			tag := uint64(i + 1)
			delete(open, tag)
			s.count(tag)
			lowest := uint64(1)
			for lowest <= tags && !open[lowest] {
				lowest++
			}
			if s.base != lowest {
				t.Fatalf("base is %d, the lowest open tag %d", s.base, lowest)
			}
			if len(s.settled) > len(open)+1 {
				t.Fatalf("%d spans for %d open tags", len(s.settled), len(open))
			}
		}
		if len(s.settled) != 0 {
			t.Fatalf("spans are left: %v", s.settled)
		}
	}
}
