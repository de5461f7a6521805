package engine

import (
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// ConnInfo is what the engine has to know about a connection.
type ConnInfo struct {
	User     string
	FrameMax uint32 // negotiated, 0 for no limit
	// CancelNotify: the client understands basic.cancel from the server.
	CancelNotify bool
	// BlockedNotify: the client understands connection.blocked.
	BlockedNotify bool

	// What follows is only told to those who ask (Conn.Status).
	Peer, Local      Endpoint
	Properties       wire.Table // as the client presented itself
	Mechanism        string
	ChannelMax       uint16
	HeartbeatSeconds uint16
	// Hidden: a connection of the broker's own, not listed.
	Hidden bool
}

// Endpoint is one end of a connection. Port is 0 inside the process.
type Endpoint struct {
	Host string
	Port int
}

// Conn is one client connection inside the engine. Its methods are called by
// the connection's reader goroutine only, but for Refill, which the writer
// calls.
type Conn struct {
	ID   uint64
	Out  *Outbox
	e    *Engine
	vh   *VHost
	info ConnInfo

	channels map[uint16]*Channel // changed under Out.mu, so that others may look
	routes   map[string]*route
	run      run
	// routedQueues: at least the number of queues in routes.
	routedQueues int
	w            worker // the reader's
	refillW      worker // the writer's
	refill       []*Consumer
	taken        []out      // scratch of Channel.take
	hungry       []*Channel // channels whose own prefetch limit has room again
	// publishedInAlarm: published while an alarm was up. Only then is the
	// connection blocked (RabbitMQ documentation, "Blocked Connections").
	publishedInAlarm bool
	// pipelined: in the running read something was published while earlier publishes
	// of its channel had not been confirmed.
	pipelined bool
	// unconfirmed is the most that a channel waited for when the running read's
	// publishes had been taken.
	unconfirmed uint64
	coming      int64 // bytes of bodies that are not complete
	readerHeld  atomic.Bool
	opened      time.Time
	tally       connTally
	traffic     traffic
	name        string
	meter       sharedMeter
	woken       atomic.Bool // the connection is ending: no alarm holds its reader
}

// Open adds a connection to a virtual host.
func (e *Engine) Open(vhost string, info ConnInfo) (*Conn, *wire.Error) {
	vh := e.vhost(vhost)
	if vh == nil {
		return nil, ErrNoVHost(vhost)
	}
	c := &Conn{
		ID: e.lastConnID.Add(1), Out: newOutbox(), e: e, vh: vh, info: info,
		channels: make(map[uint16]*Channel), routes: make(map[string]*route),
		w: newWorker(e), refillW: newWorker(e),
		run:    run{number: 1}, // a route that was never gathered has 0
		opened: e.clock.Now(),
	}
	c.name = connectionName(c.ID, &c.info)
	if !info.Hidden {
		e.churn.connectionsOpened.Add(1)
	}
	if e.disk != nil {
		c.Out.waitWritten = e.disk.WaitWritten
	}
	e.mu.Lock()
	e.conns[c] = struct{}{}
	e.mu.Unlock()
	return c, nil
}

// Close returns what the connection's channels hold, deletes its exclusive
// queues and ends its output. A second call does nothing.
func (c *Conn) Close() {
	c.e.mu.Lock()
	_, open := c.e.conns[c]
	delete(c.e.conns, c)
	c.e.mu.Unlock()
	if !open {
		return
	}
	if !c.info.Hidden {
		c.e.churn.connectionsClosed.Add(1)
	}
	c.CloseChannels()
	_ = c.Coming(0, 0) // less is never too much
	c.Out.Close()
}

// CloseChannels ends all channels and deletes exclusive queues: what has to be
// done before connection.close-ok.
func (c *Conn) CloseChannels() {
	c.Flush()
	// All consumers leave before anything returns: what one channel gives back
	// must not be handed to another that is about to close as well.
	for _, ch := range c.channels {
		ch.detach()
	}
	for _, ch := range c.channels {
		ch.Close()
	}
	c.deleteExclusive()
}

func (c *Conn) deleteExclusive() {
	vh := c.vh
	vh.mu.Lock()
	defs := vh.top.OwnedQueues(c.ID)
	qs := make([]*Queue, 0, len(defs))
	for _, d := range defs {
		qs = append(qs, d.Runtime.(*Queue))
	}
	vh.mu.Unlock()
	for _, q := range qs {
		c.e.deleteQueue(&c.w, q)
	}
	c.w.finish()
}

// Channel returns the open channel with that number, nil if there is none.
func (c *Conn) Channel(id uint16) *Channel { return c.channels[id] }

// ChannelCount is the number of open channels.
func (c *Conn) ChannelCount() int { return len(c.channels) }

// Refill gives consumers that waited for output room what their queues hold.
// Called by the writer goroutine after Outbox.Done reported true.
func (c *Conn) Refill() {
	w := &c.refillW
	w.begin(c.e.now())
	c.refill = c.Out.takeStalled(c.refill[:0])
	// All are back in turn before any queue hands out, so that consumers of one
	// queue share the room; and the queue that was first last time comes last, so
	// that queues share it too.
	first := 0
	for i, cons := range c.refill {
		cons.unblock()
		if first == 0 && cons.src.q != c.refill[0].src.q {
			first = i
		}
	}
	for i := range c.refill {
		c.refill[(first+i)%len(c.refill)].resume(w)
	}
	clear(c.refill)
	w.finish()
}

// AwaitUnblocked holds the reader of a connection that has published while an
// alarm is up: its socket is not read. It tells the client so, before and after.
// It returns at once for any other connection.
func (c *Conn) AwaitUnblocked() {
	if c.publishedInAlarm {
		c.publishedInAlarm = false
		c.readerHeld.Store(true)
		c.e.alarm.await(c)
		c.readerHeld.Store(false)
	}
}

// ReaderHeld tells whether the reader is held by AwaitUnblocked, or by output
// that does not drain, so that silence of the client means nothing. Safe for
// concurrent use.
func (c *Conn) ReaderHeld() bool {
	return c.readerHeld.Load() || c.Out.held.Load() >= OutputHardCapBytes
}

// WakeBlocked lets a reader that AwaitUnblocked holds look at its connection
// again. Safe for concurrent use.
func (c *Conn) WakeBlocked() {
	c.woken.Store(true)
	c.e.alarm.wakeAll()
}
