package amqpserver

import (
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

const (
	// idleBufferBytes is the read buffer of a connection that has little to
	// say; a full one grows to readBufferBytes, or to what one frame needs.
	idleBufferBytes = 4 << 10
	readBufferBytes = 64 << 10
	// tightBufferBytes is the read buffer of a connection that is read twice at once.
	tightBufferBytes = 128 << 10
	// shortReadBytes: after a smaller read the reader yields once, so that more
	// may arrive and be handled in one run; but not for a client that has waited for
	// its answer, and now waits again.
	shortReadBytes = 8 << 10
	// closeWait is how long a client has to answer connection.close.
	closeWait = 5 * time.Second
)

// conn is one client connection. All fields belong to the reader goroutine
// unless they say otherwise.
type conn struct {
	srv  *Server
	nc   net.Conn
	peer string

	buf  []byte // read buffer: buf[r:w] is not yet handled
	r, w int

	frameMax   uint32
	channelMax uint16
	caps       capabilities
	properties wire.Table // as the client presented itself
	mechanism  string

	eng      *engine.Conn // nil until connection.open
	channels channelSet
	busy     []*channel // with content to detach at the end of the read
	closing  bool       // connection.close sent: only close-ok matters
	deaf     bool       // out of step: read and drop, so that the client can read our close

	pulse     pulse
	ready     atomic.Bool // eng is set and may be asked to close by others
	asked     atomic.Pointer[wire.Error]
	writer    sync.WaitGroup
	writeSeq  atomic.Uint64 // odd while a write is under way
	readCount atomic.Uint64
}

// capabilities are what the client says it understands.
type capabilities struct {
	authFailureClose bool
	cancelNotify     bool
	blocked          bool
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{
		srv: s, nc: nc, peer: nc.RemoteAddr().String(),
		buf: make([]byte, idleBufferBytes), frameMax: preAuthFrameMax,
		channels: channelSet{byID: make(map[uint16]*channel)}, pulse: pulse{quiet: s.quiet},
	}
}

// serve runs the connection to its end.
func (c *conn) serve() {
	defer c.nc.Close()
	if !c.handshake() {
		return
	}
	c.writer.Add(1)
	go c.writeLoop()
	c.pulse.start(c)
	c.readLoop()
	c.pulse.stop()
	c.eng.CloseChannels()
	if c.closing {
		// Give the last words a chance; the peer may be gone.
		c.nc.SetWriteDeadline(time.Now().Add(closeWait))
		c.eng.Out.Finish()
		c.writer.Wait()
	}
	c.eng.Close()
	c.nc.Close()
	c.writer.Wait()
}

// readLoop reads and handles frames until the connection ends.
func (c *conn) readLoop() {
	short := false
	push, pace := c.pusher(), newPace(c.nc)
	defer func() { pace.stop() }()
	for {
		c.eng.Out.BeginRead()
		if !c.handleBuffered() {
			return
		}
		read := c.eng.EndRead(short, pace.tight())
		if err := c.eng.Coming(c.settle(pace.tight()), comingMessages*int64(c.srv.cfg.MaxMessageBytes)); err != nil && !c.closing {
			c.fail(0, err)
		}
		answered := c.eng.Out.Push(push)
		c.eng.Out.WaitRoom()
		c.eng.AwaitUnblocked()
		n, err := pace.read(c.buf[c.w:], read)
		c.w += n
		if err != nil && n == 0 {
			if e := c.asked.Swap(nil); e != nil && !c.closing {
				// Woken by ask: say goodbye and wait for the answer.
				c.fail(0, e)
				continue
			}
			return
		}
		c.readCount.Add(1)
		c.eng.CountRead(n)
		if c.frameBytes() > wideFrameBytes {
			pace.window.grow(wideBytes)
		}
		if short = n < shortReadBytes; short && !answered && !pace.resting {
			runtime.Gosched()
		}
	}
}

// handleBuffered handles every whole frame in the buffer. It reports false when
// the connection is over.
func (c *conn) handleBuffered() bool {
	for c.r < c.w {
		if c.deaf {
			c.r = c.w
			return true
		}
		f, n, err := wire.ParseFrame(c.buf[c.r:c.w], c.frameMax)
		if err != nil {
			if c.closing {
				return false
			}
			fe := err.(*wire.FrameError)
			c.fail(0, wire.ConnectionError(wire.FrameErrorCode, "%s", fe.Text()))
			c.endOutput()
			continue
		}
		if n == 0 {
			return true
		}
		frame := c.buf[c.r : c.r+n : cap(c.buf)]
		c.r += n
		if over := c.handleFrame(f, frame); over {
			return false
		}
	}
	return true
}

// endOutput has what is gathered written and then the write side closed, while
// the read side stays open a moment and drops what comes: closing at once with
// unread input would reset the connection, and the client might never read why.
func (c *conn) endOutput() {
	c.deaf = true
	c.eng.Out.Finish()
	go func() {
		c.writer.Wait()
		if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}()
}

// settle makes the buffer ready for the next read: content that is still being
// assembled is copied out, the rest moves to the front, and the buffer grows if
// it is too small for what is coming. It returns how many bytes content that is
// being assembled takes. tight says that the reader reads twice at once.
func (c *conn) settle(tight bool) (heldBytes int64) {
	keep := c.busy[:0]
	for _, ch := range c.busy {
		if ch.content.Busy() {
			ch.content.Detach()
			heldBytes += int64(ch.content.HeldBytes())
			keep = append(keep, ch)
		} else {
			ch.listed = false
			ch.content.Trim()
		}
	}
	clear(c.busy[len(keep):])
	c.busy = keep
	full := c.w == len(c.buf)
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if need := c.needBytes(full, tight); need > len(c.buf) {
		grown := make([]byte, need)
		copy(grown, c.buf[:c.w])
		c.buf = grown
	}
	return heldBytes
}

// comingMessages is how many messages of full size all connections together may
// always have half of.
const comingMessages = 8

// needBytes is how large the buffer should be: what the frame at its start
// takes, and the full size once a read has filled a small one.
func (c *conn) needBytes(full, tight bool) int {
	need := len(c.buf)
	if full {
		need = max(need, readBufferBytes)
		if tight {
			need = max(need, tightBufferBytes)
		}
	}
	return max(need, c.frameBytes())
}

// frameBytes is how long the frame at the buffer's start is to be: 0 if its header is
// not there yet.
func (c *conn) frameBytes() int {
	if c.w < wire.FrameHeaderSize {
		return 0
	}
	return wire.FrameOverhead + int(uint32(c.buf[3])<<24|uint32(c.buf[4])<<16|uint32(c.buf[5])<<8|uint32(c.buf[6]))
}

// writeLoop writes what gathers until the outbox ends.
func (c *conn) writeLoop() {
	defer c.writer.Done()
	o := c.eng.Out
	for {
		b, body, ok := o.Next()
		if !ok {
			return
		}
		_, err := c.Write(b)
		if body != nil && err == nil {
			_, err = body.WriteTo(c)
		}
		if err != nil {
			body.Release()
			o.Close()
			c.nc.Close() // the reader notices
			c.eng.WakeBlocked()
			return
		}
		if o.Done(b, body) {
			c.eng.Refill()
		}
	}
}

// Write writes to the socket, for the writer. The pulse sees that it is under way.
func (c *conn) Write(b []byte) (int, error) {
	c.writeSeq.Add(1)
	n, err := c.nc.Write(b)
	c.writeSeq.Add(1)
	c.eng.CountWrite(n)
	return n, err
}

// ask has the connection closed with an error by its own reader. Safe for
// concurrent use.
func (c *conn) ask(e *wire.Error) {
	if !c.ready.Load() {
		c.nc.Close()
		return
	}
	c.asked.Store(e)
	c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	c.eng.WakeBlocked()
}

func (c *conn) loopback() bool {
	host, _, err := net.SplitHostPort(c.peer)
	if err != nil {
		return strings.HasPrefix(c.peer, "@") || c.peer == "pipe"
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
