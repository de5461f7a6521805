package amqpserver

import (
	"sync"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// pulse is a connection's heart: a timer at half the heartbeat interval. It
// sends a heartbeat when nothing else was written since the last beat, closes
// the connection after two whole intervals without a byte from the client, and
// closes it when one write has taken four beats. It compares counters, so that
// the hot path reads no clock.
//
// A connection without heartbeats still beats, to notice a write that hangs. It
// sends heartbeats only while its reader is held, because then nothing else
// would show that the client is gone, and what it holds (an exclusive queue that
// fills the memory) would stay. A client that wants none has to drop them
// (specification 4.2.7).
type pulse struct {
	seconds uint16        // negotiated, 0 for none; set before start
	quiet   time.Duration // the interval without heartbeats; set before start

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool

	lastRead, lastWrite uint64
	silent, stuck       int
}

const (
	// quietBeat is the timer's interval where no heartbeat was negotiated.
	quietBeat  = 15 * time.Second
	beatsToDie = 4
)

func (p *pulse) interval() time.Duration {
	if p.seconds == 0 {
		return p.quiet
	}
	return time.Duration(p.seconds) * time.Second / 2
}

func (p *pulse) start(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.timer = time.AfterFunc(p.interval(), func() { p.beat(c) })
	}
}

func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *pulse) beat(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	reads, writes := c.readCount.Load(), c.writeSeq.Load()
	p.silent++
	// A reader that is held back (alarm, full output) cannot hear heartbeats.
	held := c.eng.ReaderHeld()
	if reads != p.lastRead || held {
		p.silent = 0
	}
	p.stuck++
	if writes != p.lastWrite || writes%2 == 0 {
		p.stuck = 0
	}
	idle := writes == p.lastWrite && writes%2 == 0
	p.lastRead, p.lastWrite = reads, writes
	switch {
	case p.seconds > 0 && p.silent >= beatsToDie:
		c.srv.logger.Info("missed heartbeats from client", "peer", c.peer, "timeout_seconds", p.seconds)
		c.nc.Close()
	case p.stuck >= beatsToDie:
		c.srv.logger.Info("client does not read, closing", "peer", c.peer)
		c.nc.Close()
	case idle && (p.seconds > 0 || held):
		c.eng.Out.SendRaw(heartbeatFrame)
	}
	p.timer.Reset(p.interval())
}

var heartbeatFrame = wire.AppendHeartbeat(nil)
