package session

import (
	"encoding/binary"

	"github.com/warrenmq/warren/internal/wire"
)

// mergeBelow is the payload size under which a body frame that is not the last
// is merged with its neighbour: a publisher that cuts its bodies into crumbs
// must not make the broker store (and every consumer read) eight bytes of
// framing for each.
const mergeBelow = 4096

// Content assembles a publish from its frames: basic.publish, content header,
// bodies. The result is the frames as they came, back to back, which is also
// the form in which a message is stored and delivered.
//
// While the frames stand next to each other in the read buffer, Content only
// points there; Detach copies before the buffer is reused, and so does the
// first frame that is not adjacent.
type Content struct {
	phase    phase
	owned    bool
	discard  bool   // the body is over the limit: count it, keep nothing
	diverted bool   // the body goes elsewhere
	raw      []byte // frames so far
	own      []byte // memory for raw once owned; kept for the next message
	left     uint64 // body bytes still to come
	size     uint64
	lastBody int // offset in raw of the last body frame's header, 0 for none; owned only
	maxFrame uint32
}

type phase uint8

const (
	idle phase = iota
	wantHeader
	wantBody
)

// maxKeptBytes bounds the assembly memory that a channel keeps between messages.
const maxKeptBytes = 64 << 10

// Busy tells whether a publish is being assembled: the next frame on the
// channel has to be its header or body.
func (c *Content) Busy() bool { return c.phase != idle }

// Begin starts with a whole basic.publish frame. maxFrame is the negotiated
// frame_max, the bound for merged body frames.
func (c *Content) Begin(frame []byte, maxFrame uint32) {
	c.phase, c.owned, c.discard, c.diverted, c.raw, c.lastBody = wantHeader, false, false, false, frame, 0
	c.maxFrame = maxFrame
}

// bodyCeiling is the announced body size that no configuration allows
// (RabbitMQ: 512 MiB); it is refused before the body comes.
const bodyCeiling = 512 << 20

// Header adds the content header frame. maxBody bounds the announced size: a
// larger body is read and dropped, and TooLarge tells so once the content is
// complete, as RabbitMQ does. done means the content is complete.
func (c *Content) Header(frame []byte, h *wire.HeaderView, maxBody uint64) (done bool, err *wire.Error) {
	if h.Weight != 0 {
		return false, c.WrongFrame()
	}
	if h.Class != 60 {
		return false, wire.ConnectionError(wire.UnexpectedFrame,
			"expected content header for class 60, got one for class %d instead", h.Class).On(wire.IDBasicPublish)
	}
	if h.BodySize > bodyCeiling {
		return false, wire.ConnectionError(wire.FrameErrorCode,
			"content body size %d exceeds maximum allowed size %d", h.BodySize, bodyCeiling).On(wire.IDBasicPublish)
	}
	c.size, c.left = h.BodySize, h.BodySize
	c.discard = h.BodySize > maxBody
	c.add(frame)
	if c.left == 0 {
		c.phase = idle
		return true, nil
	}
	c.phase = wantBody
	return false, nil
}

// WrongFrame is the error for a frame that is not what the content needs next.
func (c *Content) WrongFrame() *wire.Error {
	if c.phase == wantHeader {
		return wire.ConnectionError(wire.UnexpectedFrame,
			"expected content header for class 60, got non content header frame instead").On(wire.IDBasicPublish)
	}
	return wire.ConnectionError(wire.UnexpectedFrame,
		"expected content body, got non content body frame instead").On(wire.IDBasicPublish)
}

// WantsHeader tells whether the next frame has to be the content header.
func (c *Content) WantsHeader() bool { return c.phase == wantHeader }

// Body adds a body frame. done means the message is complete.
func (c *Content) Body(frame []byte) (done bool, err *wire.Error) {
	payload := len(frame) - wire.FrameOverhead
	if uint64(payload) > c.left {
		return false, wire.ConnectionError(wire.FrameErrorCode, "content body frame exceeds remaining content size").On(wire.IDBasicPublish)
	}
	if payload == 0 {
		return false, nil
	}
	c.left -= uint64(payload)
	if c.discard || c.diverted {
		return c.finish(), nil
	}
	if payload < mergeBelow && (c.left > 0 || c.lastBody > 0) && !c.owned {
		c.Detach()
	}
	if c.owned && c.lastBody > 0 && c.merge(frame) {
		return c.finish(), nil
	}
	if c.owned {
		c.lastBody = len(c.raw)
	}
	c.add(frame)
	return c.finish(), nil
}

// Divert tells, after Header, that the caller takes the body, from every frame that
// Body then accepts. Raw is the publish and its header only.
func (c *Content) Divert() { c.diverted = c.phase == wantBody && !c.discard }

// Diverted tells whether the caller takes the body.
func (c *Content) Diverted() bool { return c.diverted }

// Kept tells whether a body will be kept that is still to come.
func (c *Content) Kept() bool { return c.phase == wantBody && !c.discard }

// TooLarge is the error for a complete content whose body was over the limit,
// nil for any other.
func (c *Content) TooLarge(maxBody uint64) *wire.Error {
	if !c.discard {
		return nil
	}
	return wire.ChannelError(wire.PreconditionFailed,
		"message size %d is larger than configured max size %d", c.size, maxBody)
}

func (c *Content) finish() bool {
	if c.left == 0 {
		c.phase = idle
		return true
	}
	return false
}

// merge appends frame's payload to the last body frame if either is a crumb and
// both fit one frame.
func (c *Content) merge(frame []byte) bool {
	payload := frame[wire.FrameHeaderSize : len(frame)-1]
	head := c.raw[c.lastBody:]
	have := int(binary.BigEndian.Uint32(head[3:]))
	if have >= mergeBelow && len(payload) >= mergeBelow ||
		c.maxFrame > 0 && have+len(payload)+wire.FrameOverhead > int(c.maxFrame) {
		return false
	}
	binary.BigEndian.PutUint32(head[3:], uint32(have+len(payload)))
	c.raw = append(c.raw[:len(c.raw)-1], payload...)
	c.raw = append(c.raw, wire.FrameEnd)
	c.own = c.raw
	return true
}

// add appends a whole frame, without copying while frames stay adjacent.
func (c *Content) add(frame []byte) {
	if !c.owned {
		n := len(c.raw)
		if n+len(frame) <= cap(c.raw) && &c.raw[:n+1][n] == &frame[0] {
			c.raw = c.raw[:n+len(frame)]
			return
		}
		c.Detach()
	}
	c.raw = append(c.raw, frame...)
	c.own = c.raw
}

// Detach copies what points into the read buffer, because the buffer is about
// to be reused.
func (c *Content) Detach() {
	if c.phase == idle || c.owned {
		return
	}
	c.own = append(c.own[:0], c.raw...)
	c.raw = c.own
	c.owned = true
}

// Raw is the complete message's frames. It is valid until the next Begin, or
// until the read buffer is reused.
func (c *Content) Raw() []byte { return c.raw }

// Owned tells whether Raw stands in the channel's own memory, which the next
// Begin overwrites, and not in the read buffer.
func (c *Content) Owned() bool { return c.owned }

// Abandon drops what was assembled, because the channel closes.
func (c *Content) Abandon() {
	*c = Content{own: c.own[:0]}
	if cap(c.own) > maxKeptBytes {
		c.own = nil
	}
}

// Trim gives back assembly memory after a large message.
func (c *Content) Trim() {
	if c.phase == idle && cap(c.own) > maxKeptBytes {
		c.own, c.raw = nil, nil
	}
}

// HeldBytes is the memory that holds a content that is being assembled.
func (c *Content) HeldBytes() int {
	if c.phase == idle || !c.owned {
		return 0
	}
	return cap(c.own)
}
