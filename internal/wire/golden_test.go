package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"os/exec"
	"strings"
	"testing"
)

// golden are methods with their payload, worked out by hand from the
// specification and seen on the wire of other brokers and clients.
var golden = []struct {
	method Method
	hex    string
	name   string
}{
	{&BasicPublish{Exchange: "ex", RoutingKey: "key", Mandatory: true}, "003c0028 0000 026578 036b6579 01", "basic.publish"},
	{&BasicPublish{Immediate: true}, "003c0028 0000 00 00 02", "basic.publish"},
	{&BasicAck{DeliveryTag: 258, Multiple: true}, "003c0050 0000000000000102 01", "basic.ack"},
	{&BasicNack{DeliveryTag: 1, Requeue: true}, "003c0078 0000000000000001 02", "basic.nack"},
	{&BasicReject{DeliveryTag: 1, Requeue: true}, "003c005a 0000000000000001 01", "basic.reject"},
	{&BasicDeliver{"ct", 1, true, "e", "k"}, "003c003c 026374 0000000000000001 01 0165 016b", "basic.deliver"},
	{&BasicGetOk{3, false, "", "q", 7}, "003c0047 0000000000000003 00 00 0171 00000007", "basic.get-ok"},
	{&BasicGetEmpty{}, "003c0048 00", "basic.get-empty"},
	{&BasicQos{0, 100, true}, "003c000a 00000000 0064 01", "basic.qos"},
	{&BasicRecoverAsync{true}, "003c0064 01", "basic.recover-async"},
	{&QueueDeclare{Queue: "q", Durable: true, AutoDelete: true, Arguments: Table{{"x-max-length", int32(5)}}},
		"0032000a 0000 0171 0a 00000012 0c782d6d61782d6c656e677468 49 00000005", "queue.declare"},
	{&QueueDeclareOk{"q", 1, 2}, "0032000b 0171 00000001 00000002", "queue.declare-ok"},
	{&ExchangeDeclare{Exchange: "x", Type: "topic", Internal: true, NoWait: true},
		"0028000a 0000 0178 05746f706963 18 00000000", "exchange.declare"},
	{&ExchangeUnbindOk{}, "00280033", "exchange.unbind-ok"},
	{&ConnectionTune{2047, 131072, 60}, "000a001e 07ff 00020000 003c", "connection.tune"},
	{&ConnectionOpen{"/"}, "000a0028 012f 00 00", "connection.open"},
	{&ConnectionOpenOk{}, "000a0029 00", "connection.open-ok"},
	{&ConnectionClose{320, "bye", 60, 40}, "000a0032 0140 03627965 003c 0028", "connection.close"},
	{&ConnectionUpdateSecret{"s", "r"}, "000a0046 0000000173 0172", "connection.update-secret"},
	{&ChannelOpen{}, "0014000a 00", "channel.open"},
	{&ChannelOpenOk{}, "0014000b 00000000", "channel.open-ok"},
	{&AccessRequest{Realm: "/data", Active: true, Read: true}, "001e000a 052f64617461 14", "access.request"},
	{&AccessRequestOk{1}, "001e000b 0001", "access.request-ok"},
	{&ConfirmSelect{NoWait: true}, "0055000a 01", "confirm.select"},
	{&TxRollbackOk{}, "005a001f", "tx.rollback-ok"},
}

// unhex decodes hex with blanks in it.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenMethods(t *testing.T) {
	for _, g := range golden {
		want := unhex(t, g.hex)
		if got := g.method.AppendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("%s encodes to\n%x, want\n%x", g.name, got, want)
		}
		got, err := DecodeMethod(want)
		if err != nil || !sameMethod(got, g.method) {
			t.Errorf("%s decodes to %+v, %v; want %+v", g.name, got, err, g.method)
		}
		if s := g.method.ID().String(); s != g.name {
			t.Errorf("%T is called %q", g.method, s)
		}
	}
}

func TestGeneratedCodeIsUpToDate(t *testing.T) {
	if out, err := exec.Command("go", "run", "gen.go", "check").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestMethodIDs(t *testing.T) {
	if s := MethodID(60<<16 | 999).String(); s != "60.999" {
		t.Errorf("an unknown method is called %q", s)
	}
	var content []string
	for _, id := range allIDs() {
		if id.HasContent() {
			content = append(content, id.String())
		}
	}
	if s := strings.Join(content, " "); s != "basic.publish basic.return basic.deliver basic.get-ok" {
		t.Errorf("methods with content: %s", s)
	}
	if PeekMethod([]byte{0, 60, 0, 40, 1}) != IDBasicPublish || PeekMethod([]byte{0, 60, 0}) != 0 {
		t.Error("PeekMethod misreads the ids")
	}
}

func TestUnknownBitsAreIgnored(t *testing.T) {
	m, err := DecodeMethod(unhex(t, "003c0050 0000000000000001 fe"))
	if err != nil || m.(*BasicAck).Multiple {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestDecodeMethodSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		kind      DecodeErrorKind
		id        MethodID
		args      string
	}{
		{"nothing", "", Malformed, 0, ""},
		{"half an id", "003c00", Malformed, 0, "003c00"},
		{"unknown method", "003c03e7 0102", UnknownMethod, 60<<16 | 999, "0102"},
		{"unknown class", "00010001", UnknownMethod, 1<<16 | 1, ""},
		{"no arguments", "003c0050", Malformed, IDBasicAck, ""},
		{"half a tag", "003c0050 00000001", Malformed, IDBasicAck, "00000001"},
		{"a byte too many", "003c0050 0000000000000001 01 09", Malformed, IDBasicAck, "00000000000000010109"},
		{"name too long", "003c0028 0000 ff6578", Malformed, IDBasicPublish, "0000ff6578"},
		{"long string of 4 GiB", "000a0014 ffffffff 00", Malformed, IDConnectionSecure, "ffffffff00"},
		{"table of 2 GiB", "0032000a 0000 0171 00 80000000", Malformed, IDQueueDeclare, "000001710080000000"},
		{"table with an unknown type", "0032000a 0000 0171 00 00000003 016b5a", Malformed, IDQueueDeclare, "000001710000000003016b5a"},
		{"reserved string cut", "000a0029 05", Malformed, IDConnectionOpenOk, "05"},
	} {
		m, err := DecodeMethod(unhex(t, c.hex))
		var de *DecodeError
		if m != nil || !errors.As(err, &de) {
			t.Errorf("%s: got %+v, %v", c.name, m, err)
			continue
		}
		if de.Kind != c.kind || de.Method != c.id || hex.EncodeToString(de.Args) != c.args {
			t.Errorf("%s: got %d %v %x", c.name, de.Kind, de.Method, de.Args)
		}
		if de.Error() == "" {
			t.Errorf("%s: no text", c.name)
		}
	}
}

func TestHostileTables(t *testing.T) {
	nested := func(tag byte, depth int) []byte {
		var v any = Table(nil)
		if tag == 'A' {
			v = Array(nil)
		}
		for range depth - 2 {
			if tag == 'A' {
				v = Array{v}
			} else {
				v = Table{{"k", v}}
			}
		}
		// By hand, as AppendTable stops at the limit.
		return appendTableAt(nil, Table{{"k", v}}, -1000)
	}
	bomb := func(values int) []byte {
		b := appendLong([]byte{}, uint32(values+1+1+4))
		b = append(b, 0, 'A')
		b = appendLong(b, uint32(values))
		return append(b, bytes.Repeat([]byte{'V'}, values)...)
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, ErrTableBounds},
		{"half a length", []byte{0, 0, 0}, ErrTableBounds},
		{"empty", []byte{0, 0, 0, 0}, nil},
		{"longer than its bytes", []byte{0, 0, 0, 1}, ErrTableBounds},
		{"4 GiB", []byte{255, 255, 255, 255, 0}, ErrTableBounds},
		{"key past the end", []byte{0, 0, 0, 2, 5, 'k'}, ErrTableBounds},
		{"key without a tag", []byte{0, 0, 0, 2, 1, 'k'}, ErrTableBounds},
		{"tag without a value", []byte{0, 0, 0, 2, 0, 't'}, ErrTableBounds},
		{"half a value", []byte{0, 0, 0, 4, 0, 'I', 0, 0}, ErrTableBounds},
		{"unknown tag", []byte{0, 0, 0, 2, 0, 'Z'}, ErrTableType},
		{"not a number", []byte{0, 0, 0, 6, 0, 'f', 0x7f, 0xc0, 0, 0}, ErrTableFloat},
		{"minus infinity", []byte{0, 0, 0, 10, 0, 'd', 0xff, 0xf0, 0, 0, 0, 0, 0, 0}, ErrTableFloat},
		{"largest float", []byte{0, 0, 0, 6, 0, 'f', 0x7f, 0x7f, 0xff, 0xff}, nil},
		{"void", []byte{0, 0, 0, 2, 0, 'V'}, nil},
		{"half a string length", []byte{0, 0, 0, 4, 0, 'S', 0, 0}, ErrTableBounds},
		{"string of 4 GiB", []byte{0, 0, 0, 6, 0, 'S', 255, 255, 255, 255}, ErrTableBounds},
		{"string past the table", []byte{0, 0, 0, 6, 0, 'S', 0, 0, 0, 1, 'x'}, ErrTableBounds},
		{"inner table past the outer", []byte{0, 0, 0, 6, 0, 'F', 0, 0, 0, 1, 'x'}, ErrTableBounds},
		{"array with half a value", []byte{0, 0, 0, 7, 0, 'A', 0, 0, 0, 1, 'I'}, ErrTableBounds},
		{"array with an unknown tag", []byte{0, 0, 0, 7, 0, 'A', 0, 0, 0, 1, 0}, ErrTableType},
		{"64 tables deep", nested('F', MaxTableDepth), nil},
		{"65 tables deep", nested('F', MaxTableDepth+1), ErrTableDepth},
		{"64 deep by arrays", nested('A', MaxTableDepth), nil},
		{"65 deep by arrays", nested('A', MaxTableDepth+1), ErrTableDepth},
		{"10,000 deep", nested('A', 10000), ErrTableDepth},
		{"as many values as allowed", bomb(MaxTableValues - 1), nil},
		{"one value more", bomb(MaxTableValues), ErrTableValues},
	} {
		_, n, err := ParseTable(c.b)
		if !errors.Is(err, c.want) || err == nil && n != len(c.b) {
			t.Errorf("%s: %d of %d bytes, %v; want %v", c.name, n, len(c.b), err, c.want)
		}
		// The same table as headers must meet the same fate in both parsers.
		props := append([]byte{0x20, 0}, c.b...)
		_, scanErr := ScanProps(props)
		_, parseErr := ParseProperties(props)
		if !errors.Is(scanErr, c.want) || !errors.Is(parseErr, c.want) {
			t.Errorf("%s as headers: %v and %v, want %v", c.name, scanErr, parseErr, c.want)
		}
	}
}

func TestHostileProperties(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"nothing", "", ErrPropsBounds},
		{"half the flags", "10", ErrPropsBounds},
		{"no properties", "0000", nil},
		{"extra byte", "0000 01", ErrPropsExtra},
		{"delivery mode", "1000 02", nil},
		{"no delivery mode", "1000", ErrPropsBounds},
		{"delivery mode and a byte", "1000 02 03", ErrPropsExtra},
		{"more flags to come", "0001 0000", ErrPropsFlags},
		{"more flags to come, none there", "1001 02", ErrPropsFlags},
		{"the unused flag", "1002 02", nil},
		{"content type past the end", "8000 05 61", ErrPropsBounds},
		{"content type swallows delivery mode", "9000 01 61", ErrPropsBounds},
		{"content type past the end, then headers", "a000 ff 00000000", ErrPropsBounds},
		{"timestamp cut", "0040 00000000000000", ErrPropsBounds},
		{"last string cut", "0004 01", ErrPropsBounds},
		{"all flags, no values", "fffc", ErrPropsBounds},
		{"headers cut", "2000 000000", ErrTableBounds},
	} {
		raw := unhex(t, c.hex)
		_, scanErr := ScanProps(raw)
		_, parseErr := ParseProperties(raw)
		if scanErr != c.want || parseErr != c.want {
			t.Errorf("%s: scan %v, parse %v, want %v", c.name, scanErr, parseErr, c.want)
		}
	}
	if _, err := ScanHeader(make([]byte, 11)); err != ErrHeaderShort {
		t.Errorf("a header of 11 bytes: %v", err)
	}
}

func TestParseFrame(t *testing.T) {
	ok := unhex(t, "01 0007 00000002 aabb ce")
	for i := range ok {
		if _, n, err := ParseFrame(ok[:i], FrameMinSize); n != 0 || err != nil {
			t.Errorf("%d of %d bytes: %d, %v", i, len(ok), n, err)
		}
	}
	f, n, err := ParseFrame(append(ok, 9, 9), FrameMinSize)
	if err != nil || n != len(ok) || f.Type != 1 || f.Channel != 7 || !bytes.Equal(f.Payload, []byte{0xaa, 0xbb}) {
		t.Errorf("got %+v, %d, %v", f, n, err)
	}

	_, n, err = ParseFrame(unhex(t, "02 0001 00001000"), 4096)
	if n != 0 || err != nil {
		t.Errorf("payload within the slack: %d, %v", n, err)
	}
	var fe *FrameError
	_, _, err = ParseFrame(unhex(t, "02 0001 00001001"), 4096)
	if !errors.As(err, &fe) || fe.Kind != FrameTooLarge || fe.Type != 2 || fe.Channel != 1 || fe.Size != 4097 || fe.Max != 4088 {
		t.Errorf("oversize: %+v", err)
	}
	_, n, err = ParseFrame(unhex(t, "02 0001 ffffffff 00"), 0)
	if n != 0 || err != nil {
		t.Errorf("no limit: %d, %v", n, err)
	}
	_, _, err = ParseFrame(unhex(t, "01 0007 00000002 aabb cd"), 0)
	if !errors.As(err, &fe) || fe.Kind != FrameBadEnd || fe.End != 0xcd || len(fe.Payload) != 2 || fe.Error() == "" {
		t.Errorf("bad end: %+v", err)
	}
}

func TestEncodersCannotCorruptTheStream(t *testing.T) {
	long := strings.Repeat("k", 300)
	b := AppendMethodFrame(nil, 1, &BasicPublish{Exchange: long, RoutingKey: long, Mandatory: true})
	f, n, err := ParseFrame(b, 0)
	if err != nil || n != len(b) {
		t.Fatalf("%d of %d bytes, %v", n, len(b), err)
	}
	m, err := DecodeMethod(f.Payload)
	if p, ok := m.(*BasicPublish); err != nil || !ok || p.Exchange != long[:255] || p.RoutingKey != long[:255] || !p.Mandatory {
		t.Errorf("got %+v, %v", m, err)
	}

	var deep any = Table(nil)
	for range 200 {
		deep = Array{Table{{long, deep}}}
	}
	tab := Table{{"deep", deep}, {"odd", struct{ f func() }{}}, {"int", 7}, {"nan", math.NaN()}, {"inf", float32(math.Inf(-1))}}
	got, _, err := ParseTable(AppendTable(nil, tab))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"odd", "nan", "inf"} {
		if v, ok := got.Get(key); !ok || v != nil {
			t.Errorf("%s comes back as %#v", key, v)
		}
	}
	if v, _ := got.Get("int"); v != int64(7) {
		t.Errorf("int comes back as %#v", v)
	}
}

func TestScanPublishAgreesWithDecode(t *testing.T) {
	for _, g := range golden {
		payload := g.method.AppendTo(nil)
		v, ok := ScanPublish(payload)
		if p, is := g.method.(*BasicPublish); ok != is ||
			is && (string(v.Exchange) != p.Exchange || string(v.RoutingKey) != p.RoutingKey || v.Mandatory != p.Mandatory || v.Immediate != p.Immediate) {
			t.Errorf("%s as publish: %+v %v", g.name, v, ok)
		}
		tag, multiple, ok := ScanAck(payload)
		if a, is := g.method.(*BasicAck); ok != is || is && (tag != a.DeliveryTag || multiple != a.Multiple) {
			t.Errorf("%s as ack: %d %v %v", g.name, tag, multiple, ok)
		}
	}
}

func TestScannersRefuseWhatDoesNotFit(t *testing.T) {
	publish := (&BasicPublish{Exchange: "ex", RoutingKey: "key"}).AppendTo(nil)
	ack := (&BasicAck{DeliveryTag: 1}).AppendTo(nil)
	for i := range publish {
		if v, ok := ScanPublish(publish[:i:i]); ok {
			t.Errorf("%d of %d bytes are a publish: %+v", i, len(publish), v)
		}
	}
	for i := range ack {
		if _, _, ok := ScanAck(ack[:i:i]); ok {
			t.Errorf("%d of %d bytes are an ack", i, len(ack))
		}
	}
	if _, ok := ScanPublish(append(publish, 0)); ok {
		t.Error("a publish with a byte too many")
	}
	if _, _, ok := ScanAck(append(ack, 0)); ok {
		t.Error("an ack with a byte too many")
	}
}

func TestEqualTables(t *testing.T) {
	a := Table{{"x", int32(1)}, {"y", Array{"a", Table{{"p", true}, {"q", nil}}}}, {"z", math.NaN()}}
	b := Table{{"z", math.NaN()}, {"y", Array{"a", Table{{"q", nil}, {"p", true}}}}, {"x", int32(1)}}
	if !EqualTables(a, b) || !EqualTables(nil, Table{}) {
		t.Error("the order of keys makes a difference")
	}
	if a[0].Key != "x" || b[0].Key != "z" {
		t.Error("comparing reorders the tables")
	}
	for _, c := range []Table{
		nil,
		b[:2],
		{{"z", math.NaN()}, {"y", Array{"a", Table{{"q", nil}, {"p", true}}}}, {"x", int64(1)}},
		{{"z", math.NaN()}, {"y", Array{Table{{"q", nil}, {"p", true}}, "a"}}, {"x", int32(1)}},
		{{"z", math.NaN()}, {"y", Array{"a", Table{{"q", nil}, {"p", false}}}}, {"x", int32(1)}},
		{{"z", float32(0)}, {"y", a[1].Value}, {"x", int32(1)}},
	} {
		if EqualTables(a, c) || EqualTables(c, a) {
			t.Errorf("%v equals %v", a, c)
		}
	}
	if EqualValues([]byte("a"), "a") || EqualValues(struct{ f func() }{}, struct{ f func() }{}) {
		t.Error("values of unequal or unlisted types are equal")
	}
}

func TestTypeNames(t *testing.T) {
	for want, v := range map[string]any{
		"void": nil, "bool": true, "byte": int8(1), "unsignedbyte": uint8(1), "short": int16(1),
		"unsignedshort": uint16(1), "signedint": int32(1), "unsignedint": uint32(1), "long": int64(1),
		"float": float32(1), "double": 1.0, "decimal": Decimal{}, "longstr": "s", "binary": []byte{},
		"timestamp": Timestamp(1), "table": Table{}, "array": Array{}, "undefined": struct{}{},
	} {
		if got := TypeName(v); got != want {
			t.Errorf("%T is called %q, want %q", v, got, want)
		}
	}
}

func TestReplyTextFitsAShortString(t *testing.T) {
	long := ChannelError(NotFound, "%s", strings.Repeat("q", 300)).ReplyText()
	if len(long) != 255 || !strings.HasSuffix(long, "q...") {
		t.Errorf("%d bytes: %s", len(long), long)
	}
	if bare := ConnectionError(InternalError, "").ReplyText(); bare != "INTERNAL_ERROR" {
		t.Errorf("without an explanation: %q", bare)
	}
	exact := ChannelError(NotFound, "%s", strings.Repeat("q", 255-len("NOT_FOUND - "))).ReplyText()
	if len(exact) != 255 || strings.HasSuffix(exact, ".") {
		t.Errorf("%d bytes: %s", len(exact), exact)
	}
}
