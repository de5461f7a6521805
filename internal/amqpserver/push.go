package amqpserver

// tryWriter is a connection that can write as much as there is room for, and never
// waits. An error counts as no room: the writer will meet it.
type tryWriter interface {
	TryWrite(b []byte) (n int)
}

// pusher returns what the reader writes its own answers with, see engine.Outbox.Push.
func (c *conn) pusher() func([]byte) int {
	w := tryWriterOf(c.nc)
	if w == nil {
		return func([]byte) int { return 0 }
	}
	return func(b []byte) int {
		n := w.TryWrite(b)
		if n > 0 {
			c.writeSeq.Add(2)
			c.eng.CountWrite(n)
		}
		return n
	}
}
