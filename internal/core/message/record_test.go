package message

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

func props(p wire.Properties) []byte { return p.AppendTo(nil) }

func TestRecordAccessors(t *testing.T) {
	long := strings.Repeat("k", 255)
	cases := []struct {
		exchange, key string
		props         wire.Properties
		bodyBytes     int
	}{
		{"", "", wire.Properties{}, 0},
		{"amq.topic", "a.b.c", wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}, 1},
		{long, long, wire.Properties{Flags: wire.FlagMessageID, MessageID: "id"}, 4088},
		{"x", long, wire.Properties{}, 4089},
		{"x", "k", wire.Properties{}, 20_000},
	}
	for _, c := range cases {
		body := bytes.Repeat([]byte("b"), c.bodyBytes)
		before := []byte("before")
		all := Build(before, c.exchange, c.key, props(c.props), body, 4096)
		if !bytes.HasPrefix(all, before) {
			t.Fatalf("Build does not append: %q", all[:10])
		}
		r := all[len(before):]
		if string(r.Exchange()) != c.exchange || string(r.Key()) != c.key {
			t.Errorf("exchange %q key %q, want %q %q", r.Exchange(), r.Key(), c.exchange, c.key)
		}
		route := append([]byte{byte(len(c.exchange))}, c.exchange...)
		route = append(append(route, byte(len(c.key))), c.key...)
		if !bytes.Equal(r.Route(), route) {
			t.Errorf("route %q, want %q", r.Route(), route)
		}
		if r.BodyBytes() != uint64(c.bodyBytes) || !bytes.Equal(r.AppendBody([]byte("x"))[1:], body) {
			t.Errorf("body of %d bytes, announced %d, want %d", len(r.AppendBody(nil)), r.BodyBytes(), c.bodyBytes)
		}
		if got := r.Props(); !bytes.Equal(got, props(c.props)) {
			t.Errorf("properties %x, want %x", got, props(c.props))
		}
		if p, err := r.Properties(); err != nil || p.Flags != c.props.Flags || p.MessageID != c.props.MessageID {
			t.Errorf("properties %+v, %v", p, err)
		}
	}
}

// The frames that deliver a message, byte for byte.
func TestFramesGolden(t *testing.T) {
	r := Build(nil, "ex", "key", props(wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}), []byte("hello"), 0)
	content := "02 0102 0000000f 003c 0000 0000000000000005 1000 02 ce" + "03 0102 00000005 68656c6c6f ce"
	target := Target{Channel: 0x0102, FrameMax: 4096}
	cases := []struct{ name, want, got string }{
		{"deliver", "01 0102 00000017 003c 003c 02 6374 0000000000000007 01 02 6578 03 6b6579 ce" + content,
			hex.EncodeToString(r.AppendDeliver(nil, target, "ct", 7, true))},
		{"deliver first time", "01 0102 00000016 003c 003c 01 63 0000000000000007 00 02 6578 03 6b6579 ce" + content,
			hex.EncodeToString(r.AppendDeliver(nil, target, "c", 7, false))},
		{"get-ok", "01 0102 00000018 003c 0047 0000000000000007 00 02 6578 03 6b6579 00000009 ce" + content,
			hex.EncodeToString(r.AppendGetOk(nil, target, 7, false, 9))},
		{"return", "01 0102 00000016 003c 0032 0138 08 4e4f5f524f555445 02 6578 03 6b6579 ce" + content,
			hex.EncodeToString(r.AppendReturn(nil, target, 312, "NO_ROUTE"))},
	}
	for _, c := range cases {
		if want := strings.ReplaceAll(c.want, " ", ""); c.got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, c.got, want)
		}
	}
}

// content is what a receiver decodes from frames.
type content struct {
	method  wire.Method
	header  wire.HeaderView
	body    []byte
	frames  int
	largest int // bytes of the largest frame
}

func decode(t *testing.T, frames []byte, channel uint16) (c content) {
	t.Helper()
	for at := 0; at < len(frames); c.frames++ {
		f, n, err := wire.ParseFrame(frames[at:], 0)
		if err != nil || n == 0 || f.Channel != channel {
			t.Fatalf("frame %d: %+v, %d bytes, %v", c.frames, f, n, err)
		}
		at += n
		c.largest = max(c.largest, n)
		switch {
		case c.frames == 0 && f.Type == wire.FrameMethod:
			if c.method, err = wire.DecodeMethod(f.Payload); err != nil {
				t.Fatal(err)
			}
		case c.frames == 1 && f.Type == wire.FrameHeader:
			if c.header, err = wire.ScanHeader(f.Payload); err != nil {
				t.Fatal(err)
			}
		case c.frames > 1 && f.Type == wire.FrameBody:
			c.body = append(c.body, f.Payload...)
		default:
			t.Fatalf("frame %d is of type %d", c.frames, f.Type)
		}
	}
	return c
}

// A receiver with a smaller frame_max than the publisher's gets the bodies cut
// anew; all others get the frames as they are stored.
func TestReframing(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 6250) // 100,000 bytes
	raw := props(wire.Properties{Flags: wire.FlagDeliveryMode | wire.FlagMessageID, DeliveryMode: 2, MessageID: "m"})
	cases := []struct {
		stored, receiver uint32
		frames           int
	}{
		{131072, 131072, 3}, {131072, 0, 3}, {131072, 4096, 2 + 25}, {131072, 50008, 2 + 2}, {131072, 50007, 2 + 3},
		{4096, 131072, 2 + 25}, {4096, 4096, 2 + 25}, {0, 4096, 2 + 25}, {0, 0, 3}, {100_008, 100_008, 3}, {100_008, 100_007, 4},
	}
	for _, c := range cases {
		r := Build(nil, "x", "k", raw, body, c.stored)
		target := Target{Channel: 9, FrameMax: c.receiver}
		for name, frames := range map[string][]byte{
			"deliver": r.AppendDeliver([]byte("before"), target, "tag", 3, false),
			"get-ok":  r.AppendGetOk([]byte("before"), target, 3, false, 0),
			"return":  r.AppendReturn([]byte("before"), target, 312, "NO_ROUTE"),
		} {
			if string(frames[:6]) != "before" {
				t.Fatalf("%s does not append", name)
			}
			got := decode(t, frames[6:], 9)
			if !bytes.Equal(got.body, body) || got.header.BodySize != uint64(len(body)) || !bytes.Equal(got.header.Props, raw) {
				t.Errorf("%s, stored in %d, for %d: another content", name, c.stored, c.receiver)
			}
			if got.frames != c.frames || c.receiver > 0 && got.largest > int(c.receiver) {
				t.Errorf("%s, stored in %d, for %d: %d frames of up to %d, want %d", name, c.stored, c.receiver, got.frames, got.largest, c.frames)
			}
		}
		if !bytes.Equal(r, Build(nil, "x", "k", raw, body, c.stored)) {
			t.Error("delivering changes the stored record")
		}
	}
}

func TestDeliverDecodes(t *testing.T) {
	r := Build(nil, "ex", "a.b", props(wire.Properties{}), nil, 0)
	got := decode(t, r.AppendDeliver(nil, Target{Channel: 65535}, "tag", 1<<63, true), 65535)
	d, ok := got.method.(*wire.BasicDeliver)
	if !ok || d.ConsumerTag != "tag" || d.DeliveryTag != 1<<63 || !d.Redelivered || d.Exchange != "ex" || d.RoutingKey != "a.b" {
		t.Errorf("deliver is %+v", got.method)
	}
	if got.frames != 2 || got.header.BodySize != 0 {
		t.Errorf("an empty body has %d frames", got.frames)
	}
	got = decode(t, r.AppendGetOk(nil, Target{Channel: 1}, 5, true, 77), 1)
	g, ok := got.method.(*wire.BasicGetOk)
	if !ok || g.DeliveryTag != 5 || !g.Redelivered || g.Exchange != "ex" || g.RoutingKey != "a.b" || g.MessageCount != 77 {
		t.Errorf("get-ok is %+v", got.method)
	}
	got = decode(t, r.AppendReturn(nil, Target{Channel: 1}, 312, "NO_ROUTE"), 1)
	b, ok := got.method.(*wire.BasicReturn)
	if !ok || b.ReplyCode != 312 || b.ReplyText != "NO_ROUTE" || b.Exchange != "ex" || b.RoutingKey != "a.b" {
		t.Errorf("return is %+v", got.method)
	}
}

func TestRewrite(t *testing.T) {
	body := bytes.Repeat([]byte("b"), 9000)
	r := Build(nil, "old", "old key", props(wire.Properties{Flags: wire.FlagType, Type: "t"}), body, 4096)
	kept := bytes.Clone(r)
	p := wire.Properties{Flags: wire.FlagMessageID | wire.FlagPriority, MessageID: "m", Priority: 4}
	all := r.Rewrite([]byte("before"), "a much longer exchange", "", &p)
	if string(all[:6]) != "before" || !bytes.Equal(r, kept) {
		t.Fatal("Rewrite does not append a copy")
	}
	got := all[6:]
	if string(got.Exchange()) != "a much longer exchange" || string(got.Key()) != "" || !bytes.Equal(got.Props(), props(p)) {
		t.Errorf("rewritten to %q %q %x", got.Exchange(), got.Key(), got.Props())
	}
	if got.BodyBytes() != 9000 || !bytes.Equal(got.AppendBody(nil), body) {
		t.Errorf("a body of %d bytes", len(got.AppendBody(nil)))
	}
	if c := decode(t, got.AppendDeliver(nil, Target{Channel: 1, FrameMax: 4096}, "", 1, false), 1); c.frames != 5 {
		t.Errorf("%d frames, want the three of the body as they were", c.frames)
	}
}

func TestDeliverAllocatesNothing(t *testing.T) {
	r := Build(nil, "ex", "key", props(wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}), make([]byte, 1000), 0)
	var dst []byte
	if n := testing.AllocsPerRun(100, func() {
		dst = r.AppendDeliver(dst[:0], Target{Channel: 1, FrameMax: 4096}, "consumer", 1, false)
	}); n != 0 {
		t.Errorf("%v allocations a delivery", n)
	}
}

func BenchmarkDeliver(b *testing.B) {
	r := Build(nil, "amq.direct", "key", props(wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: 2}), make([]byte, 16), 0)
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = r.AppendDeliver(dst[:0], Target{Channel: 1, FrameMax: 131072}, "consumer", 1, false)
	}
}
