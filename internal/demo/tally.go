package demo

import (
	"fmt"
	"strings"
)

// Tally holds the numbers of one step, or of the whole run.
type Tally struct {
	Published    int `json:"published"`    // messages sent; copies for retries and dead letters are none
	Confirmed    int `json:"confirmed"`    // confirms that arrived
	Returned     int `json:"returned"`     // unroutable messages given back
	Routed       int `json:"routed"`       // copies the bindings promise for what was published
	Delivered    int `json:"delivered"`    // deliveries that consumers got, all kinds
	First        int `json:"first"`        // ... for the first time, in the queue they were routed to
	Redelivered  int `json:"redelivered"`  // ... again, marked redelivered
	Retried      int `json:"retried"`      // ... again, as a copy that has waited
	DeadLettered int `json:"deadLettered"` // found among the dead letters
	Handled      int `json:"handled"`      // the work succeeded
	Deduplicated int `json:"deduplicated"` // dropped, as its id was handled before
	Acked        int `json:"acked"`        // done, or known to be a duplicate
	Moved        int `json:"moved"`        // the work failed: acked after a copy was confirmed, for later or for the dead letters
	CutOff       int `json:"cutOff"`       // unsettled when their consumer died
	Repaired     int `json:"repaired"`     // dead letters mended and published again

	// Only with a broker that is killed.
	Unconfirmed int `json:"unconfirmed,omitempty"` // sent, and the broker died before it confirmed them: sent again
	Survived    int `json:"survived,omitempty"`    // ... of them, were there all the same, so they are there twice
}

// counter is one number of a Tally and its name in tables and sentences.
type counter struct {
	name     string
	of       func(Tally) int
	optional bool // left out while it is zero
}

// counters lists the numbers in the order of the closing table.
func counters() []counter {
	return []counter{
		{"published", func(t Tally) int { return t.Published }, false},
		{"confirmed", func(t Tally) int { return t.Confirmed }, false},
		{"returned as unroutable", func(t Tally) int { return t.Returned }, false},
		{"copies due in queues", func(t Tally) int { return t.Routed }, false},
		{"delivered", func(t Tally) int { return t.Delivered }, false},
		{"  for the first time", func(t Tally) int { return t.First }, false},
		{"  redelivered", func(t Tally) int { return t.Redelivered }, false},
		{"  retried after a delay", func(t Tally) int { return t.Retried }, false},
		{"handled", func(t Tally) int { return t.Handled }, false},
		{"deduplicated", func(t Tally) int { return t.Deduplicated }, false},
		{"dead-lettered", func(t Tally) int { return t.DeadLettered }, false},
		{"repaired", func(t Tally) int { return t.Repaired }, false},
		{"acked", func(t Tally) int { return t.Acked }, false},
		{"moved on by a copy", func(t Tally) int { return t.Moved }, false},
		{"cut off with a consumer", func(t Tally) int { return t.CutOff }, false},
		{"unconfirmed at a kill", func(t Tally) int { return t.Unconfirmed }, true},
		{"  there all the same", func(t Tally) int { return t.Survived }, true},
	}
}

func (t *Tally) add(u Tally) {
	t.Published += u.Published
	t.Confirmed += u.Confirmed
	t.Returned += u.Returned
	t.Routed += u.Routed
	t.Delivered += u.Delivered
	t.First += u.First
	t.Redelivered += u.Redelivered
	t.Retried += u.Retried
	t.DeadLettered += u.DeadLettered
	t.Handled += u.Handled
	t.Deduplicated += u.Deduplicated
	t.Acked += u.Acked
	t.Moved += u.Moved
	t.CutOff += u.CutOff
	t.Repaired += u.Repaired
	t.Unconfirmed += u.Unconfirmed
	t.Survived += u.Survived
}

// balance is an equation between counts that holds in every step and so in the
// whole run. The sides are counted independently of each other.
type balance struct {
	meaning     string
	left, right []counter
}

// balances lists what "the numbers add up" means.
func balances() []balance {
	published := counter{"published", func(t Tally) int { return t.Published }, false}
	confirmed := counter{"confirmed", func(t Tally) int { return t.Confirmed }, false}
	routed := counter{"copies due", func(t Tally) int { return t.Routed }, false}
	first := counter{"first deliveries", func(t Tally) int { return t.First }, false}
	delivered := counter{"delivered", func(t Tally) int { return t.Delivered }, false}
	redelivered := counter{"redelivered", func(t Tally) int { return t.Redelivered }, false}
	retried := counter{"retried", func(t Tally) int { return t.Retried }, false}
	dead := counter{"dead-lettered", func(t Tally) int { return t.DeadLettered }, false}
	handled := counter{"handled", func(t Tally) int { return t.Handled }, false}
	dropped := counter{"deduplicated", func(t Tally) int { return t.Deduplicated }, false}
	acked := counter{"acked", func(t Tally) int { return t.Acked }, false}
	moved := counter{"moved on", func(t Tally) int { return t.Moved }, false}
	cutOff := counter{"cut off", func(t Tally) int { return t.CutOff }, false}
	survived := counter{"there all the same", func(t Tally) int { return t.Survived }, true}
	return []balance{
		{"every publish is confirmed", []counter{confirmed}, []counter{published}},
		{"every copy arrives", []counter{first}, []counter{routed, survived}},
		{"every message comes to an end", []counter{handled, dropped, dead}, []counter{first}},
		{"every delivery is settled", []counter{acked, moved, cutOff}, []counter{delivered}},
		{"what a dead consumer held comes back", []counter{redelivered}, []counter{cutOff}},
		{"what fails comes again or is a dead letter", []counter{retried, dead}, []counter{moved}},
	}
}

func sum(side []counter, t Tally) int {
	n := 0
	for _, c := range side {
		n += c.of(t)
	}
	return n
}

func (b balance) holds(t Tally) bool { return sum(b.left, t) == sum(b.right, t) }

// render writes the equation with its numbers, "9 confirmed = 9 published", and
// if it does not hold, before it what it means.
func (b balance) render(t Tally) string {
	side := func(cs []counter) string {
		var parts []string
		for _, c := range cs {
			if !c.optional || c.of(t) != 0 {
				parts = append(parts, fmt.Sprintf("%d %s", c.of(t), c.name))
			}
		}
		return strings.Join(parts, " + ")
	}
	if !b.holds(t) {
		return fmt.Sprintf("it must be that %s: %s != %s", b.meaning, side(b.left), side(b.right))
	}
	return side(b.left) + " = " + side(b.right)
}
