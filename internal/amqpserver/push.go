package amqpserver

import "github.com/warrenmq/warren/internal/nowait"

// pusher returns what the reader writes its own answers with, see engine.Outbox.Push:
// nil if the connection cannot do that. An error counts as no room, because the
// writer will meet it.
func (c *conn) pusher() func([]byte) int {
	write := nowait.Writer(c.nc)
	if write == nil {
		return nil
	}
	return func(b []byte) int {
		n, _ := write(b)
		if n > 0 {
			c.writeSeq.Add(2)
			c.eng.CountWrite(n)
		}
		return n
	}
}
