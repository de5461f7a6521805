package reliable

import (
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// collect settles what was written, in order as long as the confirms come in
// order, until nothing more can come. What is left then is lost: in s.lost.
//
// The AMQP client puts a return into s.returns before it completes the confirm
// that follows, so a confirmed message is unroutable if and only if its return is
// there by then.
func (s *laneChannel) collect() {
	defer close(s.collected)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for s.take() {
		for len(s.waiting) > 0 {
			r := s.waiting[0]
			if !s.confirmed(r, timer) {
				s.lose()
				break
			}
			s.waiting[0] = nil
			s.waiting = s.waiting[1:]
			s.settle(r)
		}
	}
}

// lose ends the waiting: what has no confirm will not get one.
func (s *laneChannel) lose() {
	waiting := s.waiting
	s.waiting = nil
	for _, r := range waiting {
		if r.confirm != nil && r.confirm.Acked() {
			s.settle(r)
		} else {
			s.lost = append(s.lost, r)
		}
	}
}

// take waits for messages that were written. It returns false when there are none
// and there will be none.
func (s *laneChannel) take() bool {
	for {
		s.mu.Lock()
		s.waiting, s.inflight = s.inflight, s.waiting[:0]
		complete := s.complete
		s.mu.Unlock()
		switch {
		case len(s.waiting) > 0:
			return true
		case complete:
			return false
		}
		<-s.arrived
	}
}

func (s *laneChannel) stray(r amqp.Return, ok bool) {
	if !ok {
		s.returns = nil // the channel is closed
		return
	}
	s.strays = append(s.strays, r)
}

// confirmed waits for the broker's word about r, and meanwhile settles those
// behind it that have theirs. It returns false if the word cannot come any more.
func (s *laneChannel) confirmed(r *Receipt, timer *time.Timer) bool {
	if r.confirm == nil {
		return false // it broke off while being written
	}
	select {
	case <-r.confirm.Done():
		return s.known(r)
	default:
	}
	timer.Reset(sweepEvery)
	for {
		select {
		case <-r.confirm.Done():
			return s.known(r)
		case ret, ok := <-s.returns:
			s.stray(ret, ok)
		case <-timer.C:
			s.sweep()
			timer.Reset(sweepEvery)
		case <-s.lane.life.Done():
			return false
		}
	}
}

// known tells a confirm or nack from the end of the channel, at which the AMQP
// client completes everything that is open as if it were nacked.
func (s *laneChannel) known(r *Receipt) bool { return r.confirm.Acked() || !s.ch.IsClosed() }

// sweep settles messages that are confirmed although the first one is not. The
// first one is left to who waits for it.
func (s *laneChannel) sweep() {
	s.mu.Lock()
	s.waiting = append(s.waiting, s.inflight...)
	s.inflight = s.inflight[:0]
	s.mu.Unlock()
	behind := slices.DeleteFunc(s.waiting[1:], func(r *Receipt) bool {
		if r.confirm == nil {
			return false
		}
		select {
		case <-r.confirm.Done():
		default:
			return false
		}
		if !s.known(r) {
			return false
		}
		s.settle(r)
		return true
	})
	s.waiting = s.waiting[:1+len(behind)]
}

// judge is what the broker said of r, whose confirm has come.
func (s *laneChannel) judge(r *Receipt) error {
	for range len(s.returns) {
		ret, ok := <-s.returns
		s.stray(ret, ok)
	}
	if len(s.strays) > 0 {
		if err := s.returned(r); err != nil {
			return err
		}
	}
	if !r.confirm.Acked() {
		return r.failure(ErrNacked, true, nil)
	}
	return nil
}

// settle tells the waiting publisher what the broker said.
func (s *laneChannel) settle(r *Receipt) {
	s.lane.resolve(r, s.judge(r))
	if s.unsettled.Add(-1) == 0 {
		select {
		case s.settled <- struct{}{}:
		default:
		}
	}
}

// returned looks for the return of r. Messages come back in the order in which
// they were sent, so the first that fits is r's.
func (s *laneChannel) returned(r *Receipt) error {
	at := slices.IndexFunc(s.strays, func(ret amqp.Return) bool {
		return ret.MessageId == r.message.MessageId && ret.Exchange == r.exchange && ret.RoutingKey == r.key
	})
	if at < 0 {
		return nil
	}
	ret := s.strays[at]
	s.strays = slices.Delete(s.strays, at, at+1)
	return r.failure(ErrUnroutable, true, &amqp.Error{Code: int(ret.ReplyCode), Reason: ret.ReplyText, Server: true})
}
