package amqpserver

import (
	"encoding/binary"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

// channel is one open or closing channel.
type channel struct {
	id        uint16
	eng       *engine.Channel // nil while closing
	content   session.Content
	mandatory bool
	listed    bool // in conn.busy
	// closedByBoth: the client's channel.close crossed ours.
	closedByBoth bool
}

// channelSet is a connection's channels by number. The one that was asked for last
// is at hand: the three frames of a message ask for the same one.
type channelSet struct {
	byID map[uint16]*channel
	last *channel
}

func (s *channelSet) get(id uint16) *channel {
	if s.last != nil && s.last.id == id {
		return s.last
	}
	ch := s.byID[id]
	if ch != nil {
		s.last = ch
	}
	return ch
}

func (s *channelSet) add(ch *channel) { s.byID[ch.id] = ch }

func (s *channelSet) remove(id uint16) {
	delete(s.byID, id)
	s.last = nil
}

// handleFrame handles one frame. frame is all of it; its capacity reaches to the
// end of the read buffer. It reports true when the connection is over.
func (c *conn) handleFrame(f wire.Frame, frame []byte) (over bool) {
	if f.Channel == 0 || c.closing {
		return c.handleChannelZero(f)
	}
	ch := c.channels.get(f.Channel)
	if ch == nil {
		return c.handleUnopened(f)
	}
	if ch.eng == nil {
		return c.handleClosingChannel(ch, f)
	}
	var err *wire.Error
	switch f.Type {
	case wire.FrameMethod:
		if len(f.Payload) < 4 {
			err = unknownFrame(f)
		} else {
			err = c.handleMethodFrame(ch, f, frame)
		}
	case wire.FrameHeader:
		err = c.handleHeader(ch, f, frame)
	case wire.FrameBody:
		err = c.handleBody(ch, frame)
	default:
		err = badFrame(f)
	}
	if err != nil {
		return c.fail(f.Channel, err)
	}
	return false
}

// badFrame is the error for a frame type that does not belong on a channel.
func badFrame(f wire.Frame) *wire.Error {
	if f.Type == wire.FrameHeartbeat && len(f.Payload) == 0 {
		return wire.ConnectionError(wire.UnexpectedFrame, "%s", wire.FrameText(f.Type, f.Payload))
	}
	return unknownFrame(f)
}

func unknownFrame(f wire.Frame) *wire.Error {
	return wire.ConnectionError(wire.FrameErrorCode, "%s", wire.UnknownFrameText(f.Type, f.Payload))
}

// handleUnopened handles a frame on a channel that is not open.
func (c *conn) handleUnopened(f wire.Frame) (over bool) {
	switch f.Type {
	case wire.FrameMethod:
		if len(f.Payload) < 4 {
			return c.fail(0, unknownFrame(f))
		}
		m, err := wire.DecodeMethod(f.Payload)
		if err != nil {
			return c.failDecode(err)
		}
		if _, ok := m.(*wire.ChannelOpen); !ok {
			return c.fail(0, wire.ConnectionError(wire.ChannelErrorCode, "expected 'channel.open'").On(m.ID()))
		}
		if c.eng.ChannelCount() >= int(c.channelMax) {
			return c.fail(0, wire.ConnectionError(wire.NotAllowed,
				"number of channels opened (%d) has reached the negotiated channel_max (%d)", c.eng.ChannelCount(), c.channelMax))
		}
		c.channels.add(&channel{id: f.Channel, eng: c.eng.OpenChannel(f.Channel)})
		c.eng.Out.Send(f.Channel, &wire.ChannelOpenOk{})
		return false
	case wire.FrameHeader, wire.FrameBody:
		return c.fail(0, wire.ConnectionError(wire.UnexpectedFrame, "expected method frame, got non method frame instead"))
	}
	return c.fail(0, badFrame(f))
}

// handleClosingChannel waits for the end of a channel that we have closed.
// Everything else that the client had under way for it is ignored.
//
// A client that closes the channel at the same moment gets its answer, and will
// still answer our close, or else open the channel anew.
func (c *conn) handleClosingChannel(ch *channel, f wire.Frame) (over bool) {
	if f.Type != wire.FrameMethod {
		return false
	}
	switch wire.PeekMethod(f.Payload) {
	case wire.IDChannelCloseOk:
		c.channels.remove(ch.id)
	case wire.IDChannelClose:
		ch.closedByBoth = true
		c.eng.Out.Send(ch.id, &wire.ChannelCloseOk{})
	case wire.IDChannelOpen:
		if ch.closedByBoth {
			c.channels.remove(ch.id)
			return c.handleUnopened(f)
		}
	}
	return false
}

// handleMethodFrame handles a method on an open channel. The two methods of the
// hot path are read in place; everything else first applies what was gathered.
func (c *conn) handleMethodFrame(ch *channel, f wire.Frame, frame []byte) *wire.Error {
	if ch.content.Busy() {
		return ch.content.WrongFrame()
	}
	switch wire.MethodID(binary.BigEndian.Uint32(f.Payload)) {
	case wire.IDBasicPublish:
		v, ok := wire.ScanPublish(f.Payload)
		if !ok {
			break // the decoder below says what is wrong
		}
		if v.Immediate {
			return wire.ConnectionError(wire.NotImplemented, "immediate=true").On(wire.IDBasicPublish)
		}
		ch.mandatory = v.Mandatory
		ch.content.Begin(frame[:len(frame):cap(frame)], c.frameMax)
		if !ch.listed {
			ch.listed = true
			c.busy = append(c.busy, ch)
		}
		return nil
	case wire.IDBasicAck:
		tag, multiple, ok := wire.ScanAck(f.Payload)
		if !ok {
			break
		}
		if err := ch.eng.Ack(tag, multiple); err != nil {
			return err.On(wire.IDBasicAck)
		}
		return nil
	}
	m, err := wire.DecodeMethod(f.Payload)
	if err != nil {
		return decodeError(err)
	}
	c.eng.Flush()
	if werr := c.handleMethod(ch, m); werr != nil {
		if werr.Method == 0 {
			werr = werr.On(m.ID())
		}
		return werr
	}
	// One read may hold a thousand small questions with large answers.
	c.eng.Out.WaitRoom()
	return nil
}

func (c *conn) handleHeader(ch *channel, f wire.Frame, frame []byte) *wire.Error {
	if !ch.content.WantsHeader() {
		if ch.content.Busy() {
			return ch.content.WrongFrame()
		}
		return wire.ConnectionError(wire.UnexpectedFrame, "expected method frame, got non method frame instead")
	}
	h, err := wire.ScanHeader(f.Payload)
	if err != nil {
		if len(f.Payload) < 12 {
			return unknownFrame(f)
		}
		return badProperties()
	}
	done, werr := ch.content.Header(frame, &h, c.srv.cfg.MaxMessageBytes)
	if werr != nil || !done {
		if werr == nil && ch.content.Kept() {
			c.divert(ch)
		}
		return werr
	}
	return c.publish(ch)
}

// divert lets a large body go to the disk as it comes, if the engine wants that.
func (c *conn) divert(ch *channel) {
	rec := message.Record(ch.content.Raw())
	props, err := wire.ScanProps(rec.Props())
	if err != nil {
		return // told once the content is complete
	}
	if ch.eng.BeginUpload(rec.BodyBytes(), &props) {
		ch.content.Divert()
	}
}

func (c *conn) handleBody(ch *channel, frame []byte) *wire.Error {
	if !ch.content.Busy() {
		return wire.ConnectionError(wire.UnexpectedFrame, "expected method frame, got non method frame instead")
	}
	if ch.content.WantsHeader() {
		return ch.content.WrongFrame()
	}
	done, err := ch.content.Body(frame)
	if err == nil && ch.content.Diverted() {
		ch.eng.Upload(frame[wire.FrameHeaderSize : len(frame)-1])
	}
	if err != nil || !done {
		return err
	}
	return c.publish(ch)
}

// publish hands a complete message to the engine.
func (c *conn) publish(ch *channel) *wire.Error {
	rec := message.Record(ch.content.Raw())
	props, err := wire.ScanProps(rec.Props())
	if err != nil {
		return badProperties()
	}
	if err := ch.content.TooLarge(c.srv.cfg.MaxMessageBytes); err != nil {
		return err.On(wire.IDBasicPublish)
	}
	if err := ch.eng.Publish(rec, &props, ch.mandatory); err != nil {
		return err.On(wire.IDBasicPublish)
	}
	if ch.content.Owned() {
		c.eng.Flush() // the next content of this channel uses the same memory
	}
	return nil
}

// badProperties is RabbitMQ's answer to a content header it cannot decode.
func badProperties() *wire.Error { return wire.ConnectionError(wire.InternalError, "") }

// knownClass tells whether the protocol has a class of that id.
func knownClass(class uint16) bool {
	switch class {
	case 10, 20, 30, 40, 50, 60, 85, 90:
		return true
	}
	return false
}

func decodeError(err error) *wire.Error {
	de := err.(*wire.DecodeError)
	if de.Kind == wire.UnknownMethod && !knownClass(de.Method.Class()) {
		return wire.Unimplemented().On(de.Method)
	}
	return wire.ConnectionError(wire.FrameErrorCode, "%s", de.Text()).On(de.Method)
}
