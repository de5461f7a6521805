package parity

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// event is one thing that arrived: a method with its content, or one of the pseudo
// methods "closed", "protocol-header", "garbage".
type event struct {
	name  string
	args  args
	props args // nil unless content followed
	body  []byte
	text  string // of pseudo methods
}

// conn is one connection of a script. The reader goroutine appends to streams; the
// script's goroutine takes from them.
type conn struct {
	nc       net.Conn
	frameMax int // bytes, for splitting what we send

	hiddenOpen bool // whether hiddenChannel is open; the script's goroutine only

	writes sync.Mutex // the reader answers closes while the script sends

	mu      sync.Mutex
	streams map[uint16][]event
	changed chan struct{} // closed and replaced at every arrival
	dead    bool          // nothing will arrive any more
}

func dial(addr string) (*conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, frameMax: 131072, streams: map[uint16][]event{}, changed: make(chan struct{})}
	go c.read()
	return c, nil
}

// send writes bytes; a failure shows as "closed" in what is read.
func (c *conn) send(b []byte) {
	c.writes.Lock()
	defer c.writes.Unlock()
	_ = c.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.nc.Write(b)
}

func (c *conn) sendMethod(channel uint16, name string, a args) error {
	payload, err := encodeMethod(spec().byName[name], a)
	if err != nil {
		return err
	}
	c.send(appendFrame(nil, 1, channel, payload))
	return nil
}

// publish writes a publish with its header and its body, split at frame_max.
func (c *conn) publish(channel uint16, a args, body []byte) error {
	payload, err := encodeMethod(spec().byName["basic.publish"], a)
	if err != nil {
		return err
	}
	header, err := encodeHeader(60, uint64(len(body)), a)
	if err != nil {
		return err
	}
	out := appendFrame(nil, 1, channel, payload)
	out = appendFrame(out, 2, channel, header)
	for len(body) > 0 {
		n := min(len(body), c.frameMax-8)
		out = appendFrame(out, 3, channel, body[:n])
		body = body[n:]
	}
	c.send(out)
	return nil
}

func (c *conn) push(channel uint16, e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[channel] = append(c.streams[channel], e)
	if e.name == "closed" {
		c.dead = true
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// read is the reader goroutine: it ends with the connection.
func (c *conn) read() {
	r := bufio.NewReader(c.nc)
	partial := map[uint16]*partialContent{}
	for {
		var head [7]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			c.push(0, event{name: "closed"})
			return
		}
		if string(head[:4]) == "AMQP" {
			last, _ := r.ReadByte()
			c.push(0, event{name: "protocol-header", text: fmt.Sprint(append(head[4:], last))})
			continue
		}
		channel := binary.BigEndian.Uint16(head[1:])
		payload := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(r, payload); err != nil {
			c.push(0, event{name: "closed"})
			return
		}
		if payload[len(payload)-1] != 0xCE {
			c.push(0, event{name: "garbage", text: "frame end"})
			_ = c.nc.Close()
			continue
		}
		if err := c.frame(head[0], channel, payload[:len(payload)-1], partial); err != nil {
			c.push(0, event{name: "garbage", text: err.Error()})
			_ = c.nc.Close()
		}
	}
}

// partialContent is a content method whose header or body is still to come.
type partialContent struct {
	event     event
	header    bool
	bodyBytes uint64
}

func (c *conn) frame(kind byte, channel uint16, payload []byte, partial map[uint16]*partialContent) error {
	p := partial[channel]
	switch {
	case kind == 8:
		return nil
	case kind == 1 && p == nil:
		m, a, err := decodeMethod(payload)
		if err != nil {
			return err
		}
		if m.hasContent() {
			partial[channel] = &partialContent{event: event{name: m.name, args: a}}
			return nil
		}
		c.answerClose(channel, m.name)
		c.push(channel, event{name: m.name, args: a})
		return nil
	case kind == 2 && p != nil && !p.header:
		var err error
		p.header = true
		if p.bodyBytes, p.event.props, err = decodeHeader(payload); err != nil {
			return err
		}
	case kind == 3 && p != nil && p.header:
		p.event.body = append(p.event.body, payload...)
	default:
		return fmt.Errorf("frame type %d out of place", kind)
	}
	if uint64(len(p.event.body)) > p.bodyBytes {
		return fmt.Errorf("body of %d bytes, %d announced", len(p.event.body), p.bodyBytes)
	}
	if uint64(len(p.event.body)) == p.bodyBytes {
		delete(partial, channel)
		c.push(channel, p.event)
	}
	return nil
}

// answerClose does what every client does at a server's close.
func (c *conn) answerClose(channel uint16, name string) {
	if name == "channel.close" || name == "connection.close" {
		_ = c.sendMethod(channel, name+"-ok", nil)
	}
}

// take removes and returns what has arrived on a channel, up to and including the first
// event that satisfies until, or all of it. done tells whether until was satisfied.
func (c *conn) take(channel uint16, until func(event) bool) (got []event, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[channel]
	for i, e := range s {
		if until(e) {
			c.streams[channel] = s[i+1:]
			return s[:i+1], true
		}
	}
	delete(c.streams, channel)
	return s, false
}

// state tells whether the connection has ended, and which channel is closed at the next
// arrival.
func (c *conn) state() (dead bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead, c.changed
}

// await gathers what arrives on a channel until one of names came count times, the channel
// was closed, the connection ended, or the time is up; ok is false only in the last case.
// fromZero is what the end of the connection left on channel 0.
func (c *conn) await(channel uint16, names []string, count int, limit time.Duration) (got, fromZero []event, ok bool) {
	deadline := time.After(limit)
	until := func(e event) bool {
		if slices.Contains(names, e.name) {
			count--
		}
		return count <= 0 || e.name == "channel.close"
	}
	never := func(event) bool { return false }
	for {
		dead, changed := c.state()
		more, done := c.take(channel, until)
		if got = append(got, more...); done {
			return got, nil, true
		}
		if dead {
			fromZero, _ = c.take(0, never)
			return got, fromZero, true
		}
		select {
		case <-changed:
		case <-deadline:
			return got, nil, false
		}
	}
}

// format writes an event as one transcript line without its address.
func (e event) format(m *masker) string {
	if e.args == nil {
		return strings.TrimSpace(e.name + " " + e.text)
	}
	parts := []string{e.name}
	for _, f := range spec().byName[e.name].fields {
		if strings.HasPrefix(f.name, "reserved") || f.name == "ticket" && e.name != "access.request-ok" {
			continue
		}
		v := e.args[f.name]
		if f.name == "server-properties" {
			v = maskIdentity(v.(table))
		}
		if f.name == "mechanisms" {
			v = sortedWords(v.(string))
		}
		parts = append(parts, formatField(f.name, v, m.mask))
	}
	if e.props != nil {
		for _, p := range propertySpecs() {
			if v, ok := e.props[p.name]; ok {
				parts = append(parts, formatField(p.name, v, m.mask))
			}
		}
		parts = append(parts, formatBody(e.body, m.mask))
	}
	return strings.Join(parts, " ")
}
