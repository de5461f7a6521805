package amqpserver

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

// rawFrame is a frame of any type, payload and end.
func rawFrame(frameType uint8, channel uint16, payload []byte) []byte {
	b, mark := wire.BeginFrame(nil, frameType, channel)
	return wire.EndFrame(append(b, payload...), mark)
}

// methodWithTable is a queue.declare whose arguments are these bytes, length
// field included.
func methodWithTable(table []byte) []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(wire.IDQueueDeclare))
	p = append(p, 0, 0, 1, 'q', 0)
	return rawFrame(wire.FrameMethod, 1, append(p, table...))
}

// tableOf puts the length in front of entries.
func tableOf(entries []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(entries))), entries...)
}

// nested is a table within a table, so many times, or arrays.
func nested(depth int, tag byte) []byte {
	var b []byte
	for range depth {
		inner := append([]byte{tag}, tableOf(b)...)
		if tag == 'F' {
			inner = append([]byte{1, 'k'}, inner...)
		}
		b = inner
	}
	if tag == 'A' {
		b = append([]byte{1, 'k'}, b...)
	}
	return tableOf(b)
}

var publish = wire.AppendMethodFrame(nil, 1, &wire.BasicPublish{RoutingKey: "q"})

// header is a content header frame with the flags of the properties given, if
// any.
func header(class, weight uint16, bodyBytes uint64, props ...byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, class)
	p = binary.BigEndian.AppendUint16(p, weight)
	p = binary.BigEndian.AppendUint64(p, bodyBytes)
	if len(props) == 0 {
		props = []byte{0, 0}
	}
	return rawFrame(wire.FrameHeader, 1, append(p, props...))
}

func body(n int) []byte { return rawFrame(wire.FrameBody, 1, make([]byte, n)) }

func onChannel(channel uint16, m wire.Method) []byte { return wire.AppendMethodFrame(nil, channel, m) }

// badFrames are what a client that is logged in and has channel 1 open may send
// to be thrown out with that code.
var badFrames = []struct {
	name string
	code uint16
	sent []byte
}{
	{"frame without end", wire.FrameErrorCode, append(rawFrame(wire.FrameMethod, 1, make([]byte, 8))[:15], 0)},
	{"unknown type", wire.FrameErrorCode, rawFrame(9, 1, nil)},
	{"unknown type on channel 0", wire.FrameErrorCode, rawFrame(0, 0, nil)},
	{"unknown type on an unopened channel", wire.FrameErrorCode, rawFrame(77, 9, []byte("x"))},
	{"heartbeat with content", wire.FrameErrorCode, rawFrame(wire.FrameHeartbeat, 0, []byte("x"))},
	{"heartbeat on a channel", wire.UnexpectedFrame, rawFrame(wire.FrameHeartbeat, 1, nil)},
	{"method of no bytes", wire.FrameErrorCode, rawFrame(wire.FrameMethod, 1, nil)},
	{"method of 3 bytes on channel 0", wire.FrameErrorCode, rawFrame(wire.FrameMethod, 0, make([]byte, 3))},
	{"method of 3 bytes on an unopened channel", wire.FrameErrorCode, rawFrame(wire.FrameMethod, 9, make([]byte, 3))},
	{"frame over frame_max", wire.FrameErrorCode, []byte{wire.FrameMethod, 0, 1, 0, 2, 0, 9}},
	{"frame of 4 GiB", wire.FrameErrorCode, []byte{wire.FrameBody, 0, 1, 255, 255, 255, 255}},
	{"another protocol", wire.FrameErrorCode, []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")},

	{"method on an unopened channel", wire.ChannelErrorCode, onChannel(9, &wire.BasicQos{})},
	{"close-ok on an unopened channel", wire.ChannelErrorCode, onChannel(9, &wire.ChannelCloseOk{})},
	{"header on an unopened channel", wire.UnexpectedFrame, rawFrame(wire.FrameHeader, 9, make([]byte, 14))},
	{"body on an unopened channel", wire.UnexpectedFrame, rawFrame(wire.FrameBody, 9, nil)},
	{"channel opened twice", wire.ChannelErrorCode, onChannel(1, &wire.ChannelOpen{})},
	{"channel method on channel 0", wire.ChannelErrorCode, onChannel(0, &wire.QueueDeclare{})},
	{"header on channel 0", wire.UnexpectedFrame, rawFrame(wire.FrameHeader, 0, make([]byte, 14))},
	{"body on channel 0", wire.UnexpectedFrame, rawFrame(wire.FrameBody, 0, []byte("x"))},

	{"handshake again: start-ok", wire.ChannelErrorCode, onChannel(0, &wire.ConnectionStartOk{Mechanism: "PLAIN"})},
	{"handshake again: tune-ok", wire.ChannelErrorCode, onChannel(0, &wire.ConnectionTuneOk{})},
	{"handshake again: open", wire.ChannelErrorCode, onChannel(0, &wire.ConnectionOpen{VirtualHost: "/"})},
	{"handshake again: protocol header", wire.FrameErrorCode, []byte(wire.ProtocolHeader + "\x00")},
	{"method of the server", wire.CommandInvalid, onChannel(1, &wire.BasicDeliver{})},
	{"unknown class", wire.CommandInvalid, rawFrame(wire.FrameMethod, 1, []byte{0, 99, 0, 1})},
	{"unknown method", wire.FrameErrorCode, rawFrame(wire.FrameMethod, 1, []byte{0, 60, 0, 1})},
	{"method cut short", wire.FrameErrorCode, rawFrame(wire.FrameMethod, 1, []byte{0, 60, 0, 40, 0, 0, 200, 'x'})},
	{"ack cut short", wire.FrameErrorCode, rawFrame(wire.FrameMethod, 1, []byte{0, 60, 0, 80, 0})},

	{"header without publish", wire.UnexpectedFrame, header(60, 0, 1)},
	{"body without publish", wire.UnexpectedFrame, body(1)},
	{"empty body without publish", wire.UnexpectedFrame, body(0)},
	{"body in place of header", wire.UnexpectedFrame, slices.Concat(publish, body(1))},
	{"method in place of header", wire.UnexpectedFrame, slices.Concat(publish, publish)},
	{"header in place of body", wire.UnexpectedFrame, slices.Concat(publish, header(60, 0, 9), header(60, 0, 9))},
	{"method in place of body", wire.UnexpectedFrame, slices.Concat(publish, header(60, 0, 9), body(1), publish)},
	{"channel.close within content", wire.UnexpectedFrame, slices.Concat(publish, header(60, 0, 9), body(1), onChannel(1, &wire.ChannelClose{}))},
	{"header of another class", wire.UnexpectedFrame, slices.Concat(publish, header(50, 0, 1))},
	{"header with weight", wire.UnexpectedFrame, slices.Concat(publish, header(60, 1, 1))},
	{"header of 3 bytes", wire.FrameErrorCode, slices.Concat(publish, rawFrame(wire.FrameHeader, 1, make([]byte, 3)))},
	{"body longer than announced", wire.FrameErrorCode, slices.Concat(publish, header(60, 0, 4), body(5))},
	{"body of 1 TiB announced", wire.FrameErrorCode, slices.Concat(publish, header(60, 0, 1<<40))},
	{"body of 2^64-1 announced", wire.FrameErrorCode, slices.Concat(publish, header(60, 0, 1<<64-1))},
	{"properties cut short", wire.InternalError, slices.Concat(publish, header(60, 0, 0, 0x80, 0, 200, 'x'))},
	{"immediate", wire.NotImplemented, onChannel(1, &wire.BasicPublish{Immediate: true})},
	{"prefetch size", wire.NotImplemented, onChannel(1, &wire.BasicQos{PrefetchSize: 1})},

	{"table longer than the frame", wire.FrameErrorCode, methodWithTable([]byte{0, 0, 1, 0, 1, 'k', 't', 1})},
	{"table of 4 GiB", wire.FrameErrorCode, methodWithTable([]byte{255, 255, 255, 255, 1, 'k', 't', 1})},
	{"table with a long string beyond it", wire.FrameErrorCode, methodWithTable(tableOf([]byte{1, 'k', 'S', 255, 255, 255, 255}))},
	{"table with a table beyond it", wire.FrameErrorCode, methodWithTable(tableOf([]byte{1, 'k', 'F', 127, 255, 255, 255}))},
	{"table with an array beyond it", wire.FrameErrorCode, methodWithTable(tableOf([]byte{1, 'k', 'A', 0, 0, 1, 0, 't', 1}))},
	{"table with a key beyond it", wire.FrameErrorCode, methodWithTable(tableOf([]byte{255, 'k'}))},
	{"table with a key and no value", wire.FrameErrorCode, methodWithTable(tableOf([]byte{1, 'k'}))},
	{"table with an unknown type", wire.FrameErrorCode, methodWithTable(tableOf([]byte{1, 'k', '?', 0}))},
	{"tables 10,000 deep", wire.FrameErrorCode, methodWithTable(nested(10_000, 'F'))},
	{"arrays 20,000 deep", wire.FrameErrorCode, methodWithTable(nested(20_000, 'A'))},
	{"array of 120,000 values", wire.FrameErrorCode, methodWithTable(tableOf(append([]byte{1, 'k', 'A', 0, 1, 0xD4, 0xC0}, bytes.Repeat([]byte{'V'}, 120_000)...)))},
	{"headers 10,000 deep", wire.InternalError, slices.Concat(publish, header(60, 0, 0, append([]byte{0x20, 0}, nested(10_000, 'F')...)...))},
	{"headers longer than the frame", wire.InternalError, slices.Concat(publish, header(60, 0, 0, 0x20, 0, 0, 0, 1, 0))},
}

func TestBadFrames(t *testing.T) {
	r := newRig(t, Config{}, 0)
	underAttack(t, r, func(t *testing.T) {
		for _, x := range badFrames {
			t.Run(x.name, func(t *testing.T) {
				c := r.open(t, tuning{})
				c.write(x.sent)
				c.wantClosed(x.code)
			})
		}
	})
}

// TestBadFramesInPieces sends the same one byte at a time, so that no read ends
// where a frame does.
func TestBadFramesInPieces(t *testing.T) {
	r := newRig(t, Config{}, 0)
	for _, x := range badFrames {
		if len(x.sent) > 200 {
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			c := r.open(t, tuning{})
			for i := range x.sent {
				if _, err := c.Write(x.sent[i : i+1]); err != nil {
					break // it has seen enough
				}
			}
			c.wantClosed(x.code)
		})
	}
}

// TestRefusedContent is about content that costs its sender the channel only.
func TestRefusedContent(t *testing.T) {
	r := newRig(t, Config{MaxMessageBytes: 100_000}, 0)
	underAttack(t, r, func(t *testing.T) {
		c := r.open(t, tuning{})
		c.write(publishFrames(1, "q", make([]byte, 100_001)))
		if m := c.await(wire.IDChannelClose).(*wire.ChannelClose); m.ReplyCode != wire.PreconditionFailed {
			t.Errorf("closed with %d %s", m.ReplyCode, m.ReplyText)
		}
		c.send(1, &wire.ChannelCloseOk{})
		c.call(1, &wire.ChannelOpen{}, wire.IDChannelOpenOk)
		c.write(publishFrames(1, "q", make([]byte, 100_000)))
		c.call(1, &wire.BasicQos{}, wire.IDBasicQosOk)
	})
}

// TestBeforeLogin: whoever is not logged in is told nothing, but for the
// protocol we speak.
func TestBeforeLogin(t *testing.T) {
	r := newRig(t, Config{}, 0)
	protocolHeader := []byte(wire.ProtocolHeader)
	startOk := func(mechanism, response string) []byte {
		return onChannel(0, &wire.ConnectionStartOk{Mechanism: mechanism, Response: response, Locale: "en_US"})
	}
	tests := []struct {
		name string
		sent []byte
	}{
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"TLS", []byte{22, 3, 1, 2, 0, 1, 0, 1}},
		{"AMQP 1.0", []byte("AMQP\x00\x01\x00\x00")},
		{"zeros", make([]byte, 100_000)},
		{"no start-ok", slices.Concat(protocolHeader, onChannel(0, &wire.ConnectionOpen{VirtualHost: "/"}))},
		{"start-ok on a channel", slices.Concat(protocolHeader, onChannel(1, &wire.ConnectionStartOk{}))},
		{"start-ok over 8 KiB", slices.Concat(protocolHeader, startOk("PLAIN", strings.Repeat("x", 9000)))},
		{"start-ok with a bad table", slices.Concat(protocolHeader, rawFrame(1, 0, []byte{0, 10, 0, 11, 255, 255, 255, 255}))},
		{"body frame", slices.Concat(protocolHeader, rawFrame(wire.FrameBody, 0, make([]byte, 8000)))},
		{"tune-ok with frame_max 1", slices.Concat(protocolHeader, startOk("PLAIN", "\x00guest\x00guest"),
			onChannel(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 1}))},
		{"tune-ok with frame_max 4 GiB", slices.Concat(protocolHeader, startOk("PLAIN", "\x00guest\x00guest"),
			onChannel(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 1<<32 - 1}))},
		{"tune-ok with 65535 channels", slices.Concat(protocolHeader, startOk("PLAIN", "\x00guest\x00guest"),
			onChannel(0, &wire.ConnectionTuneOk{ChannelMax: 65535, FrameMax: 131072}))},
	}
	underAttack(t, r, func(t *testing.T) {
		for _, x := range tests {
			t.Run(x.name, func(t *testing.T) {
				c := r.connect(t)
				c.Write(x.sent) // it may be gone before all of it is sent
				c.wantEOF()
			})
		}
		t.Run("gone at every byte of the handshake", func(t *testing.T) {
			all := slices.Concat(protocolHeader, startOk("PLAIN", "\x00guest\x00guest"),
				onChannel(0, &wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 131072}),
				onChannel(0, &wire.ConnectionOpen{VirtualHost: "/"}), onChannel(1, &wire.ChannelOpen{}))
			for n := range all {
				c := r.connect(t)
				c.write(all[:n])
				c.Close()
			}
		})
	})
}
