package session

import (
	"testing"

	"pgregory.net/rapid"
)

// confirmed is what the naive model knows of one publish.
type confirmed struct {
	closed bool     // its run is
	pos    Position // it may go once this is durable
	nack   bool
	said   bool
}

// TestConfirmsAgainstAList drives Confirms with random runs and plays the
// client: every publish gets exactly one outcome, in order, never before its
// position is durable, and a multiple covers none that is refused or waits.
func TestConfirmsAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Confirms
		var list []confirmed // index is the number less one
		closed := 0
		var highest, durable, next Position
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				for range rapid.IntRange(1, 5).Draw(t, "publishes") {
					list = append(list, confirmed{})
					if n := c.Next(); n != uint64(len(list)) {
						t.Fatalf("publish %d is numbered %d", len(list), n)
					}
				}
			case 2, 3:
				pos := Position(0)
				if rapid.IntRange(0, 3).Draw(t, "written") > 0 {
					next += Position(rapid.IntRange(0, 3).Draw(t, "bytes"))
					pos = next
				}
				highest = max(highest, pos)
				var nacks []uint64
				for i := closed; i < len(list); i++ {
					list[i].closed, list[i].pos = true, highest
					if rapid.IntRange(0, 4).Draw(t, "refused") == 0 {
						list[i].nack = true
						nacks = append(nacks, uint64(i+1))
					}
				}
				closed = len(list)
				c.Wait(pos, nacks)
				clear(nacks) // the caller's memory, used again
			case 4:
				durable += Position(rapid.IntRange(0, 4).Draw(t, "synced"))
			}
			receive(t, list, c.Release(nil, durable))
			checkOpen(t, &c, list[:closed], durable, uint64(len(list)))
		}
		c.Wait(0, nil)
		for i := closed; i < len(list); i++ {
			list[i].closed, list[i].pos = true, highest
		}
		receive(t, list, c.Release(nil, highest))
		if c.Open() != 0 || c.Waiting() {
			t.Fatalf("%d are open in the end", c.Open())
		}
	})
}

// receive is the client.
func receive(t *rapid.T, list []confirmed, outcomes []Outcome) {
	for _, o := range outcomes {
		if o.Seq == 0 || o.Seq > uint64(len(list)) {
			t.Fatalf("%s is for no publish", outcomeText(o))
		}
		covered := 0
		for i := range o.Seq {
			p := &list[i]
			last := i+1 == o.Seq
			if p.said {
				if last {
					t.Fatalf("%s, and it had its outcome", outcomeText(o))
				}
				continue
			}
			if !o.Multiple && !last {
				t.Fatalf("%s overtakes %d", outcomeText(o), i+1)
			}
			if p.nack != o.Nack || !p.closed {
				t.Fatalf("%s covers %d, which is %+v", outcomeText(o), i+1, *p)
			}
			p.said = true
			covered++
		}
		if o.Multiple && (o.Nack || covered < 2) {
			t.Fatalf("%s covers %d", outcomeText(o), covered)
		}
	}
}

// checkOpen: what is durable has its outcome, and nothing else.
func checkOpen(t *rapid.T, c *Confirms, closed []confirmed, durable Position, last uint64) {
	said := uint64(0)
	waits := false
	for i, p := range closed {
		if p.said != (p.pos <= durable) {
			t.Fatalf("publish %d, waiting for %d, has its outcome: %t; durable is %d", i+1, p.pos, p.said, durable)
		}
		if p.said {
			said++
		}
		waits = waits || !p.said
	}
	if c.Last() != last || c.Open() != last-said {
		t.Fatalf("last %d, open %d; want %d, %d", c.Last(), c.Open(), last, last-said)
	}
	if waits && !c.Waiting() {
		t.Fatalf("something waits, but not Waiting")
	}
}

// A long wait keeps runs, not publishes; a steady flow allocates nothing.
func TestConfirmsSteadyFlowAllocatesNothing(t *testing.T) {
	var c Confirms
	var pos Position
	var dst []Outcome
	turn := func() {
		for range 10 {
			c.Next()
		}
		pos += 100
		c.Wait(pos, nil)
		dst = c.Release(dst[:0], pos-300)
	}
	for range 1000 {
		turn()
	}
	if n := testing.AllocsPerRun(1000, turn); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
	if len(dst) != 1 || !dst[0].Multiple {
		t.Errorf("released %v, want one for the run", dst)
	}
	for range 100_000 {
		c.Next()
		c.Wait(pos, nil)
	}
	if len(c.open) > 16 {
		t.Errorf("%d runs for one position", len(c.open))
	}
}
