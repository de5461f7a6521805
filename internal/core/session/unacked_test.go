package session

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A delivery that makes the ring retire its only straggler is itself found.
func TestUnackedAddThatRetiresTheLastLiveDelivery(t *testing.T) {
	var u Unacked[uint64]
	u.Add(1)
	for want := uint64(2); want <= 200; want++ {
		tag := u.Add(want)
		got, ok := u.Settle(nil, tag, false)
		if !ok || len(got) != 1 || got[0] != want {
			t.Fatalf("Settle(%d) = %v, %t, want the delivery just added", tag, got, ok)
		}
	}
	if got, ok := u.Settle(nil, 1, false); !ok || got[0] != 1 {
		t.Fatalf("Settle(1) = %v, %t, want the straggler", got, ok)
	}
}

// Unacked behaves as a map of the tags that are out.
func TestUnackedAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var u Unacked[uint64]
		model := map[uint64]bool{}
		var last uint64
		var taken []uint64 // by the last Settle, for Restore
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			tags := slices.Sorted(maps.Keys(model))
			switch rapid.IntRange(0, 10).Draw(t, "step") {
			case 0, 1, 2, 3:
				last++
				if got := u.Add(last); got != last {
					t.Fatalf("Add returned tag %d, want %d", got, last)
				}
				model[last], taken = true, nil
			case 4:
				last++
				if got := u.Skip(); got != last {
					t.Fatalf("Skip returned tag %d, want %d", got, last)
				}
				taken = nil
			case 5, 6, 7, 8:
				taken = settleOne(t, &u, model, tags, last)
			case 9:
				for _, tag := range taken {
					u.Restore(tag, tag)
					model[tag] = true
				}
				taken = nil
			case 10: // what comes is settled at once, and older ones stay out
				for range rapid.IntRange(1, 20).Draw(t, "burst") {
					last++
					u.Add(last)
					if _, ok := u.Settle(nil, last, false); !ok {
						t.Fatalf("delivery %d is not found; out: %v", last, tags)
					}
				}
				taken = nil
			}
			if u.Len() != len(model) {
				t.Fatalf("Len is %d, want %d", u.Len(), len(model))
			}
		}
		if got, want := u.TakeAll(nil), slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
			t.Fatalf("TakeAll returned %v, want %v", got, want)
		}
	})
}

func settleOne(t *rapid.T, u *Unacked[uint64], model map[uint64]bool, tags []uint64, last uint64) []uint64 {
	multiple := rapid.IntRange(0, 3).Draw(t, "multiple") == 0
	tag := rapid.Uint64Range(0, last+1).Draw(t, "tag")
	if len(tags) > 0 && rapid.Bool().Draw(t, "newest") {
		tag = tags[len(tags)-1]
	}
	var want []uint64
	ok := model[tag]
	switch {
	case multiple && tag == 0:
		want, ok = tags, true
	case multiple && ok:
		want = tags[:slices.Index(tags, tag)+1]
	case ok:
		want = []uint64{tag}
	}
	got, gotOK := u.Settle(nil, tag, multiple)
	if gotOK != ok || !slices.Equal(got, want) {
		t.Fatalf("Settle(%d, %t) = %v, %t, want %v, %t; out: %v", tag, multiple, got, gotOK, want, ok, tags)
	}
	for _, tag := range want {
		delete(model, tag)
	}
	return want
}
