package demo

import (
	"fmt"
	"strings"
	"time"
)

// Report is what a run counted.
type Report struct {
	Broker     string        `json:"broker"`
	Prefix     string        `json:"prefix"` // every name of the run began with it
	Elapsed    time.Duration `json:"-"`
	Steps      []StepResult  `json:"steps"`
	Totals     Tally         `json:"totals"`
	Mismatches []Mismatch    `json:"mismatches,omitempty"`
	// QueuesDeleted and ExchangesDeleted were declared, and are gone.
	QueuesDeleted    int `json:"queuesDeleted"`
	ExchangesDeleted int `json:"exchangesDeleted"`
}

// StepResult is what one step counted.
type StepResult struct {
	Number  int           `json:"step"` // from 1
	Name    string        `json:"name"`
	OK      bool          `json:"ok"`
	Elapsed time.Duration `json:"-"`
	Tally   Tally         `json:"counts"`
}

// Mismatch is one thing that was not as it must be.
type Mismatch struct {
	Step int    `json:"step"`
	Name string `json:"name"`
	Text string `json:"text"` // with the numbers
}

func (r *Report) addTotals() {
	r.Totals = Tally{}
	for _, s := range r.Steps {
		r.Totals.add(s.Tally)
	}
}

// MismatchError says that the run came to its end and the numbers do not add up.
type MismatchError struct {
	Mismatches []Mismatch // at least one
}

// Error names every mismatch in one line.
func (e *MismatchError) Error() string {
	parts := make([]string, len(e.Mismatches))
	for i, m := range e.Mismatches {
		parts[i] = fmt.Sprintf("step %d (%s): %s", m.Step, m.Name, m.Text)
	}
	return "the numbers do not add up: " + strings.Join(parts, "; ")
}
