package reliabletest

import (
	"fmt"

	"github.com/warrenmq/warren/internal/wire"
)

// Point is a moment in the life of a message at which a connection can be cut.
type Point int

// The points of CutAt.
const (
	// BeforePublish: the broker never hears of the message. A publisher sends it again
	// when it is connected again.
	BeforePublish Point = iota
	// BeforeConfirm: the broker has the message, and its publisher does not know. It
	// sends it again, so that the message arrives twice, with the same id.
	BeforeConfirm
	// BeforeDelivery: a message is on its way to a consumer and comes again, marked as
	// redelivered. No handler has seen it.
	BeforeDelivery
	// BeforeAck: a handler is done with a message, and the broker does not know: it
	// comes again, marked as redelivered. With a retry or a dead letter it is the
	// original that comes again, after its copy was confirmed.
	BeforeAck
)

func (p Point) String() string {
	switch p {
	case BeforePublish:
		return "before a publish"
	case BeforeConfirm:
		return "before a confirm"
	case BeforeDelivery:
		return "before a delivery"
	case BeforeAck:
		return "before an acknowledgement"
	}
	return fmt.Sprintf("Point(%d)", int(p))
}

// Fault is something that will go wrong, once.
type Fault struct {
	b        *Broker
	point    Point
	frames   int // CutAtFrame: how many frames still pass; -1 for CutAt
	happened bool
}

// CutAt cuts the next connection that comes to the point, without a word to either
// side, as a network failure would. The test's own connections are spared.
func (b *Broker) CutAt(p Point) *Fault {
	b.t.Helper()
	if p < BeforePublish || p > BeforeAck {
		b.t.Fatalf("reliabletest: CutAt(%v): it has to be BeforePublish, BeforeConfirm, BeforeDelivery or BeforeAck", p)
	}
	return b.arm(&Fault{b: b, point: p, frames: -1})
}

// CutAtFrame cuts the program's connection that carries the n-th frame from now, in
// place of the frame. Frames of all its connections count, in both directions and from
// 1, heartbeats excepted. With n from 1 up to where the Fault no longer happens, a test
// covers every way in which a connection can be lost between two frames.
func (b *Broker) CutAtFrame(n int) *Fault {
	b.t.Helper()
	if n < 1 {
		b.t.Fatalf("reliabletest: CutAtFrame(%d): frames count from 1", n)
	}
	return b.arm(&Fault{b: b, frames: n - 1})
}

func (b *Broker) arm(f *Fault) *Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, f)
	return f
}

// Happened says whether the moment has come.
func (f *Fault) Happened() bool {
	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	return f.happened
}

// Cancel takes back a fault that has not happened, and says whether it had.
func (f *Fault) Cancel() (happened bool) {
	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	f.b.disarm(f)
	return f.happened
}

// disarm forgets a fault. Called with b.mu held.
func (b *Broker) disarm(f *Fault) {
	for i, g := range b.faults {
		if g == f {
			b.faults = append(b.faults[:i], b.faults[i+1:]...)
			return
		}
	}
}

// cuts says whether a frame is one before which a fault cuts. Called with b.mu held.
func (b *Broker) cuts(f wire.Frame, toBroker bool) bool {
	point, there := pointOf(f, toBroker)
	for _, fault := range b.faults {
		switch {
		case fault.frames > 0:
			fault.frames--
			continue
		case fault.frames < 0 && (!there || fault.point != point):
			continue
		}
		fault.happened = true
		b.disarm(fault)
		return true
	}
	return false
}

// pointOf is the point before which a frame stands.
func pointOf(f wire.Frame, toBroker bool) (p Point, there bool) {
	if f.Type != wire.FrameMethod {
		return 0, false
	}
	switch wire.PeekMethod(f.Payload) {
	case wire.IDBasicPublish:
		return BeforePublish, true
	case wire.IDBasicDeliver:
		return BeforeDelivery, true
	case wire.IDBasicReject:
		return BeforeAck, true
	case wire.IDBasicAck, wire.IDBasicNack:
		if toBroker {
			return BeforeAck, true
		}
		return BeforeConfirm, true
	}
	return 0, false
}

// Duplicate has the next n messages arrive twice, with the same id, as those do whose
// publisher was cut off before the confirm. It is about messages that the program or
// Publish publishes, not about copies for retries.
func (b *Broker) Duplicate(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.twice += n
}

// CutConnections cuts all connections now, without a word to either side.
func (b *Broker) CutConnections() { b.inner.CutConnections() }

// HoldConfirms keeps all confirms back until ReleaseConfirms, as a disk does that does
// not answer. Settle waits for them.
func (b *Broker) HoldConfirms() { b.inner.HoldConfirms() }

// ReleaseConfirms ends HoldConfirms.
func (b *Broker) ReleaseConfirms() { b.inner.ReleaseConfirms() }

// Block has the broker accept no publishes (connection.blocked, because its disk is
// full) until Unblock. As with a real server a connection is told so when it publishes,
// and what it has published then waits. Consumers go on.
func (b *Broker) Block() { b.inner.FillDisk() }

// Unblock ends Block.
func (b *Broker) Unblock() { b.inner.FreeDisk() }

// CrashAndRestart ends the broker as a power loss would, and starts another one on
// what it had on its disk. What was confirmed is there; what was not acknowledged comes
// again. Clients find the new one by themselves.
func (b *Broker) CrashAndRestart() { b.inner.CrashAndRestart() }
