package cli

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// window keeps track of the messages that are published but not yet confirmed,
// and never lets there be more than its size.
//
// One goroutine (watch) takes confirms and returns in the order in which the
// broker sent them: both channels are unbuffered and fed by the one goroutine
// that reads the connection, so a return is always seen before the confirm of
// its message. It must never block, because the client library drops what is
// not taken within seconds.
type window struct {
	slots  chan struct{} // one element for each message in flight
	failed chan struct{} // has an element when there may be failures to take
	done   chan struct{} // closed when watch has ended: nothing more will be confirmed

	mu        sync.Mutex
	next      uint64               // sequence number of the next publish
	open      map[uint64]*inFlight // by sequence number
	confirmed int
	failures  []failure
}

type inFlight struct {
	outgoing
	returned string // the broker's text, "" if it did not come back
}

// failure is a message that was not taken in, with the reason.
type failure struct {
	line   int
	reason string
}

func newWindow(ch *amqp.Channel, size int) (*window, error) {
	w := &window{
		slots: make(chan struct{}, size), failed: make(chan struct{}, 1), done: make(chan struct{}),
		next: 1, open: map[uint64]*inFlight{},
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation))
	returns := ch.NotifyReturn(make(chan amqp.Return))
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	go w.watch(confirms, returns)
	return w, nil
}

// add waits for room, then counts the message as in flight. It must be called
// right before publishing, by one goroutine. False: the channel or ctx ended.
func (w *window) add(ctx context.Context, o outgoing) bool {
	select {
	case w.slots <- struct{}{}:
	case <-w.done:
		return false
	case <-ctx.Done():
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[w.next] = &inFlight{outgoing: o}
	w.next++
	return true
}

// wait returns when every message is confirmed or the channel has ended.
func (w *window) wait() {
	for range cap(w.slots) { // when all slots are ours no message is in flight
		select {
		case w.slots <- struct{}{}:
		case <-w.done:
			return
		}
	}
}

func (w *window) watch(confirms <-chan amqp.Confirmation, returns <-chan amqp.Return) {
	defer close(w.done)
	for confirms != nil {
		select {
		case c, ok := <-confirms:
			if !ok {
				return
			}
			w.settle(c)
		case r, ok := <-returns:
			if !ok {
				returns = nil
				continue
			}
			w.markReturned(r)
		}
	}
}

func (w *window) settle(c amqp.Confirmation) {
	w.mu.Lock()
	m, ok := w.open[c.DeliveryTag]
	delete(w.open, c.DeliveryTag)
	switch {
	case !ok:
	case m.returned != "":
		w.fail(m.line, m.returned)
	case !c.Ack:
		w.fail(m.line, "the broker refused it (basic.nack): a queue is full or failed")
	default:
		w.confirmed++
	}
	w.mu.Unlock()
	if ok {
		<-w.slots
	}
}

// fail records a failure; mu is held.
func (w *window) fail(line int, reason string) {
	w.failures = append(w.failures, failure{line, reason})
	select {
	case w.failed <- struct{}{}:
	default: // somebody has been told already
	}
}

// markReturned finds the message that came back: the oldest in flight that looks
// the same. Messages that look the same are as good as each other here.
func (w *window) markReturned(r amqp.Return) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found uint64
	for seq, m := range w.open {
		same := m.returned == "" && m.exchange == r.Exchange && m.key == r.RoutingKey && bytes.Equal(m.msg.Body, r.Body)
		if same && (found == 0 || seq < found) {
			found = seq
		}
	}
	if found != 0 {
		w.open[found].returned = unroutable(r)
	}
}

func unroutable(r amqp.Return) string {
	if r.Exchange == "" {
		return fmt.Sprintf("there is no queue '%s' (%d %s)", r.RoutingKey, r.ReplyCode, r.ReplyText)
	}
	return fmt.Sprintf("no queue is bound to exchange '%s' for routing key '%s' (%d %s)", r.Exchange, r.RoutingKey, r.ReplyCode, r.ReplyText)
}

// takeFailures returns the failures since the last call.
func (w *window) takeFailures() []failure {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.failures
	w.failures = nil
	return f
}

// counts returns how many messages are confirmed and how many still open.
func (w *window) counts() (confirmed, open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.confirmed, len(w.open)
}
