package reliable

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/internal/link"
)

const (
	// returnsBuffered bounds the returned messages that wait to be looked at. The
	// AMQP client stops reading while it is full. The collector takes them while it
	// waits for a confirm; otherwise no more messages are on their way than the
	// writer hands it at a time, or a lone one.
	returnsBuffered = 2 * writeChunk
	// sweepEvery bounds how long a confirm waits behind one that does not come:
	// the broker may confirm out of order, if one of several queues is stuck.
	sweepEvery = 5 * time.Millisecond
	// writeChunk is how many messages the writer hands to the collector at a time.
	writeChunk = 64
	// channelGoodbye bounds the closing of a channel.
	channelGoodbye = 200 * time.Millisecond
)

// laneChannel is a lane's channel on one connection, from its opening until it is
// lost. The lane's goroutine writes, another one collects.
type laneChannel struct {
	lane    *lane
	conn    *link.Conn
	ch      *amqp.Channel
	closes  chan *amqp.Error
	returns chan amqp.Return
	gone    chan struct{} // closed when the channel is lost
	err     *amqp.Error   // why, set before gone is closed
	single  bool          // the message that was under way was alone

	writing sync.Mutex // held while messages are written

	mu       sync.Mutex
	inflight []*Receipt // written and not yet taken by the collector, in order
	alone    *Receipt   // the lone message, unless the collector has been given it
	complete bool       // no more will be added
	arrived  chan struct{}

	unsettled atomic.Int64  // added and not settled
	settled   chan struct{} // capacity 1: the collector has settled something
	collected chan struct{} // the collector has ended
	// Only the collector uses these, and takeBack after it; strays also who has the
	// lone message, while the collector has none:
	waiting []*Receipt // taken and not settled, in order
	strays  []amqp.Return
	lost    []*Receipt // unconfirmed when the channel was lost, in order
}

// open opens a channel in confirm mode on conn, after the topology is there.
func (l *lane) open(conn *link.Conn) (*laneChannel, error) {
	s := &laneChannel{lane: l, conn: conn, gone: make(chan struct{}), arrived: make(chan struct{}, 1),
		collected: make(chan struct{}), settled: make(chan struct{}, 1)}
	err := await(l.life, func() (err error) {
		if err = l.client.renew(l.life, l.client.publish, conn); err != nil {
			return err
		}
		if s.ch, err = conn.Channel(); err != nil {
			return err
		}
		return s.ch.Confirm(false)
	})
	if err != nil {
		return nil, err
	}
	s.closes = s.ch.NotifyClose(make(chan *amqp.Error, 1))
	s.returns = s.ch.NotifyReturn(make(chan amqp.Return, returnsBuffered))
	go func() {
		s.err = <-s.closes
		close(s.gone)
	}()
	go s.collect()
	return s, nil
}

// write writes what is in the lane's queue until the channel is lost or the lane
// ends, and returns when the collector has looked at everything. It reports
// whether it has written anything.
func (s *laneChannel) write() (wrote bool) {
	var batch []*Receipt
	for s.ready() {
		if s.single = s.lane.take(&batch); len(batch) == 0 {
			select {
			case <-s.lane.wake:
			case <-s.gone:
			case <-s.lane.life.Done():
			}
			continue
		}
		wrote = true
		rest, err := s.writeBatch(batch)
		s.lane.putBack(rest)
		if err != nil {
			select {
			case <-s.gone:
			case <-s.lane.life.Done():
			}
		}
		for s.single && s.unsettled.Load() > 0 && !s.over() {
			select {
			case <-s.settled:
			case <-s.gone:
			case <-s.lane.life.Done():
			}
		}
	}
	s.writing.Lock()
	s.mu.Lock()
	s.complete = true
	s.handOver()
	s.mu.Unlock()
	s.writing.Unlock()
	s.tell()
	<-s.collected
	if s.lane.life.Err() != nil { // a channel may take as long to close as the broker to read
		ctx, cancel := context.WithTimeout(context.Background(), channelGoodbye)
		defer cancel()
		_ = await(ctx, s.ch.Close) // it ends with its connection at the latest
	}
	return wrote
}

func (s *laneChannel) over() bool {
	select {
	case <-s.gone:
		return true
	case <-s.lane.life.Done():
		return true
	default:
		return false
	}
}

// ready waits while the broker blocks publishers. It returns false when the
// channel is lost or the lane ends.
func (s *laneChannel) ready() bool {
	for !s.over() {
		_, changed := s.lane.client.publish.Snapshot()
		if !s.conn.Blocked() {
			return true
		}
		select {
		case <-changed:
		case <-s.gone:
		case <-s.lane.life.Done():
		}
	}
	return false
}

// take moves the queue to batch: all of it, or one message if that has to be
// alone.
func (l *lane) take(batch *[]*Receipt) (single bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspects > 0 && len(l.queue) > 0 {
		*batch = append((*batch)[:0], l.queue[0])
		l.queue = slices.Delete(l.queue, 0, 1)
		l.suspects--
		(*batch)[0].tries++
		return true
	}
	*batch, l.queue = l.queue, (*batch)[:0]
	for _, r := range *batch {
		r.tries++
	}
	return false
}

// putBack returns what take gave and was not written.
func (l *lane) putBack(rest []*Receipt) {
	if len(rest) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rest {
		r.tries--
	}
	l.queue = append(slices.Clone(rest), l.queue...)
}

// writeBatch writes messages with as few writes to the socket as possible. It
// returns those that it did not begin to write, because the broker has begun to
// block, or because the channel is lost: then with an error.
func (s *laneChannel) writeBatch(batch []*Receipt) (rest []*Receipt, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.conn.Cork()
	defer s.conn.Uncork()
	for len(batch) > 0 {
		chunk := batch[:min(len(batch), writeChunk)]
		for i, r := range chunk {
			if s.conn.Blocked() {
				s.add(chunk[:i])
				return batch[i:], nil
			}
			if r.confirm, err = s.ch.PublishWithDeferredConfirm(r.exchange, r.key, true, false, r.message); err != nil {
				s.add(chunk[:i+1]) // a part of it may have been written
				return batch[i+1:], err
			}
		}
		s.add(chunk)
		batch = batch[len(chunk):]
	}
	return nil, nil
}

// add hands messages that were written to the collector.
func (s *laneChannel) add(written []*Receipt) {
	if len(written) == 0 {
		return
	}
	s.unsettled.Add(int64(len(written)))
	s.mu.Lock()
	first := len(s.inflight) == 0
	s.handOver()
	s.inflight = append(s.inflight, written...)
	s.mu.Unlock()
	if first {
		s.tell()
	}
}

func (s *laneChannel) tell() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}
