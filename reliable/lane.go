package reliable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// lane is one way into the broker: a channel in confirm mode that is opened again
// whenever it is lost, with a window of messages that are on their way.
//
// One goroutine writes (run), one per channel collects confirms (collect). A
// message enters by submit or publish, and leaves when its receipt is resolved. Who
// waits for a receipt never waits for the connection. A message that has the lane
// to itself takes a way of its own (lone.go).
type lane struct {
	client *Client
	slots  chan struct{} // one element per message in the window
	wake   chan struct{} // capacity 1: there may be something to write
	life   context.Context
	kill   context.CancelFunc
	ended  chan struct{} // run has returned

	closeOnce sync.Once
	closeErr  error

	mu       sync.Mutex
	queue    []*Receipt   // to be written, in order
	suspects int          // that many at the front of queue are written one at a time
	closing  bool         // no more messages are accepted
	fault    error        // why there is no channel, nil while there is one
	current  *laneChannel // nil while there is none
}

func newLane(c *Client, window int) *lane {
	l := &lane{client: c, slots: make(chan struct{}, window), wake: make(chan struct{}, 1), ended: make(chan struct{})}
	l.life, l.kill = context.WithCancel(context.Background())
	return l
}

// submit puts r into the window and has it written. It waits for a place until ctx
// ends.
func (l *lane) submit(ctx context.Context, r *Receipt) error {
	err := l.enter(ctx, r)
	if err == nil {
		err = l.enqueue(r)
	}
	return observe(r, err)
}

// observe tells the observer of a message that does not get as far as resolve.
func observe(r *Receipt, err error) error {
	if err != nil && r.observed != nil {
		r.observed(err)
	}
	return err
}

// enter waits for a place in the window until ctx ends.
func (l *lane) enter(ctx context.Context, r *Receipt) error {
	if err := ctx.Err(); err != nil {
		return r.failure(l.unsent(), false, err)
	}
	select {
	case l.slots <- struct{}{}:
	default:
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return r.failure(l.unsent(), false, context.Cause(ctx))
		case <-l.life.Done():
			return r.failure(ErrClosed, false, nil)
		}
	}
	return nil
}

// enqueue has r written, which has its place in the window.
func (l *lane) enqueue(r *Receipt) error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		<-l.slots
		return r.failure(ErrClosed, false, nil)
	}
	l.queue = append(l.queue, r)
	first := len(l.queue) == 1
	l.mu.Unlock()
	if first { // else the writer has been woken already
		l.signal()
	}
	return nil
}

// publish submits r and waits for what becomes of it, until ctx ends.
func (l *lane) publish(ctx context.Context, r *Receipt) error {
	if err := l.enter(ctx, r); err != nil {
		return observe(r, err)
	}
	if err, done := l.publishLone(ctx, r); done {
		return err
	}
	if err := l.enqueue(r); err != nil {
		return observe(r, err)
	}
	return l.await(ctx, r)
}

// await waits for what becomes of r, until ctx ends.
func (l *lane) await(ctx context.Context, r *Receipt) error {
	select {
	case <-r.Done():
		return r.err
	case <-ctx.Done():
		return l.abandon(r, context.Cause(ctx))
	}
}

// abandon gives up r. If it is not written yet it never will be.
func (l *lane) abandon(r *Receipt, cause error) error {
	l.mu.Lock()
	at := slices.Index(l.queue, r)
	sent := r.tries > 0
	if at >= 0 {
		l.queue = slices.Delete(l.queue, at, at+1)
		l.suspects = max(0, l.suspects-1)
	}
	l.mu.Unlock()
	if at >= 0 {
		err := r.failure(l.unsent(), sent, cause)
		if sent { // it waited to be sent again
			err = r.failure(ErrUnconfirmed, true, cause)
		}
		l.resolve(r, err)
		return err
	}
	r.abandoned.Store(true)
	if settled, err := r.outcome(); settled { // meanwhile
		return err
	}
	return r.failure(ErrUnconfirmed, true, cause)
}

// unsent is the kind of error for what was not sent in time.
func (l *lane) unsent() error {
	if state, _ := l.client.publish.Snapshot(); state.Blocked {
		return ErrBlocked
	}
	return ErrUnconfirmed
}

// resolve ends r and frees its place.
func (l *lane) resolve(r *Receipt, err error) {
	r.resolve(err)
	<-l.slots
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes until close. What is left then fails.
func (l *lane) run() {
	defer close(l.ended)
	epoch := uint64(0)
	for attempt := 0; l.life.Err() == nil; attempt++ {
		conn, err := l.client.publish.Conn(l.life, epoch)
		if err != nil {
			break
		}
		if conn.Over() {
			epoch = conn.Epoch
			continue
		}
		s, err := l.open(conn)
		if err != nil {
			l.setFault(err)
			select {
			case <-conn.Done():
				epoch = conn.Epoch
			case <-l.life.Done():
			case <-time.After(min(time.Second, 10*time.Millisecond<<min(attempt, 10))):
			}
			continue
		}
		l.setFault(nil)
		l.setCurrent(s)
		wrote := s.write()
		l.setCurrent(nil)
		if wrote {
			attempt = 0
		}
		l.takeBack(s)
	}
	l.mu.Lock()
	queue := l.queue
	l.queue, l.closing = nil, true
	l.mu.Unlock()
	for _, r := range queue {
		kind := ErrClosed
		if r.tries > 0 {
			kind = ErrUnconfirmed
		}
		l.resolve(r, r.failure(kind, r.tries > 0, nil))
	}
}

func (l *lane) setFault(err error) {
	if err != nil && l.life.Err() == nil {
		l.client.config.Logger.Warn("cannot open a channel for publishing", "error", err)
	}
	l.mu.Lock()
	l.fault = err
	l.mu.Unlock()
}

func (l *lane) setCurrent(s *laneChannel) {
	l.mu.Lock()
	l.current = s
	l.mu.Unlock()
}

// takeBack puts what a lost channel left unconfirmed in front of the queue, to be
// sent again. If the server closed the channel because of a message, nobody knows
// which: then they are sent one by one, and the one that does it again fails.
func (l *lane) takeBack(s *laneChannel) {
	var reason *amqp.Error
	if l.life.Err() == nil {
		<-s.gone
		reason = s.err
	}
	refused := reason != nil && serverRefused(reason)
	lost := s.lost
	if refused && s.single && len(lost) == 1 {
		culprit := lost[0]
		lost = nil
		kind := ErrNacked
		if reason.Code == amqp.NotFound {
			kind = ErrUnroutable
		}
		l.resolve(culprit, culprit.failure(kind, true, error(reason)))
	}
	again := lost[:0]
	for _, r := range lost {
		if r.abandoned.Load() { // its publisher was told that it is unconfirmed
			l.resolve(r, r.failure(ErrUnconfirmed, true, nil))
			continue
		}
		again = append(again, r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(again, l.queue...)
	if refused && !s.single {
		l.suspects = len(again)
		l.client.config.Logger.Warn("the server closed a publishing channel", "error", reason, "unconfirmed", len(again))
	} else if !refused && len(again) > 0 && l.suspects > 0 {
		l.suspects += len(again)
	}
}

// close waits until everything is settled, or ctx ends, and ends the lane. A second
// call returns what the first one did.
func (l *lane) close(ctx context.Context) error {
	l.closeOnce.Do(func() { l.closeErr = l.end(ctx) })
	return l.closeErr
}

func (l *lane) end(ctx context.Context) error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	var err error
	for range cap(l.slots) { // the window is ours when nothing is on its way
		select {
		case l.slots <- struct{}{}:
			continue
		case <-ctx.Done():
			err = fmt.Errorf("reliable: publishes were left unconfirmed: %w", context.Cause(ctx))
		case <-l.ended:
			err = errors.New("reliable: publishes were left unconfirmed")
		}
		break
	}
	if err != nil { // make room for those that are resolved now
		go func() {
			for range cap(l.slots) {
				select {
				case l.slots <- struct{}{}:
				case <-l.ended:
					return
				}
			}
		}()
	}
	l.kill()
	<-l.ended
	return err
}
