package reliabletest

import (
	"maps"
	"slices"

	"github.com/warrenmq/warren/internal/wire"
)

// record is what was said on all lines.
type record struct {
	events   uint64     // grows with each frame
	messages []*Message // what the program published, in the order of the publishes
	open     int        // publishes that wait for their confirm
	lines    map[*line]bool
	// orphans are queues whose consumers were lost and have not come back.
	orphans map[string]bool
}

func (r *record) begin() {
	r.lines = make(map[*line]bool)
	r.orphans = make(map[string]bool)
}

// channel is one channel of a line.
type channel struct {
	consumers map[string]string // queues, by consumer tag
	confirms  bool
	published uint64 // publishes since confirm.select
	open      []sent // those without a confirm, in their order

	outgoing *content // a publish whose body is not complete
	incoming *content // a return whose properties have not come
}

// sent is a publish that waits for its confirm.
type sent struct {
	tag uint64
	m   *Message
}

// content is a message of which more is to come.
type content struct {
	m        *Message
	bodySize uint64
}

// channel returns the state of a channel. Called with b.mu held.
func (l *line) channel(n uint16) *channel {
	c := l.channels[n]
	if c == nil {
		c = &channel{consumers: make(map[string]string)}
		l.channels[n] = c
	}
	return c
}

// fromProgram looks at a frame on its way to the broker.
func (l *line) fromProgram(f wire.Frame) (pass bool) {
	b := l.b
	b.mu.Lock()
	if l.over || !l.own && b.cuts(f, true) {
		b.mu.Unlock()
		return false
	}
	b.record.events++
	b.record.lines[l] = true
	whole := l.hear(f)
	if whole != nil && b.twice > 0 && !whole.internal() {
		b.twice--
		b.mu.Unlock()
		b.copier.publish(whole) // is there before the message itself
		return true
	}
	b.mu.Unlock()
	return true
}

// hear takes note of a frame of the program, and returns the message whose last frame
// it is. Called with b.mu held.
func (l *line) hear(f wire.Frame) (whole *Message) {
	c := l.channel(f.Channel)
	switch f.Type {
	case wire.FrameHeader:
		if c.outgoing == nil {
			return nil
		}
		h, err := wire.ScanHeader(f.Payload)
		if err != nil {
			return nil // the broker will say so
		}
		c.outgoing.bodySize = h.BodySize
		c.outgoing.m.describe(h.Props)
		return l.complete(c)
	case wire.FrameBody:
		if c.outgoing == nil {
			return nil
		}
		c.outgoing.m.Body = append(c.outgoing.m.Body, f.Payload...)
		return l.complete(c)
	}
	m, err := wire.DecodeMethod(f.Payload)
	if err != nil {
		return nil
	}
	switch m := m.(type) {
	case *wire.BasicPublish:
		c.outgoing = &content{m: &Message{Exchange: m.Exchange, Key: m.RoutingKey, codec: l.b.config.Codec, Sent: 1}}
	case *wire.ConfirmSelect:
		c.confirms = true
	case *wire.BasicConsume:
		c.consumers[m.ConsumerTag] = m.Queue
		delete(l.b.record.orphans, m.Queue)
	case *wire.BasicCancel:
		delete(c.consumers, m.ConsumerTag)
	case *wire.ChannelClose:
		clear(c.consumers)
		l.end(f.Channel)
	case *wire.ConnectionClose:
		for n, c := range l.channels {
			clear(c.consumers)
			l.end(n)
		}
	}
	return nil
}

// complete ends a publish if its body is complete. Called with b.mu held.
func (l *line) complete(c *channel) *Message {
	m := c.outgoing.m
	if uint64(len(m.Body)) < c.outgoing.bodySize {
		return nil
	}
	c.outgoing = nil
	m.direct()
	if c.confirms {
		c.published++
		c.open = append(c.open, sent{c.published, m})
		l.b.record.open++
	} else {
		m.there = true // as far as anybody can tell
	}
	if !l.own && !m.internal() {
		l.b.record.messages = append(l.b.record.messages, m)
	}
	return m
}

// fromBroker looks at a frame on its way to the program.
func (l *line) fromBroker(f wire.Frame) (pass bool) {
	b := l.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.over || !l.own && b.cuts(f, false) {
		return false
	}
	b.record.events++
	c := l.channel(f.Channel)
	if f.Type == wire.FrameHeader && c.incoming != nil {
		if h, err := wire.ScanHeader(f.Payload); err == nil {
			c.incoming.m.describe(h.Props)
			c.returned(c.incoming.m)
		}
		c.incoming = nil
	}
	if f.Type != wire.FrameMethod {
		return true
	}
	switch wire.PeekMethod(f.Payload) { // deliveries are many, and none of this
	case wire.IDBasicAck, wire.IDBasicNack, wire.IDBasicReturn, wire.IDBasicCancel, wire.IDChannelClose, wire.IDConnectionClose:
	default:
		return true
	}
	m, err := wire.DecodeMethod(f.Payload)
	if err != nil {
		return true
	}
	switch m := m.(type) {
	case *wire.BasicAck:
		b.record.open -= c.settle(m.DeliveryTag, m.Multiple, true)
	case *wire.BasicNack:
		b.record.open -= c.settle(m.DeliveryTag, m.Multiple, false)
	case *wire.BasicReturn:
		c.incoming = &content{m: &Message{Exchange: m.Exchange, Key: m.RoutingKey}}
	case *wire.BasicCancel:
		b.record.orphans[c.consumers[m.ConsumerTag]] = true
		delete(c.consumers, m.ConsumerTag)
	case *wire.ChannelClose:
		l.end(f.Channel)
	case *wire.ConnectionClose:
		for n := range l.channels {
			l.end(n)
		}
	}
	return true
}

// settle takes note of a confirm and returns how many messages it is about.
func (c *channel) settle(tag uint64, multiple, ack bool) int {
	before := len(c.open)
	c.open = slices.DeleteFunc(c.open, func(s sent) bool {
		if s.tag != tag && !(multiple && (s.tag < tag || tag == 0)) {
			return false
		}
		s.m.there = ack && !s.m.returned
		return true
	})
	return before - len(c.open)
}

// returned marks the message that a basic.return is about: the oldest like it.
func (c *channel) returned(like *Message) {
	for _, s := range c.open {
		if !s.m.returned && s.m.ID == like.ID && s.m.rawExchange == like.Exchange && s.m.rawKey == like.Key {
			s.m.returned = true
			return
		}
	}
}

// end forgets a channel. Queues that were consumed on it, and not cancelled, wait for
// their consumers to come back. Called with b.mu held.
func (l *line) end(n uint16) {
	c := l.channels[n]
	if c == nil {
		return
	}
	l.b.record.open -= len(c.open)
	for queue := range maps.Values(c.consumers) {
		l.b.record.orphans[queue] = true
	}
	delete(l.channels, n)
}

// forget ends a line.
func (b *Broker) forget(l *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	for n := range l.channels {
		l.end(n)
	}
	delete(b.record.lines, l)
	b.record.events++
}

// consumed returns the queues that the program consumes or is about to consume again.
// Called with b.mu held.
func (r *record) consumed() map[string]bool {
	queues := maps.Clone(r.orphans)
	for l := range r.lines {
		if l.own {
			continue
		}
		for _, c := range l.channels {
			for queue := range maps.Values(c.consumers) {
				queues[queue] = true
			}
		}
	}
	maps.DeleteFunc(queues, func(name string, _ bool) bool { return name == "" || ofToolkit(name) })
	return queues
}
