package wire

import (
	"bytes"
	"testing"
)

// seedTable has every type of value.
var seedTable = Table{
	{"t", true}, {"b", int8(-1)}, {"B", uint8(255)}, {"s", int16(-2)}, {"u", uint16(3)},
	{"I", int32(-4)}, {"i", uint32(5)}, {"l", int64(-6)}, {"f", float32(1.5)}, {"d", 2.5},
	{"D", Decimal{2, 314}}, {"S", "text"}, {"x", []byte{0, 1}}, {"T", Timestamp(1700000000)},
	{"A", Array{"a", Array{}, Table{{"k", nil}}}}, {"F", Table{{"in", Table{}}}}, {"V", nil},
}

// seedProperties has every property.
var seedProperties = Properties{
	Flags: flagsKnown, ContentType: "text/plain", ContentEncoding: "gzip", Headers: seedTable,
	DeliveryMode: 2, Priority: 5, CorrelationID: "c", ReplyTo: "amq.rabbitmq.reply-to",
	Expiration: "60000", MessageID: "m-1", Timestamp: 1700000000, Type: "t", UserID: "guest",
	AppID: "app", ClusterID: "",
}

func FuzzFrame(f *testing.F) {
	for _, g := range golden {
		f.Add(AppendMethodFrame(nil, 1, g.method), uint32(131072))
	}
	f.Add(AppendContent(nil, 1, &BasicPublish{RoutingKey: "q"}, &seedProperties, make([]byte, 5000), FrameMinSize), uint32(FrameMinSize))
	f.Add(AppendHeartbeat(nil), uint32(0))
	f.Add([]byte{2, 0, 1, 0xff, 0xff, 0xff, 0xff}, uint32(0))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0xcd}, uint32(8))
	f.Fuzz(func(t *testing.T, b []byte, frameMax uint32) {
		for len(b) > 0 {
			fr, n, err := ParseFrame(b, frameMax)
			if err != nil || n == 0 {
				if n != 0 {
					t.Fatalf("used %d bytes and failed: %v", n, err)
				}
				return
			}
			if n > len(b) || n != len(fr.Payload)+FrameOverhead || frameMax != 0 && uint32(len(fr.Payload)) > frameMax {
				t.Fatalf("used %d of %d bytes for a payload of %d, limit %d", n, len(b), len(fr.Payload), frameMax)
			}
			out, mark := BeginFrame(nil, fr.Type, fr.Channel)
			if out = EndFrame(append(out, fr.Payload...), mark); !bytes.Equal(out, b[:n]) {
				t.Fatalf("%x is written as %x", b[:n], out)
			}
			if h, err := ScanHeader(fr.Payload); err == nil {
				checkProperties(t, h.Props)
			}
			checkMethod(t, fr.Payload)
			b = b[n:]
		}
	})
}

func FuzzMethod(f *testing.F) {
	for _, g := range golden {
		f.Add(g.method.AppendTo(nil))
	}
	f.Add((&ConnectionStart{0, 9, seedTable, "PLAIN AMQPLAIN", "en_US"}).AppendTo(nil))
	f.Add((&ConnectionStartOk{seedTable, "PLAIN", "\x00guest\x00guest", "en_US"}).AppendTo(nil))
	f.Add((&BasicConsume{Queue: "q", ConsumerTag: "c", Arguments: seedTable}).AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) { checkMethod(t, b) })
}

// checkMethod: what decodes encodes and decodes to the same, and the scanners
// agree with the decoder.
func checkMethod(t *testing.T, payload []byte) {
	t.Helper()
	m, err := DecodeMethod(payload)
	view, isPublish := ScanPublish(payload)
	tag, multiple, isAck := ScanAck(payload)
	p, wantPublish := m.(*BasicPublish)
	a, wantAck := m.(*BasicAck)
	if isPublish != wantPublish || isAck != wantAck {
		t.Fatalf("%x decodes to %T, scanned as publish %v, ack %v", payload, m, isPublish, isAck)
	}
	if err != nil {
		if _, ok := err.(*DecodeError); !ok || m != nil {
			t.Fatalf("%x: %v with %v", payload, m, err)
		}
		return
	}
	if wantPublish && (string(view.Exchange) != p.Exchange || string(view.RoutingKey) != p.RoutingKey ||
		view.Mandatory != p.Mandatory || view.Immediate != p.Immediate) {
		t.Fatalf("scan %+v, decode %+v", view, p)
	}
	if wantAck && (tag != a.DeliveryTag || multiple != a.Multiple) {
		t.Fatalf("scan %d %v, decode %+v", tag, multiple, a)
	}
	again, err := DecodeMethod(m.AppendTo(nil))
	if err != nil || !sameMethod(m, again) {
		t.Fatalf("%+v comes back as %+v, %v", m, again, err)
	}
}

func FuzzTable(f *testing.F) {
	f.Add(AppendTable(nil, seedTable))
	f.Add(AppendTable(nil, Table{{"x-death", Array{Table{{"count", int64(1)}, {"reason", "expired"}}}}}))
	f.Add([]byte{0, 0, 0, 7, 0, 'A', 0, 0, 0, 1, 'I'})
	f.Add([]byte{0, 0, 0, 10, 1, 'k', 'L', 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, n, err := ParseTable(b)
		if err != nil {
			if tab != nil || n != 0 {
				t.Fatalf("%v, %d with %v", tab, n, err)
			}
			return
		}
		out := AppendTable(nil, tab)
		again, m, err := ParseTable(out)
		if err != nil || m != len(out) || !EqualTables(tab, again) {
			t.Fatalf("%#v comes back as %#v, %v", tab, again, err)
		}
		if m != n { // every type is written in the size it was read
			t.Fatalf("%d bytes are written as %d", n, m)
		}
		for _, field := range tab {
			want, _ := tab.Get(field.Key)
			if v, ok := TableLookup(b[4:n], field.Key); !ok || !EqualValues(v, want) {
				t.Fatalf("lookup of %q gives %#v, want %#v", field.Key, v, want)
			}
		}
	})
}

func FuzzProperties(f *testing.F) {
	f.Add(seedProperties.AppendTo(nil))
	for _, flags := range []uint16{0, FlagDeliveryMode, FlagContentType | FlagDeliveryMode, FlagHeaders | FlagMessageID, FlagTimestamp, 1, 2} {
		p := seedProperties
		p.Flags = flags
		f.Add(p.AppendTo(nil))
	}
	f.Add([]byte{0x10, 1, 0, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) { checkProperties(t, b) })
}

// checkProperties: ScanProps accepts what ParseProperties accepts and finds
// the same; what decodes encodes and decodes to the same.
func checkProperties(t *testing.T, raw []byte) {
	t.Helper()
	v, scanErr := ScanProps(raw)
	p, err := ParseProperties(raw)
	if scanErr != err {
		t.Fatalf("%x: scan %v, parse %v", raw, scanErr, err)
	}
	if err != nil {
		return
	}
	checkView(t, v, p)
	again, err := ParseProperties(p.AppendTo(nil))
	if err != nil || !sameProperties(p, again) {
		t.Fatalf("%+v comes back as %+v, %v", p, again, err)
	}
}
