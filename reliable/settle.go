package reliable

import (
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/internal/link"
)

// settler sends the acknowledgements of one channel. Handlers finish in any order
// and from many goroutines; what has gathered when the sender comes round goes out
// as one basic.ack with multiple for everything up to the lowest open delivery,
// and one by one above it.
//
// What must hold: a multiple acknowledgement never covers a delivery that is open,
// or that was rejected and whose reject is not written yet. So a reject is written
// first and counted as settled second.
type settler struct {
	conn *link.Conn
	ch   *amqp.Channel
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	base    uint64   // the lowest tag that is not settled
	settled []span   // above base, disjoint, ascending, not adjacent
	acks    []uint64 // to be sent

	sending sync.Mutex // held by flush, so that what is sent stays in order
	batch   []uint64
}

// span is the tags from first to last.
type span struct{ first, last uint64 }

func newSettler(conn *link.Conn, ch *amqp.Channel) *settler {
	return &settler{conn: conn, ch: ch, wake: make(chan struct{}, 1), base: 1}
}

// ack has the delivery acknowledged soon.
func (s *settler) ack(tag uint64) {
	s.mu.Lock()
	s.count(tag)
	s.acks = append(s.acks, tag)
	first := len(s.acks) == 1
	s.mu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// reject refuses the delivery: with requeue it goes back into its queue, without
// it becomes a dead letter. An error means that the channel is gone, and the
// delivery is back in its queue anyway.
func (s *settler) reject(tag uint64, requeue bool) {
	if s.ch.Nack(tag, false, requeue) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(tag)
}

// count marks a tag as settled.
func (s *settler) count(tag uint64) {
	if tag == s.base {
		s.base++
		if len(s.settled) > 0 && s.settled[0].first == s.base {
			s.base = s.settled[0].last + 1
			s.settled = slices.Delete(s.settled, 0, 1)
		}
		return
	}
	at := len(s.settled) // tags come nearly in order: look from the end
	for at > 0 && s.settled[at-1].first > tag {
		at--
	}
	touchesBefore := at > 0 && s.settled[at-1].last+1 == tag
	touchesAfter := at < len(s.settled) && s.settled[at].first == tag+1
	switch {
	case touchesBefore && touchesAfter:
		s.settled[at-1].last = s.settled[at].last
		s.settled = slices.Delete(s.settled, at, at+1)
	case touchesBefore:
		s.settled[at-1].last = tag
	case touchesAfter:
		s.settled[at].first = tag
	default:
		s.settled = slices.Insert(s.settled, at, span{tag, tag})
	}
}

// run sends until over is closed.
func (s *settler) run(over <-chan struct{}) {
	for {
		select {
		case <-s.wake:
			s.flush()
		case <-over:
			return
		}
	}
}

// flush sends what is to be sent now. Errors mean that the channel is gone, with
// all its deliveries.
func (s *settler) flush() {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.mu.Lock()
	s.batch, s.acks = s.acks, s.batch[:0]
	base := s.base
	s.mu.Unlock()
	if len(s.batch) == 0 {
		return
	}
	s.conn.Cork()
	defer s.conn.Uncork()
	// The tag of a multiple acknowledgement has to be an open one itself.
	upTo := uint64(0)
	for _, tag := range s.batch {
		if tag < base {
			upTo = max(upTo, tag)
		}
	}
	if upTo > 0 {
		_ = s.ch.Ack(upTo, true)
	}
	for _, tag := range s.batch {
		if tag >= base {
			_ = s.ch.Ack(tag, false)
		}
	}
}
