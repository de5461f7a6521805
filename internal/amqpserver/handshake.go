package amqpserver

import (
	"bytes"
	"net"
	"runtime"
	"time"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

// preAuthFrameMax bounds frames before tune-ok (RabbitMQ: initial_frame_max).
const preAuthFrameMax = 8192

// handshake runs from the protocol header to connection.open-ok. RabbitMQ says
// nothing to a client that gets it wrong before it is logged in: the socket
// closes, and the log knows why. So do we.
func (c *conn) handshake() bool {
	c.nc.SetDeadline(time.Now().Add(c.srv.cfg.HandshakeTimeout))
	if !c.protocolHeader() {
		return false
	}
	c.writeNow(0, &wire.ConnectionStart{
		VersionMajor: 0, VersionMinor: 9, ServerProperties: serverProperties(c.srv.cfg.Version),
		Mechanisms: auth.Mechanisms, Locales: "en_US",
	})
	startOk, ok := expect[*wire.ConnectionStartOk](c)
	if !ok {
		return false
	}
	c.caps, c.properties, c.mechanism = capabilitiesOf(startOk.ClientProperties), startOk.ClientProperties, startOk.Mechanism
	user, ok := c.login(startOk)
	if !ok {
		return false
	}
	cfg := &c.srv.cfg
	c.writeNow(0, &wire.ConnectionTune{ChannelMax: cfg.ChannelMax, FrameMax: cfg.FrameMax, Heartbeat: cfg.HeartbeatSeconds})
	tuneOk, ok := expect[*wire.ConnectionTuneOk](c)
	if !ok || !c.tune(tuneOk) {
		return false
	}
	open, ok := expect[*wire.ConnectionOpen](c)
	if !ok {
		return false
	}
	return c.open(user, open.VirtualHost)
}

// protocolHeader reads the 8 octets a client begins with (specification 4.2.2).
// Anything but AMQP 0-9-1 (or 0-9, as old clients write it) is answered with
// the header that we do speak.
func (c *conn) protocolHeader() bool {
	for c.w < len(wire.ProtocolHeader) {
		// One octet that fits no header is enough to answer: a client of
		// another protocol may wait for us before it sends eight.
		if c.w > 0 && !bytes.HasPrefix([]byte("AMQP"), c.buf[:min(c.w, 4)]) {
			break
		}
		n, err := c.nc.Read(c.buf[c.w:])
		c.w += n
		if err != nil && n == 0 {
			return false
		}
	}
	head := c.buf[:min(c.w, 8)]
	if bytes.Equal(head, []byte(wire.ProtocolHeader)) || bytes.Equal(head, []byte("AMQP\x01\x01\x00\x09")) {
		c.r = 8
		return true
	}
	c.srv.logger.Info("connection refused: not AMQP 0-9-1", "peer", c.peer, "header", string(head))
	c.nc.Write([]byte(wire.ProtocolHeader))
	return false
}

func serverProperties(version string) wire.Table {
	caps := wire.Table{}
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
		"connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
		"direct_reply_to",
	} {
		caps = append(caps, wire.Field{Key: name, Value: true})
	}
	return wire.Table{
		{Key: "capabilities", Value: caps},
		{Key: "cluster_name", Value: "warren"},
		{Key: "copyright", Value: "Copyright the WarrenMQ authors"},
		{Key: "information", Value: "Licensed under the Apache License 2.0"},
		{Key: "platform", Value: runtime.Version()},
		{Key: "product", Value: "WarrenMQ"},
		{Key: "version", Value: version},
	}
}

func capabilitiesOf(props wire.Table) (caps capabilities) {
	v, _ := props.Get("capabilities")
	t, _ := v.(wire.Table)
	has := func(name string) bool {
		v, _ := t.Get(name)
		b, _ := v.(bool)
		return b
	}
	caps.authFailureClose = has("authentication_failure_close")
	caps.cancelNotify = has("consumer_cancel_notify")
	caps.blocked = has("connection.blocked")
	return caps
}

func (c *conn) login(m *wire.ConnectionStartOk) (user string, ok bool) {
	user, f := c.srv.cfg.Users.Authenticate(m.Mechanism, []byte(m.Response), c.loopback())
	if f == nil {
		return user, true
	}
	c.srv.logger.Warn("login refused", "peer", c.peer, "error", f)
	if f.Announced && c.caps.authFailureClose {
		c.refuse(f.Err)
		return "", false
	}
	// Slow down guessing. A client that hangs up meanwhile ends the wait.
	c.nc.SetReadDeadline(time.Now().Add(auth.SilentCloseDelay))
	c.nc.Read(c.buf)
	return "", false
}

// tune takes the client's choice. The client's heartbeat counts as it is. We
// accept a frame_max from 4096 on, as the specification says and RabbitMQ did
// before 4.1; 0 is no limit, which only a server without limit may agree to.
func (c *conn) tune(m *wire.ConnectionTuneOk) bool {
	cfg := &c.srv.cfg
	switch {
	case m.FrameMax < wire.FrameMinSize:
		c.srv.logger.Warn("connection refused: negotiated frame_max is lower than the minimum allowed value",
			"peer", c.peer, "frame_max", m.FrameMax, "minimum", wire.FrameMinSize)
		return false
	case m.FrameMax > cfg.FrameMax:
		c.srv.logger.Warn("connection refused: negotiated frame_max is higher than the maximum allowed value",
			"peer", c.peer, "frame_max", m.FrameMax, "maximum", cfg.FrameMax)
		return false
	case m.ChannelMax == 0 || m.ChannelMax > cfg.ChannelMax:
		c.srv.logger.Warn("connection refused: negotiated channel_max is higher than the maximum allowed value",
			"peer", c.peer, "channel_max", m.ChannelMax, "maximum", cfg.ChannelMax)
		return false
	}
	c.frameMax, c.channelMax = m.FrameMax, m.ChannelMax
	c.pulse.seconds = m.Heartbeat
	return true
}

func (c *conn) open(user, vhost string) bool {
	if !c.srv.cfg.Engine.HasVHost(vhost) {
		c.refuse(engine.ErrNoVHost(vhost).On(wire.IDConnectionOpen))
		return false
	}
	if err := c.srv.cfg.Users.CheckVhost(user, vhost); err != nil {
		c.refuse(err.On(wire.IDConnectionOpen))
		return false
	}
	if c.srv.cfg.Engine.Err() != nil {
		// Nothing could be confirmed any more, and what is published would only
		// fill the memory.
		c.refuse(wire.ConnectionError(wire.InternalError, "the broker's disk has failed").On(wire.IDConnectionOpen))
		return false
	}
	eng, err := c.srv.cfg.Engine.Open(vhost, engine.ConnInfo{
		User: user, FrameMax: c.frameMax, CancelNotify: c.caps.cancelNotify, BlockedNotify: c.caps.blocked,
		Peer: endpoint(c.nc.RemoteAddr()), Local: endpoint(c.nc.LocalAddr()), Properties: c.properties,
		Mechanism: c.mechanism, ChannelMax: c.channelMax, HeartbeatSeconds: c.pulse.seconds,
	})
	if err != nil {
		c.refuse(err.On(wire.IDConnectionOpen))
		return false
	}
	c.eng = eng
	c.nc.SetDeadline(time.Time{})
	c.ready.Store(true)
	eng.Out.Send(0, &wire.ConnectionOpenOk{})
	return true
}

// endpoint is an address as others are told it.
func endpoint(a net.Addr) engine.Endpoint {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return engine.Endpoint{Host: tcp.IP.String(), Port: tcp.Port}
	}
	return engine.Endpoint{Host: a.String()}
}

// refuse sends connection.close during the handshake and waits a moment for the
// client to read it.
func (c *conn) refuse(e *wire.Error) {
	c.writeNow(0, closeMethod(e))
	c.nc.SetReadDeadline(time.Now().Add(closeWait))
	for {
		f, err := c.nextFrame()
		if err != nil || f.Type == wire.FrameMethod && wire.PeekMethod(f.Payload) == wire.IDConnectionCloseOk {
			return
		}
	}
}

func (c *conn) writeNow(channel uint16, m wire.Method) {
	c.nc.Write(wire.AppendMethodFrame(nil, channel, m)) // a failure shows at the next read
}

// nextFrame reads one frame during the handshake.
func (c *conn) nextFrame() (wire.Frame, error) {
	for {
		f, n, err := wire.ParseFrame(c.buf[c.r:c.w], c.frameMax)
		if err != nil || n > 0 {
			c.r += n
			return f, err
		}
		c.settle(false)
		n, err = c.nc.Read(c.buf[c.w:])
		c.w += n
		if err != nil && n == 0 {
			return wire.Frame{}, err
		}
	}
}

// expect reads the one method that may come now. A client may also close, or
// send heartbeats.
func expect[M wire.Method](c *conn) (m M, ok bool) {
	for {
		f, err := c.nextFrame()
		if err != nil {
			c.srv.logger.Info("connection ended in the handshake", "peer", c.peer, "error", err)
			return m, false
		}
		if f.Type == wire.FrameHeartbeat {
			continue
		}
		if f.Type != wire.FrameMethod || f.Channel != 0 {
			c.refuseUnexpected(f)
			return m, false
		}
		got, err := wire.DecodeMethod(f.Payload)
		if err != nil {
			c.srv.logger.Info("connection ended in the handshake", "peer", c.peer, "error", err)
			return m, false
		}
		if m, ok = got.(M); ok {
			return m, true
		}
		c.refuseUnexpected(f)
		return m, false
	}
}

// refuseUnexpected ends a handshake that has gone out of step. Once the client
// is logged in and tuned it is told.
func (c *conn) refuseUnexpected(f wire.Frame) {
	c.srv.logger.Info("unexpected frame in the handshake", "peer", c.peer, "frame", wire.FrameText(f.Type, f.Payload))
	if c.channelMax == 0 {
		return
	}
	if f.Channel == 0 && f.Type == wire.FrameMethod {
		c.refuse(wire.ConnectionError(wire.ChannelErrorCode, "unexpected method in connection state opening").On(wire.PeekMethod(f.Payload)))
		return
	}
	c.refuse(wire.ConnectionError(wire.UnexpectedFrame, "%s", wire.FrameText(f.Type, f.Payload)))
}
