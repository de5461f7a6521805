package amqpserver

import "github.com/warrenmq/warren/internal/engine"

const (
	// tinyBytes, narrowBytes and wideBytes are what a receive window may be: half of
	// what the system may keep for a connection that is not read, its own overhead
	// included. From the last one on it is the system's care.
	tinyBytes   = 16 << 10
	narrowBytes = 32 << 10
	wideBytes   = 512 << 10
	// tinyClamp and narrowClamp bound what the client's system may send ahead of reads of
	// such a window.
	tinyClamp   = 23 << 10
	narrowClamp = 56 << 10

	// A tiny window is for messages that take at most so many bytes with their frames.
	tinyMessageBytes = 256

	// A narrow window is in the way of a client that writes much at a time: it was
	// never read with rests, and of its last reads hardly any brought less than
	// longReadBytes (one makes up for shortWeight others), or it sends frames of more than
	// wideFrameBytes, of which a narrow window has too few. A tiny one is full with less,
	// and is given up sooner.
	longReads         = 512
	longReadBytes     = 16 << 10
	tinyLongReads     = 64
	tinyLongReadBytes = 8 << 10
	shortWeight       = 8
	wideFrameBytes    = 3 << 10
)

// window is the receive window of a connection from the same machine. As long as it is
// full, the client's system gathers what the client writes in small pieces, and sends it
// in one when the window opens; each piece costs the client a third of what it costs
// otherwise. So it begins tiny, and grows as soon as that is in the way: a quarter of what
// the client may have under way is enough to be full after a rest while there is still
// something to write. It never shrinks, because the sender's system cuts its segments
// to half of the largest window it has seen. The zero window is the system's care.
type window struct {
	set   func(bytes int) // nil if it is wide
	clamp func(bytes int)
	bytes int
	long  int // long reads, less shortWeight for each other one
}

// tiny tells whether the window still is what a connection begins with.
func (w *window) tiny() bool { return w.set != nil && w.bytes < narrowBytes }

// grow makes the window larger.
func (w *window) grow(bytes int) {
	if w.set == nil || bytes <= w.bytes {
		return
	}
	w.set(bytes)
	w.bytes, w.long = bytes, 0
	if bytes >= wideBytes {
		w.clamp(bytes)
		w.set = nil
	}
}

// hold keeps a tiny or narrow window a little below what its buffer has room for: the system
// reckons with large segments, and drops small ones, which take more, at the edge. If it then
// also gives up one that it has acknowledged out of order, the client's system waits for a
// timer, some 15 ms. It has to be said again after each read, because the system reckons anew
// with each segment of another size.
func (w *window) hold() {
	switch {
	case w.tiny():
		w.clamp(tinyClamp)
	case w.set != nil && w.bytes == narrowBytes:
		w.clamp(narrowClamp)
	}
}

// saw notes that a read without a rest has brought n bytes.
func (w *window) saw(n int, rested bool) {
	if w.set == nil {
		return
	}
	enough, reads, next := longReadBytes, longReads, wideBytes
	if w.tiny() {
		enough, reads, next = tinyLongReadBytes, tinyLongReads, narrowBytes
	}
	if n < enough || rested {
		w.long = max(0, w.long-shortWeight)
	} else if w.long++; w.long >= reads {
		w.grow(next)
	}
}

// suit grows a tiny window that does not suit what the last read, of n bytes, has
// brought, or a client that may have so many publishes unconfirmed.
func (w *window) suit(n int, read engine.Read, unconfirmed uint64) {
	if !w.tiny() || read.Published == 0 || n == 0 {
		return
	}
	if n/read.Published > tinyMessageBytes || unconfirmed > tightMost {
		w.grow(narrowBytes)
	}
}
