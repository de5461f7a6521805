package session

import (
	"math/rand/v2"
	"testing"
)

// However deliveries are settled, the ring stays under eight times the most
// that were out at once, and finds every one.
func TestUnackedRingStaysSmall(t *testing.T) {
	for _, window := range []int{1, 3, 30, 500} {
		rng := rand.New(rand.NewPCG(1, uint64(window)))
		var u Unacked[uint64]
		var out []uint64
		most := 0
		for range 20_000 {
			if len(out) < window && rng.IntN(3) > 0 {
				tag := u.Add(u.LastTag() + 1)
				out = append(out, tag)
			} else if len(out) == 0 || rng.IntN(8) == 0 {
				u.Skip()
			} else {
				i := 0
				if rng.IntN(2) == 0 { // some early ones stay for long
					i = len(out) / 2
					i += rng.IntN(len(out) - i)
				} else if rng.IntN(20) > 0 {
					i = len(out) - 1
				}
				got, ok := u.Settle(nil, out[i], false)
				if !ok || len(got) != 1 || got[0] != out[i] {
					t.Fatalf("window %d: settling %d gives %v, %t", window, out[i], got, ok)
				}
				out = append(out[:i], out[i+1:]...)
			}
			most = max(most, u.Len())
			if u.Len() != len(out) {
				t.Fatalf("window %d: %d out, want %d", window, u.Len(), len(out))
			}
			if len(u.ring) > minRing && len(u.ring) >= 8*most {
				t.Fatalf("window %d: a ring of %d for at most %d", window, len(u.ring), most)
			}
		}
	}
}

// A rollback puts deliveries back wherever they were: in the ring, among the
// stragglers, or where no other is left.
func TestUnackedRestoreAmongStragglers(t *testing.T) {
	var u Unacked[uint64]
	for tag := uint64(1); tag <= 4; tag++ {
		u.Add(tag)
	}
	for range 100 {
		tag := u.Add(0)
		u.Settle(nil, tag, false)
	}
	if len(u.old) != 4 {
		t.Fatalf("%d stragglers, want 4", len(u.old))
	}
	u.Settle(nil, 3, false)
	u.Settle(nil, 1, false)
	u.Restore(3, 3)
	u.Restore(1, 1)
	last := u.Add(u.LastTag() + 1)
	u.Add(u.LastTag() + 1)
	u.Settle(nil, last, false)
	u.Restore(50, 50) // settled long ago, in a transaction still open
	got := u.TakeAll(nil)
	want := []uint64{1, 2, 3, 4, 50, last + 1}
	if len(got) != len(want) {
		t.Fatalf("TakeAll gives %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("TakeAll gives %v, want %v", got, want)
		}
	}
}

// The steady flow of a consumer allocates nothing.
func TestUnackedSteadyFlowAllocatesNothing(t *testing.T) {
	var u Unacked[uint64]
	var dst []uint64
	straggler := u.Add(0)
	turn := func() {
		for range 50 {
			u.Add(1)
		}
		for tag := u.LastTag() - 49; tag < u.LastTag(); tag++ {
			dst, _ = u.Settle(dst[:0], tag, false)
		}
		dst, _ = u.Settle(dst[:0], u.LastTag(), false)
	}
	for range 100 {
		turn()
	}
	if n := testing.AllocsPerRun(1000, turn); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if u.Len() != 1 {
		t.Errorf("%d out, want 1", u.Len())
	}
	if got, ok := u.Settle(nil, straggler, true); !ok || len(got) != 1 {
		t.Errorf("the straggler: %v, %t", got, ok)
	}
}
