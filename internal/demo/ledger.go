package demo

import (
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
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

// arrived counts a delivery as what the broker says it is, never as what the step
// expects: the redelivered flag, or the newest entry of x-death.
func (l *ledger) arrived(d amqp.Delivery) {
	l.count(func(t *Tally) {
		t.Delivered++
		if d.Redelivered {
			t.Redelivered++
			return
		}
		history := deaths(d.Headers)
		switch {
		case len(history) == 0:
			t.First++
		case history[0].Reason == "expired":
			t.Retried++
		default:
			t.DeadLettered++
		}
	})
}
