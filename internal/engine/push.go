package engine

// A connection's reader writes what its own run has put into the outbox by itself,
// if that is little and the writer sleeps: an answer or a confirm is with the client
// sooner than the writer would be awake. From BeginRead on the writer is therefore
// not woken; Push ends that, and so does LetGo, which has to come before anything
// that may block the reader for long.

// pushBytes is how much a reader writes itself. More is the writer's, so that the
// reader can go on meanwhile.
const pushBytes = 16 << 10

// BeginRead tells that the connection's reader is about to handle what it has read.
func (o *Outbox) BeginRead() {
	o.mu.Lock()
	o.reading = o.waiting // a writer that is at it finds what comes by itself
	o.mu.Unlock()
}

// LetGo has the writer send what has gathered: the reader is about to wait.
func (o *Outbox) LetGo() {
	o.mu.Lock()
	o.letGoLocked()
	o.mu.Unlock()
}

// waits is for a reader that has to wait, for the disk, in the middle of its run. It
// lets go, and returns what to call when the wait is over.
func (o *Outbox) waits() (goOn func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.reading {
		return func() {}
	}
	o.letGoLocked()
	return o.BeginRead
}

func (o *Outbox) letGoLocked() {
	o.reading = false
	if len(o.buf) > 0 {
		o.wake()
	}
}

// Push offers what has gathered since BeginRead to write, which writes as much as
// it can without blocking and returns how much that was. The writer does the rest.
// It reports whether all was written. Without write all is the writer's. Called by the
// reader at the end of its run.
func (o *Outbox) Push(write func([]byte) int) bool {
	o.mu.Lock()
	if write == nil || !o.reading || len(o.buf) == 0 || len(o.buf) > pushBytes || len(o.bodies) > 0 || o.mark > 0 || o.closed {
		o.letGoLocked()
		o.mu.Unlock()
		return false
	}
	b := o.buf
	o.buf, o.spare = o.spare[:0], nil
	o.writing, o.pushing = len(b), true
	o.mu.Unlock()

	n := write(b)

	o.held.Add(-int64(n))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing, o.reading, o.pushing = 0, false, false
	switch {
	case o.closed:
		return false
	case n == len(b):
		o.spare = b[:0]
	default: // what has come meanwhile stands behind the rest
		rest := b[n:]
		for i := range o.bodies {
			o.bodies[i].at += len(rest)
		}
		o.buf = append(rest, o.buf...)
	}
	if len(o.buf) > 0 || len(o.stalled) > 0 || o.finished {
		o.refill = len(o.stalled) > 0
		o.wake()
	}
	return n == len(b)
}
