package reliabletest

import (
	"errors"
	"net"
	"sync"

	"github.com/warrenmq/warren/internal/wire"
)

// errCut is what a client sees of a connection that a Fault has cut.
var errCut = errors.New("reliabletest: the connection is cut")

// line is a connection to the broker whose frames are looked at before they pass.
// The client reads on one goroutine and writes on any.
type line struct {
	net.Conn
	b   *Broker
	own bool // the test's, not the program's

	writing  sync.Mutex
	toBroker frames

	toClient frames
	ready    []byte // has passed and was not read yet
	scratch  []byte

	// What was said on it, guarded by b.mu.
	channels map[uint16]*channel
	over     bool
}

func newLine(b *Broker, conn net.Conn, own bool) *line {
	return &line{Conn: conn, b: b, own: own, scratch: make([]byte, 16<<10), channels: make(map[uint16]*channel)}
}

// Write lets whole frames pass; the beginning of one waits for its end.
func (l *line) Write(p []byte) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	passed, cut := l.toBroker.take(p, l.fromProgram)
	_, err := l.Conn.Write(passed)
	if cut {
		l.Close()
		return 0, errCut
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read returns bytes of frames that have passed.
func (l *line) Read(p []byte) (int, error) {
	for len(l.ready) == 0 {
		n, err := l.Conn.Read(l.scratch)
		passed, cut := l.toClient.take(l.scratch[:n], l.fromBroker)
		l.ready = append(l.ready[:0], passed...)
		if cut {
			l.Close()
			err = errCut
		}
		if err != nil && len(l.ready) == 0 {
			return 0, err
		}
	}
	n := copy(p, l.ready)
	l.ready = l.ready[n:]
	return n, nil
}

// Close ends the connection, in whatever way that came.
func (l *line) Close() error {
	l.b.forget(l)
	return l.Conn.Close()
}

// frames is one direction of a line.
type frames struct {
	held []byte // the beginning of a frame, after what the last take let pass
	used int    // bytes of held that have passed
}

// take adds p to what came before, and returns the frames that are whole now and that
// look lets pass. cut says that it stopped before one that look does not. The result
// is valid until the next take.
func (f *frames) take(p []byte, look func(wire.Frame) (pass bool)) (passed []byte, cut bool) {
	f.held = append(f.held[:copy(f.held, f.held[f.used:])], p...)
	f.used = 0
	for {
		rest := f.held[f.used:]
		if len(rest) >= len(wire.ProtocolHeader) && rest[0] == wire.ProtocolHeader[0] {
			f.used += len(wire.ProtocolHeader)
			continue
		}
		if len(rest) > 0 && rest[0] == wire.ProtocolHeader[0] {
			return f.held[:f.used], false
		}
		frame, n, err := wire.ParseFrame(rest, 0)
		switch {
		case err != nil: // not ours to judge: the other side does
			f.used = len(f.held)
			return f.held, false
		case n == 0:
			return f.held[:f.used], false
		case frame.Type != wire.FrameHeartbeat && !look(frame):
			return f.held[:f.used], true
		}
		f.used += n
	}
}
