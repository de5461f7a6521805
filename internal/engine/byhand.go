package engine

import (
	"bytes"
	"context"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/wire"
)

// What the management API does to messages it does as a client would, on a
// connection that has no socket: so every rule holds that holds for clients. Such
// a connection is not listed, and lives for one call. Errors are those of the
// protocol (*wire.Error).

// handFrameMax is the frame size of messages that are published by hand.
const handFrameMax = 131072

// byHand runs f on a channel of such a connection.
func (e *Engine) byHand(vhost, user string, f func(*Channel) *wire.Error) error {
	c, err := e.Open(vhost, ConnInfo{User: user, FrameMax: handFrameMax, Hidden: true})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := f(c.OpenChannel(1)); err != nil {
		return err
	}
	return nil
}

// GetMessages polls at most count messages of a queue, hands each to a function
// until that returns false, and then does with all of them what is asked. Its
// messages are out while that goes on.
func (e *Engine) GetMessages(vhost, queue, user string, count int, what status.Disposal, each func(status.Message) bool) error {
	return e.byHand(vhost, user, func(ch *Channel) *wire.Error {
		got := false
		for range count {
			ok, err := ch.Get(queue, false)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			got = true
			b, derr := ch.conn.Out.drain()
			if derr != nil {
				return errStored()
			}
			m, err := readGetOk(b)
			if err != nil {
				return err
			}
			if !each(m) {
				break
			}
		}
		if !got {
			return nil
		}
		if what == status.Take {
			err := ch.Ack(0, true)
			ch.conn.Flush()
			return err
		}
		return ch.Nack(0, true, what == status.PutBack)
	})
}

// readGetOk reads the frames of a message that was polled.
func readGetOk(b []byte) (m status.Message, err *wire.Error) {
	wrong := func(error) (status.Message, *wire.Error) { return m, errStored() }
	for len(b) > 0 {
		f, n, ferr := wire.ParseFrame(b, 0)
		if ferr != nil || n == 0 {
			return wrong(ferr)
		}
		b = b[n:]
		switch f.Type {
		case wire.FrameMethod:
			method, derr := wire.DecodeMethod(f.Payload)
			ok, is := method.(*wire.BasicGetOk)
			if derr != nil || !is {
				return wrong(derr)
			}
			m.Exchange, m.Key, m.Redelivered, m.Left = ok.Exchange, ok.RoutingKey, ok.Redelivered, int(ok.MessageCount)
		case wire.FrameHeader:
			var perr error
			if m.Properties, perr = wire.ParseProperties(f.Payload[propertiesAt:]); perr != nil {
				return wrong(perr)
			}
		case wire.FrameBody:
			m.Body = append(m.Body, f.Payload...)
		}
	}
	return m, nil
}

func errStored() *wire.Error {
	return wire.ConnectionError(wire.InternalError, "a stored message cannot be read")
}

// propertiesAt is where the properties begin in a content header: behind class,
// weight and body size (specification 4.2.6.1).
const propertiesAt = 12

// PublishMessage publishes a message and waits until it is confirmed, for no
// longer than ctx lasts. It tells whether any queue was found for it.
func (e *Engine) PublishMessage(ctx context.Context, vhost, user string, p status.Publication) (routed bool, err error) {
	err = e.byHand(vhost, user, func(ch *Channel) *wire.Error {
		if e.alarm.up.Load() {
			return wire.ConnectionError(wire.ResourceError, "publishers are blocked: %s", e.alarm.reason())
		}
		rec := message.Build(nil, p.Exchange, p.Key, p.Properties.AppendTo(nil), p.Body, handFrameMax)
		view, serr := wire.ScanProps(rec.Props())
		if serr != nil {
			return wire.ConnectionError(wire.SyntaxError, "the properties cannot be encoded: %s", serr)
		}
		if err := ch.SelectConfirm(); err != nil {
			return err
		}
		if err := ch.Publish(rec, &view, true); err != nil {
			return err
		}
		ch.conn.Flush()
		stop := context.AfterFunc(ctx, ch.conn.Out.Close)
		defer stop()
		var err *wire.Error
		routed, err = ch.conn.awaitConfirm()
		return err
	})
	return routed, err
}

// awaitConfirm reads the connection's output up to the confirm of its only
// publish. A message that was returned was not routed.
func (c *Conn) awaitConfirm() (routed bool, err *wire.Error) {
	routed = true
	for {
		b, body, ok := c.Out.Next()
		if !ok {
			return false, wire.ConnectionError(wire.InternalError, "the message was not confirmed in time")
		}
		for rest := b; len(rest) > 0; {
			f, n, ferr := wire.ParseFrame(rest, 0)
			if ferr != nil || n == 0 {
				return false, wire.ConnectionError(wire.InternalError, "the broker's own output cannot be read")
			}
			rest = rest[n:]
			if f.Type != wire.FrameMethod {
				continue
			}
			switch wire.PeekMethod(f.Payload) {
			case wire.IDBasicReturn:
				routed = false
			case wire.IDBasicNack:
				return false, nil // refused by a queue that is full
			case wire.IDBasicAck:
				return routed, nil
			}
		}
		c.Out.Done(b, body)
	}
}

// PurgeQueue drops the ready messages of a queue.
func (e *Engine) PurgeQueue(vhost, queue, user string) error {
	return e.byHand(vhost, user, func(ch *Channel) *wire.Error {
		_, err := ch.Purge(queue)
		return err
	})
}

// Change carries out a method of the classes queue and exchange.
func (e *Engine) Change(vhost, user string, m wire.Method) error {
	return e.byHand(vhost, user, func(ch *Channel) *wire.Error {
		switch m := m.(type) {
		case *wire.QueueDeclare:
			_, err := ch.DeclareQueue(m)
			return err
		case *wire.QueueDelete:
			return ch.DeleteQueue(m, func(uint32) {})
		case *wire.QueueBind:
			return ch.BindQueue(m)
		case *wire.QueueUnbind:
			return ch.UnbindQueue(m)
		case *wire.ExchangeDeclare:
			return ch.DeclareExchange(m)
		case *wire.ExchangeDelete:
			return ch.DeleteExchange(m)
		case *wire.ExchangeBind:
			return ch.BindExchange(m)
		case *wire.ExchangeUnbind:
			return ch.UnbindExchange(m)
		}
		return wire.Unimplemented()
	})
}

// drain takes what has gathered, for a connection that has no writer.
func (o *Outbox) drain() ([]byte, error) {
	var all bytes.Buffer
	for o.anything() {
		b, body, ok := o.Next()
		if !ok {
			break
		}
		all.Write(b)
		var err error
		if body != nil {
			_, err = body.WriteTo(&all)
		}
		o.Done(b, body)
		if err != nil {
			return nil, err
		}
	}
	return all.Bytes(), nil
}

func (o *Outbox) anything() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) > 0
}
