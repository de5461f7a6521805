package amqpserver

import (
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// fail closes what the error says: the channel, or the connection. Everything
// handled before it still counts, so it is applied and confirmed first. It
// reports true when the connection is over.
func (c *conn) fail(channelID uint16, e *wire.Error) (over bool) {
	c.eng.Flush()
	if e.Scope == wire.ScopeChannel {
		if ch := c.channels.get(channelID); ch != nil && ch.eng != nil {
			c.srv.logger.Info("channel closed", "peer", c.peer, "channel", channelID, "error", e)
			c.closeChannel(ch)
			c.eng.Out.Send(channelID, &wire.ChannelClose{
				ReplyCode: e.Code, ReplyText: e.ReplyText(), ClassID: e.Method.Class(), MethodID: e.Method.Method()})
			return false
		}
	}
	if c.closing {
		return true
	}
	c.srv.logger.Info("connection closed", "peer", c.peer, "error", e)
	c.closing = true
	for _, ch := range c.busy { // nothing more is read of it
		ch.content.Abandon()
	}
	_ = c.eng.Coming(0, 0) // less is never too much
	// Channels end before the client hears of it, as in an orderly close: what
	// was unacknowledged is back in its queues then.
	c.eng.CloseChannels()
	c.eng.Out.Send(0, closeMethod(e))
	c.nc.SetReadDeadline(time.Now().Add(closeWait))
	return false
}

// failDecode closes the connection for a method that cannot be decoded.
func (c *conn) failDecode(err error) (over bool) { return c.fail(0, decodeError(err)) }

// closeChannel ends the engine's side of a channel; the number stays taken until
// the client has answered.
func (c *conn) closeChannel(ch *channel) {
	ch.eng.Close()
	ch.eng = nil
	ch.content.Abandon()
}

func closeMethod(e *wire.Error) *wire.ConnectionClose {
	return &wire.ConnectionClose{
		ReplyCode: e.Code, ReplyText: e.ReplyText(), ClassID: e.Method.Class(), MethodID: e.Method.Method()}
}

// handleChannelZero handles connection methods and heartbeats, and everything
// that still comes after we have sent connection.close.
func (c *conn) handleChannelZero(f wire.Frame) (over bool) {
	id := wire.PeekMethod(f.Payload)
	if c.closing {
		switch {
		case f.Type != wire.FrameMethod || f.Channel != 0:
			return false
		case id == wire.IDConnectionClose: // both closed at once
			c.eng.Out.Send(0, &wire.ConnectionCloseOk{})
			return true
		}
		return id == wire.IDConnectionCloseOk
	}
	switch f.Type {
	case wire.FrameHeartbeat:
		if len(f.Payload) > 0 {
			return c.fail(0, unknownFrame(f))
		}
		return false
	case wire.FrameMethod:
		if len(f.Payload) < 4 {
			return c.fail(0, unknownFrame(f))
		}
	case wire.FrameHeader, wire.FrameBody:
		return c.fail(0, wire.ConnectionError(wire.UnexpectedFrame, "%s", wire.FrameText(f.Type, f.Payload)))
	default:
		return c.fail(0, unknownFrame(f))
	}
	m, err := wire.DecodeMethod(f.Payload)
	if err != nil {
		return c.failDecode(err)
	}
	switch m := m.(type) {
	case *wire.ConnectionClose:
		c.eng.Flush()
		c.eng.CloseChannels()
		c.closing, c.deaf = true, true // nothing more is handled
		c.eng.Out.Send(0, &wire.ConnectionCloseOk{})
		c.nc.SetReadDeadline(time.Now().Add(closeWait)) // closing the socket is up to the client
		return false
	case *wire.ConnectionUpdateSecret:
		// Passwords do not expire here: there is nothing to update.
		c.eng.Out.Send(0, &wire.ConnectionUpdateSecretOk{})
		return false
	default:
		return c.fail(0, wire.ConnectionError(wire.ChannelErrorCode,
			"unexpected method in connection state running").On(m.ID()))
	}
}
