package amqpserver

import "net"

// immediate is a connection that can write as much as there is room for, and never
// waits, as the broker's in-process connections do.
type immediate interface {
	WriteNow(b []byte) (n int, err error)
}

// pusher returns what the reader writes its own answers with, see engine.Outbox.Push:
// nil if the connection cannot do that. An error counts as no room, because the
// writer will meet it.
func (c *conn) pusher() func([]byte) int {
	w := immediateOf(c.nc)
	if w == nil {
		return nil
	}
	return func(b []byte) int {
		n, _ := w.WriteNow(b)
		if n > 0 {
			c.writeSeq.Add(2)
			c.eng.CountWrite(n)
		}
		return n
	}
}

// immediateOf is nil for a connection that cannot do it. One that wraps another,
// such as one with TLS, cannot unless it says so itself.
func immediateOf(nc net.Conn) immediate {
	if w, ok := nc.(immediate); ok {
		return w
	}
	return socketOf(nc)
}
