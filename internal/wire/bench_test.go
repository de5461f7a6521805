package wire

import "testing"

// publishFrames is one publish as clients send it: method, header, body.
func publishFrames(flags uint16) []byte {
	p := seedProperties
	p.Flags = flags
	return AppendContent(nil, 1, &BasicPublish{Exchange: "orders", RoutingKey: "eu.created"}, &p, make([]byte, 100), 131072)
}

// readPublish parses the three frames as the hot path does and returns the
// delivery mode.
func readPublish(t testing.TB, b []byte) uint8 {
	method, n, err := ParseFrame(b, 131072)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := ScanPublish(method.Payload); !ok || len(v.Exchange) != 6 {
		t.Fatalf("%+v", v)
	}
	b = b[n:]
	header, n, err := ParseFrame(b, 131072)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ScanHeader(header.Payload)
	if err != nil || h.BodySize != 100 {
		t.Fatalf("%+v %v", h, err)
	}
	props, err := ScanProps(h.Props)
	if err != nil {
		t.Fatal(err)
	}
	if body, _, err := ParseFrame(b[n:], 131072); err != nil || len(body.Payload) != 100 {
		t.Fatalf("%+v %v", body, err)
	}
	return props.DeliveryMode()
}

func TestHotPathAllocatesNothing(t *testing.T) {
	all := publishFrames(flagsKnown)
	ack := AppendMethodFrame(nil, 1, &BasicAck{DeliveryTag: 1})
	raw := seedProperties.AppendTo(nil)
	out := make([]byte, 0, 4096)
	for name, f := range map[string]func(){
		"publish with every property": func() {
			if readPublish(t, all) != 2 {
				t.Error("wrong delivery mode")
			}
		},
		"ack": func() {
			fr, _, _ := ParseFrame(ack, 0)
			if _, _, ok := ScanAck(fr.Payload); !ok {
				t.Error("no ack")
			}
		},
		"property accessors": func() {
			v, _ := ScanProps(raw)
			headers, _ := v.Headers()
			user, _ := v.UserID()
			if len(headers) == 0 || string(user) != "guest" {
				t.Error("wrong properties")
			}
		},
		"missing key": func() {
			v, _ := ScanProps(raw)
			headers, _ := v.Headers()
			if _, ok := TableLookup(headers, "CC"); ok {
				t.Error("found what is not there")
			}
		},
		"deliver written by its struct": func() {
			m := BasicDeliver{ConsumerTag: "c", DeliveryTag: 7, Exchange: "orders", RoutingKey: "eu"}
			dst, mark := BeginFrame(out, FrameMethod, 1)
			dst = EndFrame(m.AppendTo(dst), mark)
			dst = AppendHeaderFrame(dst, 1, 100, raw)
			dst = AppendBodyFrames(dst, 1, raw, 4096)
			if dst = AppendHeartbeat(dst); len(dst) > cap(out) {
				t.Error("the buffer is too small for the test")
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkReadPublish(b *testing.B) {
	for name, flags := range map[string]uint16{
		"none":         0,
		"mode":         FlagDeliveryMode,
		"type+mode":    FlagContentType | FlagDeliveryMode,
		"headers+mode": FlagHeaders | FlagDeliveryMode,
		"all":          flagsKnown,
	} {
		frames := publishFrames(flags)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(frames)))
			for b.Loop() {
				readPublish(b, frames)
			}
		})
	}
}

func BenchmarkScanProps(b *testing.B) {
	for name, flags := range map[string]uint16{
		"none":      0,
		"mode":      FlagDeliveryMode,
		"type+mode": FlagContentType | FlagDeliveryMode,
		"id+type+mode": FlagContentType | FlagDeliveryMode |
			FlagMessageID,
	} {
		p := seedProperties
		p.Flags = flags
		raw := p.AppendTo(nil)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if v, err := ScanProps(raw); err != nil || v.Flags() != flags {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScanAck(b *testing.B) {
	frame := AppendMethodFrame(nil, 1, &BasicAck{DeliveryTag: 99})
	for b.Loop() {
		f, _, err := ParseFrame(frame, 131072)
		if _, _, ok := ScanAck(f.Payload); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeMethod(b *testing.B) {
	for _, m := range []Method{&BasicPublish{Exchange: "orders", RoutingKey: "eu"}, &BasicAck{DeliveryTag: 1}, &QueueDeclare{Queue: "q", Arguments: seedTable}} {
		payload := m.AppendTo(nil)
		b.Run(m.ID().String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeMethod(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendDeliver(b *testing.B) {
	out := make([]byte, 0, 4096)
	for b.Loop() {
		m := BasicDeliver{ConsumerTag: "ctag-1", DeliveryTag: 7, Exchange: "orders", RoutingKey: "eu.created"}
		dst, mark := BeginFrame(out, FrameMethod, 1)
		EndFrame(m.AppendTo(dst), mark)
	}
}
