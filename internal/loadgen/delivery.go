package loadgen

import (
	"encoding/binary"
	"fmt"

	"github.com/warrenmq/warren/internal/wire"
)

// AppendPublish appends the frames of one publish.
func AppendPublish(dst []byte, channel uint16, exchange, key string, persistent bool, body []byte) []byte {
	p := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 1}
	if persistent {
		p.DeliveryMode = 2
	}
	return wire.AppendContent(dst, channel, &wire.BasicPublish{Exchange: exchange, RoutingKey: key}, &p, body, frameMax)
}

// Delivery is one message as it came.
type Delivery struct {
	Tag         uint64
	Redelivered bool
	Body        []byte // valid until the following read
}

// NextDelivery reads up to the end of the next delivery. What comes in between,
// such as answers, is skipped; a close is an error. before, if set, is called
// each time before the client has to wait for more bytes.
func (c *Client) NextDelivery(before func() error) (Delivery, error) {
	for {
		f, err := c.frame(before)
		if err != nil {
			return Delivery{}, err
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		switch wire.PeekMethod(f.Payload) {
		case wire.IDBasicDeliver:
			at := 5 + int(f.Payload[4])
			d := Delivery{Tag: binary.BigEndian.Uint64(f.Payload[at:]), Redelivered: f.Payload[at+8] != 0}
			d.Body, err = c.content(before)
			return d, err
		case wire.IDConnectionClose, wire.IDChannelClose:
			return Delivery{}, closed(f.Payload)
		}
	}
}

// frame is Next with a call before each wait.
func (c *Client) frame(before func() error) (wire.Frame, error) {
	for {
		f, n, err := wire.ParseFrame(c.buf[c.r:c.w], 0)
		if err != nil || n > 0 {
			c.r += n
			return f, err
		}
		if before != nil {
			if err := before(); err != nil {
				return f, err
			}
		}
		if err := c.fill(); err != nil {
			return f, err
		}
	}
}

// content reads a header frame and the body frames that follow it.
func (c *Client) content(before func() error) ([]byte, error) {
	f, err := c.frame(before)
	if err != nil {
		return nil, err
	}
	if f.Type != wire.FrameHeader || len(f.Payload) < 12 {
		return nil, fmt.Errorf("a frame of type %d where a content header belongs", f.Type)
	}
	size := binary.BigEndian.Uint64(f.Payload[4:])
	c.body = c.body[:0]
	for uint64(len(c.body)) < size {
		f, err := c.frame(before)
		if err != nil {
			return nil, err
		}
		if f.Type != wire.FrameBody {
			return nil, fmt.Errorf("a frame of type %d where a body belongs", f.Type)
		}
		if uint64(len(f.Payload)) == size {
			return f.Payload, nil
		}
		c.body = append(c.body, f.Payload...)
	}
	return c.body, nil
}

// Confirmation is a confirm or a refusal of one publish, or of all up to it.
type Confirmation struct {
	Channel  uint16
	Tag      uint64
	Multiple bool
	Refused  bool
}

// NextConfirmation reads up to the next confirm; a close is an error. before is
// as for NextDelivery.
func (c *Client) NextConfirmation(before func() error) (Confirmation, error) {
	for {
		f, err := c.frame(before)
		if err != nil {
			return Confirmation{}, err
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		switch wire.PeekMethod(f.Payload) {
		case wire.IDBasicAck:
			tag, multiple, _ := wire.ScanAck(f.Payload)
			return Confirmation{f.Channel, tag, multiple, false}, nil
		case wire.IDBasicNack:
			tag := binary.BigEndian.Uint64(f.Payload[4:])
			return Confirmation{f.Channel, tag, f.Payload[12]&1 != 0, true}, nil
		case wire.IDConnectionClose, wire.IDChannelClose:
			return Confirmation{}, closed(f.Payload)
		}
	}
}
