package loadgen

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/warrenmq/warren/internal/wire"
)

// Client is one connection with one channel, or several after OpenChannels. It
// allocates nothing once it is set up. One goroutine may read and another one
// write.
type Client struct {
	nc       net.Conn
	buf      []byte
	r, w     int
	ack      []byte
	body     []byte // of the last delivery, if it came in several frames
	frameMax uint32 // bytes of a frame, as agreed
	server   wire.Table
	cut      atomic.Bool // a write did not get through, perhaps in the middle of a frame
}

// channelNumber is the channel that Connect opens, and that calls without a
// channel use.
const channelNumber = 1

// frameMax is the frame size, in bytes, that a Client asks for. The buffer that a
// read fills begins small, because some loads are nothing but connections, and has
// its full size once a read has filled it. It must hold a frame then.
const (
	frameMax       = 128 << 10
	firstReadBytes = 4 << 10
	readBytes      = 256 << 10
)

// Login is who a Client says it is, and what it connects to.
type Login struct {
	User, Password string
	VHost          string
	Name           string // connection name, for the broker's lists
}

// Connect logs in as guest to the vhost / and opens the channel.
func Connect(nc net.Conn) (*Client, error) {
	return Handshake(nc, Login{User: "guest", Password: "guest", VHost: "/"})
}

// Handshake logs in and opens the channel. Heartbeats are switched off: a load
// has traffic of its own. After an error nc is still open.
func Handshake(nc net.Conn, l Login) (*Client, error) {
	c := &Client{nc: nc, buf: make([]byte, firstReadBytes), frameMax: frameMax}
	if _, err := nc.Write([]byte(wire.ProtocolHeader)); err != nil {
		return nil, err
	}
	var start *wire.ConnectionStart
	if err := await(c, wire.IDConnectionStart, &start); err != nil {
		return nil, err
	}
	c.server = start.ServerProperties
	if err := c.send(0, &wire.ConnectionStartOk{
		ClientProperties: wire.Table{
			{Key: "product", Value: "warren bench"}, {Key: "connection_name", Value: l.Name},
			{Key: "capabilities", Value: wire.Table{
				{Key: "connection.blocked", Value: true}, {Key: "basic.nack", Value: true},
				{Key: "consumer_cancel_notify", Value: true}, {Key: "authentication_failure_close", Value: true}}},
		},
		Mechanism: "PLAIN", Response: "\x00" + l.User + "\x00" + l.Password, Locale: "en_US",
	}); err != nil {
		return nil, err
	}
	var tune *wire.ConnectionTune
	if err := await(c, wire.IDConnectionTune, &tune); err != nil {
		return nil, err
	}
	channels := uint16(2047)
	if tune.ChannelMax != 0 {
		channels = min(channels, tune.ChannelMax)
	}
	if tune.FrameMax != 0 {
		c.frameMax = min(c.frameMax, tune.FrameMax)
	}
	// Nothing is to be waited for in between.
	both := wire.AppendMethodFrame(nil, 0, &wire.ConnectionTuneOk{ChannelMax: channels, FrameMax: c.frameMax})
	if err := c.Write(wire.AppendMethodFrame(both, 0, &wire.ConnectionOpen{VirtualHost: l.VHost})); err != nil {
		return nil, err
	}
	if err := c.Await(wire.IDConnectionOpenOk); err != nil {
		return nil, err
	}
	return c, c.Call(&wire.ChannelOpen{}, wire.IDChannelOpenOk)
}

// Server is the product and version that the broker gave itself, such as
// "RabbitMQ 4.3.0".
func (c *Client) Server() string {
	product, _ := c.server.Get("product")
	version, _ := c.server.Get("version")
	return strings.TrimSpace(fmt.Sprintf("%v %v", product, version))
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
	if err := c.send(channel, m); err != nil {
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
	var m wire.Method
	return await(c, id, &m)
}

// await is Await that hands over the method.
func await[M wire.Method](c *Client, id wire.MethodID, to *M) error {
	for {
		f, err := c.Next()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", id, err)
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		switch wire.PeekMethod(f.Payload) {
		case id:
			m, err := wire.DecodeMethod(f.Payload)
			if err != nil {
				return fmt.Errorf("reading %s: %w", id, err)
			}
			*to = m.(M)
			return nil
		case wire.IDConnectionClose, wire.IDChannelClose:
			return closed(f.Payload)
		}
	}
}

// CloseError is a connection or a channel that the broker has closed.
type CloseError struct {
	Code    int
	Text    string
	Channel bool // only the channel
}

func (e *CloseError) Error() string { return fmt.Sprintf("%s (%d)", e.Text, e.Code) }

// closed reads a close method.
func closed(payload []byte) error {
	m, err := wire.DecodeMethod(payload)
	if err != nil {
		return fmt.Errorf("the broker closed, and its reason cannot be read: %w", err)
	}
	switch m := m.(type) {
	case *wire.ConnectionClose:
		return &CloseError{Code: int(m.ReplyCode), Text: m.ReplyText}
	case *wire.ChannelClose:
		return &CloseError{Code: int(m.ReplyCode), Text: m.ReplyText, Channel: true}
	}
	return fmt.Errorf("the broker closed with %s", m.ID())
}

func (c *Client) send(channel uint16, m wire.Method) error {
	_, err := c.nc.Write(wire.AppendMethodFrame(nil, channel, m))
	return err
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
	if c.w == len(c.buf) && len(c.buf) < readBytes {
		c.buf = append(make([]byte, 0, readBytes), c.buf[:c.w]...)[:readBytes]
	}
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
	if err != nil {
		c.cut.Store(true)
	}
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
func (c *Client) Ack(tag uint64) error { return c.ackOne(tag, true) }

// ackOne acknowledges a delivery, or with multiple all up to it.
func (c *Client) ackOne(tag uint64, multiple bool) error {
	if c.ack == nil {
		c.ack = wire.AppendMethodFrame(nil, channelNumber, &wire.BasicAck{})
	}
	const tagAt = wire.FrameHeaderSize + 4
	binary.BigEndian.PutUint64(c.ack[tagAt:], tag)
	c.ack[tagAt+8] = 0
	if multiple {
		c.ack[tagAt+8] = 1
	}
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
			return fmt.Errorf("not confirmed: %s", wire.PeekMethod(f.Payload))
		}
	}
}
