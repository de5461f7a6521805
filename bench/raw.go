// Package bench drives a broker with a client that costs next to nothing, so
// that what is measured is the broker: frames are built once, written many at a
// time, and what comes back is scanned in place.
//
// The benchmarks are run with
//
//	go test -run '^$' -bench . ./bench
package bench

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/warrenmq/warren/internal/wire"
)

// Client is one connection with one channel, or several after OpenChannels. It
// allocates nothing once it is set up. One goroutine may read and another one
// write.
type Client struct {
	nc   net.Conn
	buf  []byte
	r, w int
	ack  []byte
	body []byte // of the last delivery, if it came in several frames
}

// channelNumber is the channel that Connect opens, and that calls without a
// channel use.
const channelNumber = 1

// frameMax is the frame size that a Client asks for.
const frameMax = 131072

// Connect logs in as guest and opens the channel.
func Connect(nc net.Conn) (*Client, error) {
	c := &Client{nc: nc, buf: make([]byte, 1<<18)}
	if _, err := nc.Write([]byte(wire.ProtocolHeader)); err != nil {
		return nil, err
	}
	steps := []struct {
		await wire.MethodID
		send  []wire.Method
	}{
		{wire.IDConnectionStart, []wire.Method{&wire.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"}}},
		{wire.IDConnectionTune, []wire.Method{
			&wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: frameMax}, &wire.ConnectionOpen{VirtualHost: "/"}}},
		{wire.IDConnectionOpenOk, nil},
	}
	for _, s := range steps {
		if err := c.Await(s.await); err != nil {
			return nil, err
		}
		for _, m := range s.send {
			if _, err := nc.Write(wire.AppendMethodFrame(nil, 0, m)); err != nil {
				return nil, err
			}
		}
	}
	return c, c.Call(&wire.ChannelOpen{}, wire.IDChannelOpenOk)
}

// Close drops the connection.
func (c *Client) Close() error { return c.nc.Close() }

// OpenChannels opens channels 2 to upTo.
func (c *Client) OpenChannels(upTo uint16) error {
	for n := uint16(channelNumber + 1); n <= upTo; n++ {
		if err := c.CallOn(n, &wire.ChannelOpen{}, wire.IDChannelOpenOk); err != nil {
			return err
		}
	}
	return nil
}

// CallOn is Call on another channel.
func (c *Client) CallOn(channel uint16, m wire.Method, answer wire.MethodID) error {
	if _, err := c.nc.Write(wire.AppendMethodFrame(nil, channel, m)); err != nil {
		return err
	}
	return c.Await(answer)
}

// Call sends a method on the channel and waits for its answer.
func (c *Client) Call(m wire.Method, answer wire.MethodID) error {
	return c.CallOn(channelNumber, m, answer)
}

// Await reads until a method comes, and fails if the broker closes instead.
func (c *Client) Await(id wire.MethodID) error {
	for {
		f, err := c.Next()
		if err != nil {
			return err
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		switch got := wire.PeekMethod(f.Payload); got {
		case id:
			return nil
		case wire.IDConnectionClose, wire.IDChannelClose:
			m, _ := wire.DecodeMethod(f.Payload)
			return fmt.Errorf("bench: waiting for %s, got %+v", id, m)
		}
	}
}

// Next returns the next frame; it is valid until the following call.
func (c *Client) Next() (wire.Frame, error) {
	for {
		f, n, err := wire.ParseFrame(c.buf[c.r:c.w], 0)
		if err != nil || n > 0 {
			c.r += n
			return f, err
		}
		if err := c.fill(); err != nil {
			return f, err
		}
	}
}

func (c *Client) fill() error {
	c.w = copy(c.buf, c.buf[c.r:c.w])
	c.r = 0
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// Publishes is the frames of count publishes to a queue, for Write.
func Publishes(queue string, count int, bodyBytes int, persistent bool) []byte {
	mode := uint8(1)
	if persistent {
		mode = 2
	}
	p := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: mode}
	one := wire.AppendContent(nil, channelNumber, &wire.BasicPublish{RoutingKey: queue}, &p, make([]byte, bodyBytes), frameMax)
	all := make([]byte, 0, count*len(one))
	for range count {
		all = append(all, one...)
	}
	return all
}

// Write sends prebuilt frames.
func (c *Client) Write(frames []byte) error {
	_, err := c.nc.Write(frames)
	return err
}

// Deliveries reads until count messages have been delivered, and acknowledges
// all of them at the end of each read if ack is set.
func (c *Client) Deliveries(count int, ack bool) error {
	var tag uint64
	for got := 0; got < count; {
		f, n, err := wire.ParseFrame(c.buf[c.r:c.w], 0)
		if err != nil {
			return err
		}
		if n > 0 {
			c.r += n
			if f.Type == wire.FrameMethod && wire.PeekMethod(f.Payload) == wire.IDBasicDeliver {
				tagAt := 5 + int(f.Payload[4])
				tag = binary.BigEndian.Uint64(f.Payload[tagAt:])
				got++
			}
			continue
		}
		if ack && tag > 0 {
			if err := c.Ack(tag); err != nil {
				return err
			}
			tag = 0
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	// What follows the last delivery's method is its content; the next call
	// skips it.
	if ack && tag > 0 {
		return c.Ack(tag)
	}
	return nil
}

// Ack acknowledges everything up to a delivery tag.
func (c *Client) Ack(tag uint64) error {
	if c.ack == nil {
		c.ack = wire.AppendMethodFrame(nil, channelNumber, &wire.BasicAck{Multiple: true})
	}
	binary.BigEndian.PutUint64(c.ack[wire.FrameHeaderSize+4:], tag)
	return c.Write(c.ack)
}

// Confirms reads until the publish with that number is confirmed.
func (c *Client) Confirms(upTo uint64) error {
	for {
		f, err := c.Next()
		if err != nil {
			return err
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		switch wire.PeekMethod(f.Payload) {
		case wire.IDBasicAck:
			if tag, _, _ := wire.ScanAck(f.Payload); tag >= upTo {
				return nil
			}
		case wire.IDBasicNack, wire.IDChannelClose, wire.IDConnectionClose:
			return fmt.Errorf("bench: not confirmed: %s", wire.PeekMethod(f.Payload))
		}
	}
}
