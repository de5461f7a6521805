package demo

import (
	"sync"

	"github.com/warrenmq/warren/reliable"
)

// ledger counts what happens in one step, from all its goroutines.
type ledger struct {
	mu    sync.Mutex
	tally Tally
}

func (l *ledger) count(change func(*Tally)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.tally)
}

func (l *ledger) snapshot() Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally
}

// arrived counts a delivery as what stands on it, never as what the step expects:
// the broker's redelivered flag, or the attempt that a retry has written.
func (l *ledger) arrived(d *reliable.Delivery) {
	l.count(func(t *Tally) {
		t.Delivered++
		switch {
		case d.Redelivered:
			t.Redelivered++
		case d.Attempt > 1:
			t.Retried++
		default:
			t.First++
		}
	})
}

// settled counts what has become of a delivery.
func (l *ledger) settled(d *reliable.Delivery, outcome reliable.Outcome) {
	switch outcome {
	case reliable.OutcomeDone:
		l.count(func(t *Tally) { t.Acked++ })
	case reliable.OutcomeDuplicate: // no handler has seen it
		l.arrived(d)
		l.count(func(t *Tally) { t.Acked++; t.Deduplicated++ })
	case reliable.OutcomeRetry, reliable.OutcomeDeadLetter:
		l.count(func(t *Tally) { t.Moved++ })
	case reliable.OutcomeUnsettled:
		l.count(func(t *Tally) { t.CutOff++ })
	}
}
