package amqpserver

import (
	"net"
	"time"

	"github.com/warrenmq/warren/internal/engine"
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
	// After a read that has brought restHighBytes, the next follows at once: what was
	// gathered comes as the window opens. If each message was small, so that the read had
	// restMessages of them, three quarters of what the window seems to hold will do, but not
	// if restBytes came since the last rest.
	restHighBytes      = 32 << 10
	restHighLeastBytes = 8 << 10
	restBytes          = 96 << 10
	restMessages       = 128
	// restWindow: a client that waits for the confirms of fewer publishes sends too
	// little in a rest.
	restWindow = 32
	// Of restLooks rests, less than half may find the client with its window full.
	restLooks = 16
	// patienceReads bounds how many short reads it takes until a client that waited for
	// its window is tried again.
	patienceReads = paceReads << 10
	// A window of tightLeast to tightMost is full soon after a rest, but what a rest
	// saves is worth more. With less, nobody would do anything during most of it;
	// with more, the client has something to do while the committer syncs.
	tightLeast = 128
	tightMost  = 1024
	// barrenRests bounds how many rests in a row may bring next to nothing then.
	barrenRests = 16
	// cycleTime is from one read of a tiny window to the next. It is full by then as long
	// as the client's system gathers what it writes, which takes a microsecond for each message.
	// Once it is not, each takes four, and the next reads would find it open again: so a
	// reader that finds less than fullBytes rests again, at most fullRests times, until
	// it is full or nothing more comes. If the one after that finds as little, the client's
	// confirms do not let it have so much under way, and it is left alone for fullPause reads,
	// each time longer, at most fullPauses.
	cycleTime  = 300 * time.Microsecond
	pausedTime = 370 * time.Microsecond // the same, while it is left alone
	fullBytes  = 18 << 10
	fullRests  = 3
	fullPause  = 16
	fullPauses = 1 << 10
	// tightTime is how long a reader rests whose client waits for confirms soon after. Then
	// it reads twice, if the first read has brought secondBytes: what was gathered comes when
	// that one opens the window, and goes to the disk with it.
	tightTime   = 200 * time.Microsecond
	secondBytes = 8 << 10
)

// pace reads from a connection's socket, and rests between reads where that is
// better for everybody. A client that streams, that is publishes without waiting for
// each confirm, mostly writes once per message. A reader that always waits for it would be woken
// for each, and waking costs more than the message, on both sides. So a reader that
// has been woken very often lately rests a moment before each read, without being
// woken, and then finds many messages. It belongs to the reader.
//
// If the connection's receive window is full before the rest is over, the client's
// system gathers what it still writes: see window. A tiny one is read once for each rest,
// which is shorter and exact then: to empty it, that is to read until nothing comes any
// more, would open it for small pieces again.
type pace struct {
	nc      net.Conn
	quiet   quietSocket // nil if the connection cannot do it
	window  window
	now     func() time.Time
	rest    func(time.Duration)
	alarm   func(time.Duration) // an exact rest; nil until there was one
	stop    func()
	resting bool
	rested  bool      // ever
	brought int       // bytes of the last read
	last    int       // the same, but for one that waited without rests before
	came    int       // bytes since the last rest
	holds   int       // the most that a read has brought lately
	barren  int       // rests in a row that brought next to nothing
	woke    time.Time // when the last exact rest ended
	filled  bool      // the last rest was made longer for a tiny window to be full
	pause   int       // how many reads it is left alone next time that was in vain
	paused  int       // for how many it still is
	short   int       // short reads since began
	began   time.Time // zero at first

	looks, full int    // rests of this round, and those that found most unconfirmed
	most        uint64 // unconfirmed publishes in this round of looks
	ahead       uint64 // the most lately
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
	// waiting tells how many bytes there are to be read.
	waiting() int
}

func newPace(nc net.Conn) pace {
	return pace{nc: nc, quiet: quietSocketOf(nc), window: newWindow(nc), now: time.Now, rest: time.Sleep, stop: func() {}}
}

// read reads. before is what the last read brought.
func (p *pace) read(b []byte, before engine.Read) (n int, err error) {
	p.ahead = max(p.ahead, before.Unconfirmed)
	p.window.suit(p.brought, before, p.ahead)
	if p.resting && before.Streaming && p.ahead == 0 {
		p.window.grow(narrowBytes) // the client waits for nothing: it has as much to write as it likes
	}
	n, err = p.readNext(b, before)
	p.brought = n
	return n, err
}

func (p *pace) readNext(b []byte, before engine.Read) (int, error) {
	if !p.resting {
		return p.ordinaryRead(b, before)
	}
	n, big := 0, p.last >= p.high(before.Published)
	if before.Streaming && !p.windowFull(before.Unconfirmed) {
		n = p.restAndRead(b, before.Published)
	}
	if p.barren++; n >= restLowBytes {
		p.barren = 0
	}
	goOn := before.Streaming && p.tight() && p.barren < barrenRests
	p.resting = goOn || n >= restLowBytes || n > 0 && big
	if p.resting && n > 0 {
		return n, nil
	}
	if !p.quiet.wakeAt(1) {
		return 0, net.ErrClosed // nothing would wake it any more
	}
	p.resting = false
	if n > 0 {
		return n, nil
	}
	n, err := p.ordinaryRead(b, before)
	if goOn && err == nil {
		p.resting, p.last = p.quiet.wakeAt(restHighBytes), n
	}
	return n, err
}

// tight tells whether the client's window is full soon after a rest, and rests are
// good nevertheless. The reader had better bring to the disk by itself, then, what it has
// read: the client waits for it.
func (p *pace) tight() bool { return p.resting && tightLeast <= p.ahead && p.ahead <= tightMost }

// ordinaryRead waits for what comes.
func (p *pace) ordinaryRead(b []byte, before engine.Read) (int, error) {
	n, err := p.nc.Read(b)
	p.window.saw(n, p.rested)
	if !p.resting && before.Streaming && p.quiet != nil && n < shortReadBytes && (before.Unconfirmed == 0 || before.Unconfirmed >= restWindow) {
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
	p.ahead -= p.ahead / 8
	if p.looks, p.full, p.most = 0, 0, 0; full {
		p.penalty = min(2*p.penalty+paceReads, patienceReads)
		p.short = -p.penalty
	} else {
		p.penalty = 0
	}
	return full
}

// restAndRead rests, unless the last read has brought much, and reads.
func (p *pace) restAndRead(b []byte, published int) int {
	if p.window.tiny() {
		p.restTiny(published)
	} else if p.last < p.high(published) || p.came >= restBytes && published >= restMessages {
		if p.tight() {
			p.restExactly(tightTime)
		} else {
			p.rest(restTime)
		}
		p.came = 0
	}
	p.last = p.quiet.tryRead(b)
	p.window.hold()
	if p.tight() && !p.window.tiny() && p.last >= secondBytes && len(b)-p.last >= secondBytes {
		p.last += p.quiet.tryRead(b[p.last:])
	}
	p.came += p.last
	p.holds = max(p.last, p.holds-p.holds/16)
	return p.last
}

// restTiny rests until a tiny window is likely to be full again.
func (p *pace) restTiny(published int) {
	taken := p.now().Sub(p.woke)
	if p.paused > 0 || published == 0 {
		p.paused = max(0, p.paused-1)
		p.restExactly(pausedTime - taken)
		return
	}
	p.restExactly(cycleTime - taken)
	there := p.quiet.waiting()
	switch {
	case there >= fullBytes:
		p.filled, p.pause = false, 0
	case p.filled:
		p.pause = min(2*p.pause+fullPause, fullPauses)
		p.filled, p.paused = false, p.pause
	default:
		p.filled = true
		for range fullRests {
			before := there
			p.restExactly(cycleTime)
			if there = p.quiet.waiting(); there >= fullBytes || there <= before {
				return
			}
		}
	}
}

// high is from when on a read has brought so much that more is likely to be there.
func (p *pace) high(published int) int {
	if published < restMessages {
		return restHighBytes
	}
	return min(restHighBytes, max(p.holds*3/4, restHighLeastBytes))
}

// restExactly rests as long as told, where rest may take a millisecond.
func (p *pace) restExactly(d time.Duration) {
	if p.alarm == nil {
		p.alarm, p.stop = newAlarmClock()
	}
	p.alarm(d)
	p.woke = p.now()
}

// count counts a short read, and begins to rest if they are many.
func (p *pace) count() {
	if p.short++; p.short < paceReads {
		return
	}
	p.short = 0
	now := p.now()
	if !p.began.IsZero() && now.Sub(p.began) < paceWithin && p.quiet.wakeAt(restHighBytes) {
		p.resting, p.rested, p.last, p.barren = true, true, 0, 0
	}
	p.began = now
}
