package link

import (
	"net"
	"sync"
	"sync/atomic"
)

// corkBytes is how much is gathered before it is written although the cork is in.
const corkBytes = 64 << 10

// corked is a transport connection that can gather writes. The AMQP client writes
// once per publish or acknowledgement; between Cork and Uncork these become one
// write. Everything else that the client writes meanwhile, such as a heartbeat,
// keeps its place and waits at most until the next Uncork.
//
// TryCork is for writers that must not wait for the peer: until TryUncork everybody
// writes what the transport takes at once, so that nobody can hold them up, and the
// rest gathers and is left to a goroutine.
type corked struct {
	net.Conn
	now func([]byte) (int, error) // writes what there is room for; nil if the transport cannot

	mu    sync.Mutex
	buf   []byte
	corks int   // how many have put the cork in
	held  bool  // between TryCork and TryUncork
	err   error // the first failure; the connection is of no use after it

	// writing is odd while a write is under way, and counts them: a watcher that
	// sees the same odd number twice knows that a write is stuck.
	writing atomic.Uint64
}

// Write implements net.Conn. It may report success for what is still gathered; a
// failure shows at a later write or at Uncork, and always by the connection's end.
func (c *corked) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if c.held {
		if err := c.writeNow(b); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	if c.corks > 0 && len(c.buf)+len(b) <= corkBytes {
		c.buf = append(c.buf, b...)
		return len(b), nil
	}
	c.flush()
	if c.err == nil {
		c.write(b)
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(b), nil
}

// Cork begins to gather. Each call wants one of Uncork, soon.
func (c *corked) Cork() {
	c.mu.Lock()
	c.corks++
	c.mu.Unlock()
}

// Uncork writes what was gathered, also by others.
func (c *corked) Uncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corks--
	c.settle()
}

// TryCork has writes not wait, unless one is under way or something has gathered, or
// the transport can only wait. If it did, TryUncork has to follow at once.
func (c *corked) TryCork() bool {
	if c.now == nil || !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if c.err != nil || c.held || c.corks > 0 || len(c.buf) > 0 {
		return false
	}
	c.held = true
	return true
}

// writeNow writes what the transport takes at once and keeps the rest. The write
// comes before the client goes on, which then wakes its heartbeat's goroutine: the
// other way round that one would be moved to another processor for nothing.
func (c *corked) writeNow(b []byte) error {
	if len(c.buf) == 0 {
		n, err := c.now(b)
		if err != nil {
			c.err = err
			return err
		}
		b = b[n:]
	}
	c.buf = append(c.buf, b...)
	return nil
}

// TryUncork ends what TryCork began. What the transport has not taken since, also
// from others, is left to a goroutine.
func (c *corked) TryUncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	switch {
	case c.err != nil:
		c.settle()
	case len(c.buf) > 0:
		go func() { // it ends with the connection at the latest
			c.mu.Lock()
			defer c.mu.Unlock()
			c.settle()
		}()
	}
}

// settle writes what has gathered, and ends a connection that is of no use.
func (c *corked) settle() {
	if c.err == nil {
		c.flush()
	}
	if c.err != nil {
		c.Conn.Close() // the client was told that its writes had succeeded
	}
}

func (c *corked) flush() {
	if c.held || len(c.buf) == 0 { // TryUncork will
		return
	}
	c.write(c.buf)
	c.buf = c.buf[:0]
}

// write is the only place that writes. c.mu is held, as long as the peer takes.
func (c *corked) write(b []byte) {
	c.writing.Add(1)
	_, c.err = c.Conn.Write(b)
	c.writing.Add(1)
}
