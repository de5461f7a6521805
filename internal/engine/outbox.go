package engine

import (
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

const (
	// outputBudgetBytes is how much may be gathered for one connection before
	// its consumers get nothing more; the rest waits in the queues. Replies,
	// confirms and returns are not counted against it.
	outputBudgetBytes = 256 << 10
	// OutputHardCapBytes is where a connection's reader stops reading until its
	// own output has drained: a client that asks and never listens must not
	// fill our memory.
	OutputHardCapBytes = 4 << 20
	// deliverOverheadBytes is what a delivery is reckoned to need besides the
	// body when budget is reserved for it; the true size corrects it.
	deliverOverheadBytes = 128
	// gatherBytes is from when on it is worth it for a writer to wait for more, which it
	// does by letting others run gatherYields times.
	gatherBytes  = 100
	gatherYields = 2
	// keptBufferBytes bounds the buffers that an outbox keeps.
	keptBufferBytes = 2 * outputBudgetBytes
	// closedBytes is what a closed outbox counts as held: no consumer ever finds
	// room there.
	closedBytes = 1 << 62
)

// Outbox gathers what a connection has to send. Its lock also guards the
// delivery tags, unacknowledged lists and consumer maps of the connection's
// channels.
type Outbox struct {
	mu       sync.Mutex
	arrived  sync.Cond // there is something to write, or closed
	drained  sync.Cond // a write has finished, or closed
	buf      []byte
	spare    []byte
	closed   bool
	waiting  bool // the writer waits on arrived
	reading  bool // the reader will look before it blocks: no need to wake the writer
	pushing  bool // the reader is writing, see Push
	refill   bool // the writer has nothing to write but room to tell of
	stalled  []*Consumer
	bodies   []queuedBody // that belong into buf, in order
	writing  int
	held     atomic.Int64 // bytes reserved, gathered or being written
	finished bool         // close once everything gathered has been written
	// mark is the position in the log that has to survive this process before what
	// has gathered may be sent: deliveries of queues with a delivery limit. A message
	// that kills its consumer and this process with it has to have been counted.
	mark        seglog.LSN
	waitWritten func(seglog.LSN) error
}

func newOutbox() *Outbox {
	o := &Outbox{}
	o.arrived.L = &o.mu
	o.drained.L = &o.mu
	return o
}

// queuedBody is a body that comes at an offset of the outbox's buffer.
type queuedBody struct {
	at   int
	body *Body
}

// Next waits for output and returns all that has gathered, up to a body that is
// streamed from its file: that one comes after the bytes. ok is false once the
// outbox is closed, or finished and empty. The caller writes both and then calls
// Done.
func (o *Outbox) Next() (b []byte, body *Body, ok bool) {
	b, body, mark, ok := o.next()
	if mark > 0 {
		// A log that has failed closes the connection; until then this is no reason
		// to keep anything back.
		_ = o.waitWritten(mark)
	}
	return b, body, ok
}

func (o *Outbox) next() (b []byte, body *Body, mark seglog.LSN, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for (len(o.buf) == 0 && !o.refill && !o.finished || o.pushing) && !o.closed {
		o.waiting = true
		o.arrived.Wait()
		o.gather()
	}
	o.waiting = false
	if o.closed || len(o.buf) == 0 && !o.refill {
		return nil, nil, 0, false
	}
	o.refill = false
	mark, o.mark = o.mark, 0
	if len(o.bodies) > 0 {
		b, body = o.cut()
	} else {
		b = o.buf
		o.buf, o.spare = o.spare[:0], nil
	}
	o.writing = len(b)
	return b, body, mark, true
}

// gather lets others run once the writer is awake, if more is to be sent than a few
// confirms: whoever wakes it has mostly handed out one message, and readers that are about to
// hand out the next ones come behind it. What they have goes in the same write. The lock is
// given up meanwhile.
func (o *Outbox) gather() {
	for range gatherYields {
		if len(o.buf) < gatherBytes || o.pushing || o.closed {
			return
		}
		o.waiting = false
		o.mu.Unlock()
		runtime.Gosched()
		o.mu.Lock()
	}
}

// cut takes what comes up to the first body, and that one, out of the outbox.
func (o *Outbox) cut() ([]byte, *Body) {
	first := o.bodies[0]
	o.bodies = slices.Delete(o.bodies, 0, 1)
	for i := range o.bodies {
		o.bodies[i].at -= first.at
	}
	all := o.buf
	o.buf, o.spare = append(o.spare[:0], all[first.at:]...), nil
	return all[:first.at], first.body
}

// stream puts a body behind what has gathered so far: the frames of its content
// header. It takes a reference of its own. Called with the lock held.
func (o *Outbox) stream(blob *store.Blob, bodyBytes uint64, to message.Target, logger *slog.Logger) (heldBytes int64) {
	b := &Body{blob.Retain(), bodyBytes, to, logger}
	o.bodies = append(o.bodies, queuedBody{len(o.buf), b})
	return b.heldBytes()
}

// Done tells that what the last Next gave is written. It reports whether
// consumers wait for the room (the caller then calls Conn.Refill).
func (o *Outbox) Done(b []byte, body *Body) (refill bool) {
	o.held.Add(-int64(len(b)))
	if body != nil {
		o.held.Add(-body.heldBytes())
		body.Release()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = 0
	if cap(b) <= keptBufferBytes {
		o.spare = b[:0]
	}
	o.drained.Broadcast()
	return len(o.stalled) > 0
}

// Send appends a method frame.
func (o *Outbox) Send(channel uint16, m wire.Method) {
	o.mu.Lock()
	o.sendLocked(channel, m)
	o.mu.Unlock()
}

func (o *Outbox) sendLocked(channel uint16, m wire.Method) {
	if o.closed {
		return
	}
	n := len(o.buf)
	o.buf = wire.AppendMethodFrame(o.buf, channel, m)
	o.held.Add(int64(len(o.buf) - n))
	o.wake()
}

// SendRaw appends bytes that are whole frames.
func (o *Outbox) SendRaw(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.buf = append(o.buf, b...)
	o.held.Add(int64(len(b)))
	o.wake()
}

// wake tells the writer; called with the lock held.
func (o *Outbox) wake() {
	if o.waiting && !o.reading {
		o.waiting = false
		o.arrived.Signal()
	}
}

// WaitRoom blocks the connection's reader while too much waits to be written.
func (o *Outbox) WaitRoom() {
	if o.held.Load() < OutputHardCapBytes {
		return
	}
	o.mu.Lock()
	o.letGoLocked()
	for !o.closed && len(o.buf)+o.writing >= OutputHardCapBytes {
		o.drained.Wait()
	}
	o.mu.Unlock()
}

// Finish lets the writer end once what has gathered is written.
func (o *Outbox) Finish() {
	o.mu.Lock()
	o.finished, o.reading = true, false
	o.arrived.Broadcast()
	o.mu.Unlock()
}

// Close drops what has gathered and ends the writer at once.
func (o *Outbox) Close() {
	o.mu.Lock()
	if !o.closed {
		o.held.Add(closedBytes)
	}
	o.closed = true
	for _, q := range o.bodies {
		q.body.Release()
	}
	o.buf, o.spare, o.stalled, o.bodies = nil, nil, nil, nil
	o.arrived.Broadcast()
	o.drained.Broadcast()
	o.mu.Unlock()
}

// stall is asked when the budget looks used up: it looks again under the lock,
// and if it is so, remembers the consumer for the next Done.
func (o *Outbox) stall(c *Consumer) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held.Load() < outputBudgetBytes {
		return false
	}
	if !c.stalled && !o.closed {
		c.stalled = true
		o.stalled = append(o.stalled, c)
	}
	return true
}

// takeStalled returns the consumers that wait for room.
func (o *Outbox) takeStalled(dst []*Consumer) []*Consumer {
	o.mu.Lock()
	defer o.mu.Unlock()
	dst = append(dst, o.stalled...)
	for _, c := range o.stalled {
		c.stalled = false
	}
	clear(o.stalled)
	o.stalled = o.stalled[:0]
	return dst
}
