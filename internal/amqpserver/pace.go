package amqpserver

import (
	"net"
	"time"
)

const (
	// paceReads short reads within paceWithin begin a time of rests: 20,000 a second.
	paceReads  = 64
	paceWithin = paceReads * 50 * time.Microsecond
	// restTime is how long a reader rests, if the system's timers can. They may take
	// a millisecond.
	restTime = 500 * time.Microsecond
	// restLowBytes: a rest that has brought less was not worth it.
	restLowBytes = 1 << 10
	// restHighBytes: after a read of more, the next follows at once.
	restHighBytes = 32 << 10
	// restWindow: a client that waits for the confirms of fewer publishes sends too
	// little in a rest.
	restWindow = 32
	// Of restLooks rests, less than half may find the client with its window full.
	restLooks = 16
	// patienceReads bounds how many short reads it takes until a client that waited for
	// its window is tried again.
	patienceReads = paceReads << 10
)

// pace reads from a connection's socket, and rests between reads where that is
// better for everybody. A client that streams, that is publishes without waiting for
// each confirm, mostly writes once per message. A reader that always waits for it would be woken
// for each, and waking costs more than the message, on both sides. So a reader that
// has been woken very often lately rests a moment before each read, without being
// woken, and then finds many messages. It belongs to the reader.
type pace struct {
	nc      net.Conn
	quiet   quietSocket // nil if the connection cannot do it
	now     func() time.Time
	rest    func(time.Duration)
	resting bool
	last    int       // bytes of the last read
	short   int       // short reads since began
	began   time.Time // zero at first

	looks, full int    // rests of this round, and those that found most unconfirmed
	most        uint64 // unconfirmed publishes in this round of looks
	penalty     int    // short reads more until the next time of rests, once a window was full
}

// quietSocket is a socket that can be told not to wake its reader for little.
type quietSocket interface {
	// wakeAt sets how many bytes have to be there for the reader to be woken, and
	// tells whether that worked.
	wakeAt(bytes int) bool
	// tryRead reads what is there, without waiting: 0 if nothing is, or on an error,
	// which an ordinary read will meet.
	tryRead(b []byte) int
}

func newPace(nc net.Conn) pace {
	return pace{nc: nc, quiet: quietSocketOf(nc), now: time.Now, rest: time.Sleep}
}

// read reads. streaming says that the client waits for nothing that came with the
// last read but confirms, and unconfirmed for how many, 0 without confirms.
func (p *pace) read(b []byte, streaming bool, unconfirmed uint64) (int, error) {
	if p.resting {
		n := 0
		if streaming && !p.windowFull(unconfirmed) {
			n = p.restAndRead(b)
		}
		if n == 0 {
			p.resting = false
		}
		if !p.resting && !p.quiet.wakeAt(1) {
			return 0, net.ErrClosed // nothing would wake it any more
		}
		if n > 0 {
			return n, nil
		}
	}
	n, err := p.nc.Read(b)
	if streaming && p.quiet != nil && n < shortReadBytes && (unconfirmed == 0 || unconfirmed >= restWindow) {
		p.count()
	}
	return n, err
}

// windowFull notes how many publishes are unconfirmed after a rest, and tells whether
// the client has waited for confirms during most of the last ones.
func (p *pace) windowFull(unconfirmed uint64) bool {
	if unconfirmed > p.most {
		p.most, p.full = unconfirmed, 0
	}
	if unconfirmed == p.most && unconfirmed > 0 {
		p.full++
	}
	if p.looks++; p.looks < restLooks {
		return false
	}
	full := p.full >= restLooks/2
	if p.looks, p.full, p.most = 0, 0, 0; full {
		p.penalty = min(2*p.penalty+paceReads, patienceReads)
		p.short = -p.penalty
	} else {
		p.penalty = 0
	}
	return full
}

// restAndRead rests, unless the last read has brought much, and reads.
func (p *pace) restAndRead(b []byte) int {
	if p.last < restHighBytes {
		p.rest(restTime)
	}
	n := p.quiet.tryRead(b)
	p.resting = n >= restLowBytes || p.last >= restHighBytes
	p.last = n
	return n
}

// count counts a short read, and begins to rest if they are many.
func (p *pace) count() {
	if p.short++; p.short < paceReads {
		return
	}
	p.short = 0
	now := p.now()
	if !p.began.IsZero() && now.Sub(p.began) < paceWithin && p.quiet.wakeAt(restHighBytes) {
		p.resting, p.last = true, 0
	}
	p.began = now
}
