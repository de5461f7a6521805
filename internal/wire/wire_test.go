package wire

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// shortString, table and the rest draw values that the wire can carry.
func shortString() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringN(0, 20, 40),
		rapid.Just(strings.Repeat("x", 255)),
		rapid.Just(""),
	)
}

func tableValue(depth int) *rapid.Generator[any] {
	gens := []*rapid.Generator[any]{
		rapid.Just[any](nil),
		rapid.Bool().AsAny(), rapid.Int8().AsAny(), rapid.Uint8().AsAny(),
		rapid.Int16().AsAny(), rapid.Uint16().AsAny(), rapid.Int32().AsAny(),
		rapid.Uint32().AsAny(), rapid.Int64().AsAny(),
		rapid.Float32().AsAny(), rapid.Float64().AsAny(),
		rapid.String().AsAny(),
		rapid.SliceOfN(rapid.Byte(), 0, 30).AsAny(),
		rapid.Map(rapid.Uint64(), func(v uint64) any { return Timestamp(v) }),
		rapid.Custom(func(t *rapid.T) any {
			return Decimal{rapid.Uint8().Draw(t, "scale"), rapid.Int32().Draw(t, "value")}
		}),
	}
	if depth > 0 {
		gens = append(gens, table(depth-1).AsAny(), rapid.Custom(func(t *rapid.T) any {
			return Array(rapid.SliceOfN(tableValue(depth-1), 0, 4).Draw(t, "array"))
		}))
	}
	return rapid.OneOf(gens...)
}

func table(depth int) *rapid.Generator[Table] {
	return rapid.Custom(func(t *rapid.T) Table {
		var out Table
		for range rapid.IntRange(0, 5).Draw(t, "fields") {
			out = append(out, Field{shortString().Draw(t, "key"), tableValue(depth).Draw(t, "value")})
		}
		return out
	})
}

// allIDs lists every method id, found through the generated names.
func allIDs() []MethodID {
	var ids []MethodID
	for class := range MethodID(100) {
		for method := range MethodID(130) {
			if id := class<<16 | method; id.Known() {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// fill sets every field of the method m to a drawn value.
func fill(t *rapid.T, m Method) {
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString(shortString().Draw(t, name))
		case bool:
			f.SetBool(rapid.Bool().Draw(t, name))
		case Table:
			f.Set(reflect.ValueOf(table(2).Draw(t, name)))
		case uint8:
			f.SetUint(uint64(rapid.Uint8().Draw(t, name)))
		case uint16:
			f.SetUint(uint64(rapid.Uint16().Draw(t, name)))
		case uint32:
			f.SetUint(uint64(rapid.Uint32().Draw(t, name)))
		case uint64:
			f.SetUint(rapid.Uint64().Draw(t, name))
		default:
			t.Fatalf("%T.%s has a type the test does not know", m, name)
		}
	}
}

// sameMethod compares field by field; tables as tables.
func sameMethod(a, b Method) bool {
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range va.NumField() {
		x, y := va.Field(i).Interface(), vb.Field(i).Interface()
		if t, ok := x.(Table); ok {
			if !EqualTables(t, y.(Table)) {
				return false
			}
		} else if x != y {
			return false
		}
	}
	return true
}

func TestEveryMethodRoundTrips(t *testing.T) {
	ids := allIDs()
	if len(ids) != 66 {
		t.Fatalf("%d methods, want 66", len(ids))
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom(ids).Draw(t, "id")
		m := decodeArgs(id, &reader{})
		fill(t, m)
		payload := m.AppendTo(nil)
		got, err := DecodeMethod(payload)
		if err != nil {
			t.Fatalf("%v: %v", id, err)
		}
		if got.ID() != id || !sameMethod(m, got) {
			t.Fatalf("%v: sent %+v, got %+v", id, m, got)
		}
		if again := got.AppendTo(nil); string(again) != string(payload) {
			t.Fatalf("%v: encodes to %x, then to %x", id, payload, again)
		}
		// No proper prefix and no longer payload is the same method.
		cut := rapid.IntRange(0, len(payload)-1).Draw(t, "cut")
		if _, err := DecodeMethod(payload[:cut]); err == nil {
			t.Fatalf("%v: %d of %d bytes decode", id, cut, len(payload))
		}
		if _, err := DecodeMethod(append(payload, 0)); err == nil {
			t.Fatalf("%v: a byte too many decodes", id)
		}
	})
}

func TestTablesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := table(3).Draw(t, "table")
		b := AppendTable([]byte("pre"), want)[3:]
		got, n, err := ParseTable(append(b, 0xFF))
		if err != nil || n != len(b) {
			t.Fatalf("parsed %d of %d bytes: %v", n, len(b), err)
		}
		if !EqualTables(want, got) {
			t.Fatalf("sent %#v, got %#v", want, got)
		}
		body, err := ParseTableBody(b[4:])
		if err != nil || !EqualTables(want, body) {
			t.Fatalf("body: sent %#v, got %#v, %v", want, body, err)
		}
		for _, f := range want {
			first, _ := want.Get(f.Key)
			v, ok := TableLookup(b[4:], f.Key)
			if !ok || !EqualValues(v, first) {
				t.Fatalf("lookup %q: %#v %v, want %#v", f.Key, v, ok, first)
			}
		}
		if v, ok := TableLookup(b[4:], "no such key, being longer than any drawn one"); ok {
			t.Fatalf("found %#v under a key that is not there", v)
		}
	})
}

func properties() *rapid.Generator[Properties] {
	return rapid.Custom(func(t *rapid.T) Properties {
		p := Properties{Flags: rapid.Uint16().Draw(t, "flags") &^ 3}
		str := func(flag uint16, dst *string) {
			if p.Flags&flag != 0 {
				*dst = shortString().Draw(t, "string")
			}
		}
		str(FlagContentType, &p.ContentType)
		str(FlagContentEncoding, &p.ContentEncoding)
		if p.Flags&FlagHeaders != 0 {
			p.Headers = table(2).Draw(t, "headers")
		}
		if p.Flags&FlagDeliveryMode != 0 {
			p.DeliveryMode = rapid.Uint8().Draw(t, "mode")
		}
		if p.Flags&FlagPriority != 0 {
			p.Priority = rapid.Uint8().Draw(t, "priority")
		}
		str(FlagCorrelationID, &p.CorrelationID)
		str(FlagReplyTo, &p.ReplyTo)
		str(FlagExpiration, &p.Expiration)
		str(FlagMessageID, &p.MessageID)
		if p.Flags&FlagTimestamp != 0 {
			p.Timestamp = Timestamp(rapid.Uint64().Draw(t, "timestamp"))
		}
		str(FlagType, &p.Type)
		str(FlagUserID, &p.UserID)
		str(FlagAppID, &p.AppID)
		str(FlagClusterID, &p.ClusterID)
		return p
	})
}

func sameProperties(a, b Properties) bool {
	headersEqual := EqualTables(a.Headers, b.Headers)
	a.Headers, b.Headers = nil, nil
	return headersEqual && reflect.DeepEqual(a, b)
}

// checkView compares what a view finds with the decoded properties.
func checkView(t interface {
	Helper()
	Fatalf(string, ...any)
}, v PropsView, p Properties) {
	t.Helper()
	str := func(name string, flag uint16, get func() ([]byte, bool), want string) {
		got, ok := get()
		if ok != (p.Flags&flag != 0) || string(got) != want {
			t.Fatalf("%s is %q %v, want %q", name, got, ok, want)
		}
	}
	str("content type", FlagContentType, v.ContentType, p.ContentType)
	str("correlation id", FlagCorrelationID, v.CorrelationID, p.CorrelationID)
	str("reply-to", FlagReplyTo, v.ReplyTo, p.ReplyTo)
	str("expiration", FlagExpiration, v.Expiration, p.Expiration)
	str("message id", FlagMessageID, v.MessageID, p.MessageID)
	str("user id", FlagUserID, v.UserID, p.UserID)
	if v.Flags() != p.Flags || v.DeliveryMode() != p.DeliveryMode {
		t.Fatalf("flags %x mode %d, want %x and %d", v.Flags(), v.DeliveryMode(), p.Flags, p.DeliveryMode)
	}
	if prio, ok := v.Priority(); ok != v.Has(FlagPriority) || prio != p.Priority {
		t.Fatalf("priority %d %v, want %d", prio, ok, p.Priority)
	}
	if ts, ok := v.Timestamp(); ok != v.Has(FlagTimestamp) || ts != p.Timestamp {
		t.Fatalf("timestamp %d %v, want %d", ts, ok, p.Timestamp)
	}
	raw, ok := v.Headers()
	headers, err := ParseTableBody(raw)
	if ok != v.Has(FlagHeaders) || err != nil || !EqualTables(headers, p.Headers) {
		t.Fatalf("headers %v %v %v, want %v", headers, ok, err, p.Headers)
	}
}

func TestPropertiesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := properties().Draw(t, "properties")
		raw := want.AppendTo(nil)
		got, err := ParseProperties(raw)
		if err != nil || !sameProperties(want, got) {
			t.Fatalf("sent %+v, got %+v, %v", want, got, err)
		}
		v, err := ScanProps(raw)
		if err != nil {
			t.Fatal(err)
		}
		checkView(t, v, want)
		cut := rapid.IntRange(0, len(raw)-1).Draw(t, "cut")
		if _, err := ScanProps(raw[:cut]); err == nil {
			t.Fatalf("%d of %d bytes are accepted", cut, len(raw))
		}
		if _, err := ScanProps(append(raw, 0)); err != ErrPropsExtra {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}

func TestContentRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frameMax := rapid.SampledFrom([]uint32{0, 1, FrameMinSize, 5000, 131072}).Draw(t, "frame max")
		body := make([]byte, rapid.SampledFrom([]int{0, 1, 4088, 4089, 8176, 20000, 131064, 131065}).Draw(t, "body"))
		for i := range body {
			body[i] = byte(i * 7)
		}
		p := properties().Draw(t, "properties")
		channel := rapid.Uint16().Draw(t, "channel")
		m := &BasicDeliver{ConsumerTag: "c", DeliveryTag: 9, Exchange: "e", RoutingKey: "k"}
		b := AppendContent(nil, channel, m, &p, body, frameMax)

		limit := max(frameMax, FrameMinSize) // bodies; drawn headers may be larger
		if frameMax == 0 {
			limit = 0
		}
		var got []byte
		for i := 0; len(b) > 0; i++ {
			f, n, err := ParseFrame(b, 0)
			if err != nil || n == 0 || f.Channel != channel {
				t.Fatalf("frame %d: %d %v on channel %d", i, n, err, f.Channel)
			}
			b = b[n:]
			switch i {
			case 0:
				if back, err := DecodeMethod(f.Payload); f.Type != FrameMethod || err != nil || !sameMethod(m, back) {
					t.Fatalf("method %+v, %v", back, err)
				}
			case 1:
				h, err := ScanHeader(f.Payload)
				if f.Type != FrameHeader || err != nil || h.Class != 60 || h.Weight != 0 || h.BodySize != uint64(len(body)) {
					t.Fatalf("header %+v, %v", h, err)
				}
				if back, err := ParseProperties(h.Props); err != nil || !sameProperties(p, back) {
					t.Fatalf("properties %+v, %v", back, err)
				}
			default:
				if f.Type != FrameBody || len(f.Payload) == 0 || limit != 0 && n > int(limit) {
					t.Fatalf("frame %d of type %d has %d bytes of %d", i, f.Type, n, limit)
				}
				got = append(got, f.Payload...)
			}
		}
		if string(got) != string(body) {
			t.Fatalf("%d bytes of body back from %d", len(got), len(body))
		}
	})
}
