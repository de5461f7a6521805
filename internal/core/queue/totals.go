package queue

// Totals count what has happened to a queue's messages since the machine was
// made. They only grow.
type Totals struct {
	Published      uint64 // taken in, by whatever way
	Transient      uint64 // of these, those that a restart loses
	Delivered      uint64 // handed to consumers that acknowledge
	DeliveredNoAck uint64 // handed to consumers that do not
	Got            uint64 // polled, to be acknowledged
	GotNoAck       uint64 // polled, and done with that
	GotEmpty       uint64 // polls that found nothing
	Redelivered    uint64 // of all handed out, those that had been out before
	Acked          uint64
}

// Totals says what has happened so far.
func (m *Machine) Totals() Totals { return m.totals }

// Active is the consumer that a queue with a single active consumer delivers to;
// nil if there is none, or if the queue has no such rule.
func (m *Machine) Active() *Consumer {
	if !m.consumers.single || len(m.consumers.all) == 0 {
		return nil
	}
	return m.consumers.all[0]
}

func (t *Totals) handedOut(toConsumer, noAck, again bool) {
	switch {
	case toConsumer && noAck:
		t.DeliveredNoAck++
	case toConsumer:
		t.Delivered++
	case noAck:
		t.GotNoAck++
	default:
		t.Got++
	}
	if again {
		t.Redelivered++
	}
}
