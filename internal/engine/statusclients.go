package engine

import (
	"fmt"

	"github.com/warrenmq/warren/internal/core/status"
)

// Connections are the open connections of all virtual hosts, in no order.
func (e *Engine) Connections() []status.ClientHandle[status.Connection] {
	conns := e.listed()
	handles := make([]status.ClientHandle[status.Connection], len(conns))
	for i, c := range conns {
		handles[i] = c
	}
	return handles
}

// listed are the connections of clients.
func (e *Engine) listed() []*Conn {
	e.mu.RLock()
	defer e.mu.RUnlock()
	conns := make([]*Conn, 0, len(e.conns))
	for c := range e.conns {
		if !c.info.Hidden {
			conns = append(conns, c)
		}
	}
	return conns
}

// Channels are the open channels of all virtual hosts, in no order.
func (e *Engine) Channels() []status.ClientHandle[status.Channel] {
	var handles []status.ClientHandle[status.Channel]
	for _, c := range e.listed() {
		c.Out.mu.Lock()
		for _, ch := range c.channels {
			handles = append(handles, ch)
		}
		c.Out.mu.Unlock()
	}
	return handles
}

func (c *Conn) channelsOpen() int {
	c.Out.mu.Lock()
	defer c.Out.mu.Unlock()
	return len(c.channels)
}

// connectionName is RabbitMQ's form, and inside the process, where there are no
// ports, one that is as unique.
func connectionName(id uint64, info *ConnInfo) string {
	if info.Peer.Port == 0 {
		return fmt.Sprintf("in-process %d", id)
	}
	return fmt.Sprintf("%s:%d -> %s:%d", info.Peer.Host, info.Peer.Port, info.Local.Host, info.Local.Port)
}

func (c *Conn) client() status.Client {
	return status.Client{
		ID: c.ID, Connection: c.name, PeerHost: c.info.Peer.Host, PeerPort: c.info.Peer.Port,
		User: c.info.User, VHost: c.vh.name,
	}
}

// Client is who stands behind the connection. It needs no lock.
func (c *Conn) Client() status.Client { return c.client() }

// Name is the connection's name.
func (c *Conn) Name() string { return c.name }

// Status is how the connection is now.
func (c *Conn) Status() status.Connection {
	s := status.Connection{
		Client: c.client(), Host: c.info.Local.Host, Port: c.info.Local.Port, Properties: c.info.Properties,
		Mechanism: c.info.Mechanism, FrameMax: c.info.FrameMax, ChannelMax: c.info.ChannelMax,
		HeartbeatSeconds: c.info.HeartbeatSeconds, Opened: c.opened,
		Channels: c.channelsOpen(), Blocked: c.readerHeld.Load(),
		Reads: c.traffic.reads.Load(), ReadBytes: c.traffic.readBytes.Load(),
		Writes: c.traffic.writes.Load(), WrittenBytes: c.traffic.writtenBytes.Load(),
	}
	if held := c.Out.held.Load(); held < closedBytes {
		s.PendingBytes = max(held, 0)
	}
	var rates [2]float64
	c.meter.mu.Lock()
	c.meter.meter.Read(int64(c.e.now()), []int64{int64(s.ReadBytes), int64(s.WrittenBytes)}, rates[:])
	c.meter.mu.Unlock()
	s.ReadRate, s.WriteRate = rates[0], rates[1]
	return s
}

// Name is the name that RabbitMQ gives a channel: its connection's, and its
// number.
func (ch *Channel) Name() string {
	return fmt.Sprintf("%s (%d)", ch.conn.name, ch.target.Channel)
}

// Client is who stands behind the channel. It needs no lock.
func (ch *Channel) Client() status.Client { return ch.conn.client() }

// Status is how the channel is now.
func (ch *Channel) Status() status.Channel {
	ch.confirmMu.Lock()
	settled, awaiting := ch.confirms.Settled(), ch.confirms.Awaiting()
	ch.confirmMu.Unlock()
	now := int64(ch.conn.e.now())
	o := ch.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	s := status.Channel{
		Client: ch.conn.client(), Number: ch.target.Channel, Consumers: len(ch.consumers), Unacked: ch.unacked.Len(),
		Unconfirmed: awaiting, Confirming: ch.confirming, Tx: ch.tx != nil,
		Prefetch: int(ch.nextLimit), GlobalPrefetch: int(ch.limit.Load()), Counts: ch.counts,
	}
	s.Counts[status.Publish], s.Counts[status.Confirm] = ch.published.Load(), settled
	s.Counts[status.ReturnUnroutable], s.Counts[status.DropUnroutable] = ch.returned.Load(), ch.dropped.Load()
	if ch.meter == nil {
		ch.meter = &status.Meter{}
	}
	var values [status.Kinds]int64
	ch.meter.Read(now, readings(values[:0], &s.Counts), s.Rates[:])
	return s
}
