package reliable

import (
	"context"

	amqp "github.com/rabbitmq/amqp091-go"
)

// loneBytes is the largest body that a publisher writes itself. It is copied to be
// written without waiting.
const loneBytes = 32 << 10

// A lone message has its lane to itself: the window is empty but for it. Its
// publisher writes it and waits for the confirm itself, which spares the way over
// the goroutines that write and collect. It does that only where nothing but the
// confirm can make it wait, so that its deadline holds.
//
// As soon as another message is written, the lone one is the collector's. It also is
// if its channel is lost, or its publisher gives it up; in short, whoever has it is
// the only one who has a message on the channel, or the collector.

// publishLone writes r, which has its place in the window, if it is alone there and
// nobody has to be waited for, and waits for what becomes of it, until ctx ends. If
// done is false nothing has happened.
func (l *lane) publishLone(ctx context.Context, r *Receipt) (err error, done bool) {
	if len(l.slots) != 1 || len(r.message.Body) > loneBytes {
		return nil, false
	}
	l.mu.Lock()
	s := l.current
	idle := s != nil && !l.closing && len(l.queue) == 0 && l.suspects == 0
	if idle {
		r.tries++
	}
	l.mu.Unlock()
	if !idle {
		return nil, false
	}
	confirm, written := s.writeAlone(r)
	if !written {
		l.mu.Lock()
		r.tries--
		l.mu.Unlock()
		return nil, false
	}
	if confirm != nil {
		if err, done = s.await(ctx, r, confirm); done {
			return err, true
		}
	}
	return l.await(ctx, r), true
}

// writeAlone writes r as the only message on the channel, unless that might take
// time. Without a confirm to wait for it is the collector's already.
func (s *laneChannel) writeAlone(r *Receipt) (confirm *amqp.DeferredConfirmation, written bool) {
	if s.conn.Blocked() || !s.writing.TryLock() {
		return nil, false
	}
	defer s.writing.Unlock()
	s.mu.Lock()
	idle := !s.complete && s.alone == nil && len(s.inflight) == 0 && s.unsettled.Load() == 0
	s.mu.Unlock()
	if !idle || !s.conn.TryCork() {
		return nil, false
	}
	confirm, err := s.ch.PublishWithDeferredConfirm(r.exchange, r.key, true, false, r.message)
	s.conn.TryUncork()
	if err != nil { // a part of it may have been written
		s.add([]*Receipt{r})
		return nil, true
	}
	r.confirm = confirm
	s.mu.Lock()
	s.alone = r
	s.mu.Unlock()
	return confirm, true
}

// await waits for the confirm of r and settles it. It gives up, with done false, if
// ctx ends or r is the collector's.
func (s *laneChannel) await(ctx context.Context, r *Receipt, confirm *amqp.DeferredConfirmation) (err error, done bool) {
	select {
	case <-confirm.Done():
		return s.settleAlone(r)
	case <-s.collected: // the channel is lost, or the lane ends
	case <-ctx.Done():
		s.mu.Lock()
		if s.alone == r {
			s.handOver()
		}
		s.mu.Unlock()
		s.tell()
	}
	return nil, false
}

// settleAlone settles r, whose confirm has come, unless that is the collector's:
// because it has r, or because the confirm only says that the channel is lost.
func (s *laneChannel) settleAlone(r *Receipt) (err error, done bool) {
	s.mu.Lock()
	if s.alone != r || !s.known(r) {
		s.mu.Unlock()
		return nil, false
	}
	err = s.judge(r)
	s.alone = nil
	s.mu.Unlock()
	s.lane.resolve(r, err)
	return err, true
}

// handOver gives the collector the lone message, if there is one. Called with s.mu
// held; tell has to follow.
func (s *laneChannel) handOver() {
	if s.alone == nil {
		return
	}
	s.unsettled.Add(1)
	s.inflight = append(s.inflight, s.alone)
	s.alone = nil
}
