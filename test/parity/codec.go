package parity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// value is one field-table value: its wire tag and a Go value (uint64 for unsigned
// integers and timestamps, int64 for signed ones, float64, string, bool, table, []value,
// decimal, nil).
type value struct {
	tag byte
	v   any
}

// entry is one key and value of a table.
type entry struct {
	key string
	val value
}

type table []entry

// decimal is digits divided by ten to the power of scale.
type decimal struct {
	scale  uint8
	digits int32
}

var errShort = errors.New("truncated")

// appendField writes one method or property field. v is uint64, bool, string or table.
func appendField(b []byte, kind string, v any) ([]byte, error) {
	switch kind {
	case "octet":
		return append(b, byte(v.(uint64))), nil
	case "short":
		return binary.BigEndian.AppendUint16(b, uint16(v.(uint64))), nil
	case "long":
		return binary.BigEndian.AppendUint32(b, uint32(v.(uint64))), nil
	case "longlong":
		return binary.BigEndian.AppendUint64(b, v.(uint64)), nil
	case "shortstr":
		s := v.(string)
		if len(s) > 255 {
			return nil, fmt.Errorf("short string of %d bytes", len(s))
		}
		return append(append(b, byte(len(s))), s...), nil
	case "longstr":
		return appendLong(b, v.(string)), nil
	case "table":
		return appendTable(b, v.(table)), nil
	}
	return nil, fmt.Errorf("unknown type %s", kind)
}

func appendLong(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendTable(b []byte, t table) []byte {
	var body []byte
	for _, e := range t {
		body = append(append(body, byte(len(e.key))), e.key...)
		body = appendValue(body, e.val)
	}
	return appendLong(b, string(body))
}

func appendValue(b []byte, v value) []byte {
	b = append(b, v.tag)
	switch v.tag {
	case 't':
		if v.v.(bool) {
			return append(b, 1)
		}
		return append(b, 0)
	case 'b', 'B':
		return append(b, byte(asUint(v.v)))
	case 's', 'u':
		return binary.BigEndian.AppendUint16(b, uint16(asUint(v.v)))
	case 'I', 'i':
		return binary.BigEndian.AppendUint32(b, uint32(asUint(v.v)))
	case 'l', 'L', 'T':
		return binary.BigEndian.AppendUint64(b, asUint(v.v))
	case 'f':
		return binary.BigEndian.AppendUint32(b, math.Float32bits(float32(v.v.(float64))))
	case 'd':
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v.v.(float64)))
	case 'D':
		d := v.v.(decimal)
		return binary.BigEndian.AppendUint32(append(b, d.scale), uint32(d.digits))
	case 'S', 'x':
		return appendLong(b, v.v.(string))
	case 'A':
		var body []byte
		for _, e := range v.v.([]value) {
			body = appendValue(body, e)
		}
		return appendLong(b, string(body))
	case 'F':
		return appendTable(b, v.v.(table))
	}
	return b // 'V' has no payload, and a tag unknown to us is sent bare on purpose
}

func asUint(v any) uint64 {
	if i, ok := v.(int64); ok {
		return uint64(i)
	}
	return v.(uint64)
}

// decoder reads fields from b; the first failure sticks in err.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.b) {
		d.err = errShort
		return make([]byte, min(n, 8))
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) octet() byte        { return d.take(1)[0] }
func (d *decoder) short() uint16      { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) long() uint32       { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) longlong() uint64   { return binary.BigEndian.Uint64(d.take(8)) }
func (d *decoder) shortstr() string   { return string(d.take(int(d.octet()))) }
func (d *decoder) longstr() string    { return string(d.take(int(d.long()))) }
func (d *decoder) nested() *decoder   { return &decoder{b: d.take(int(d.long())), err: d.err} }
func (d *decoder) remaining() bool    { return d.err == nil && len(d.b) > 0 }
func (d *decoder) inner(n *decoder)   { d.err = errors.Join(d.err, n.err) }
func signed(bits int, u uint64) int64 { return int64(u<<(64-bits)) >> (64 - bits) }

func (d *decoder) field(kind string) any {
	switch kind {
	case "octet":
		return uint64(d.octet())
	case "short":
		return uint64(d.short())
	case "long":
		return uint64(d.long())
	case "longlong":
		return d.longlong()
	case "shortstr":
		return d.shortstr()
	case "longstr":
		return d.longstr()
	}
	return d.table()
}

func (d *decoder) table() table {
	in, t := d.nested(), table{}
	for in.remaining() {
		t = append(t, entry{in.shortstr(), in.value()})
	}
	d.inner(in)
	return t
}

func (d *decoder) value() value {
	tag := d.octet()
	return value{tag, d.tagged(tag)}
}

func (d *decoder) tagged(tag byte) any {
	switch tag {
	case 't':
		return d.octet() != 0
	case 'b':
		return signed(8, uint64(d.octet()))
	case 'B':
		return uint64(d.octet())
	case 's':
		return signed(16, uint64(d.short()))
	case 'u':
		return uint64(d.short())
	case 'I':
		return signed(32, uint64(d.long()))
	case 'i':
		return uint64(d.long())
	case 'l', 'L':
		return int64(d.longlong())
	case 'T':
		return d.longlong()
	case 'f':
		return float64(math.Float32frombits(d.long()))
	case 'd':
		return math.Float64frombits(d.longlong())
	case 'D':
		return decimal{d.octet(), int32(d.long())}
	case 'S', 'x':
		return d.longstr()
	case 'A':
		in, a := d.nested(), []value{}
		for in.remaining() {
			a = append(a, in.value())
		}
		d.inner(in)
		return a
	case 'F':
		return d.table()
	case 'V':
		return nil
	}
	d.err = fmt.Errorf("unknown table tag %q", tag)
	return nil
}

// args are the fields of a method or content header by name; missing ones are zero.
type args map[string]any

// encodeMethod gives the payload of a method frame.
func encodeMethod(m *methodSpec, a args) ([]byte, error) {
	b := binary.BigEndian.AppendUint16(nil, m.class)
	b = binary.BigEndian.AppendUint16(b, m.method)
	bits := 0 // consecutive bits share octets
	for _, f := range m.fields {
		if f.kind == "bit" {
			if bits%8 == 0 {
				b = append(b, 0)
			}
			if v, _ := a[f.name].(bool); v {
				b[len(b)-1] |= 1 << (bits % 8)
			}
			bits++
			continue
		}
		bits = 0
		v, ok := a[f.name]
		if !ok {
			v = zeroOf(f.kind)
		}
		var err error
		if b, err = appendField(b, f.kind, v); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", f.name, m.name, err)
		}
	}
	return b, nil
}

func zeroOf(kind string) any {
	switch kind {
	case "shortstr", "longstr":
		return ""
	case "table":
		return table(nil)
	case "bit":
		return false
	}
	return uint64(0)
}

// decodeMethod reads a method frame's payload.
func decodeMethod(payload []byte) (*methodSpec, args, error) {
	d := &decoder{b: payload}
	id := d.long()
	m := spec().byID[id]
	if m == nil {
		return nil, nil, fmt.Errorf("unknown method %d.%d", id>>16, id&0xffff)
	}
	a, bits, octet := args{}, 0, byte(0)
	for _, f := range m.fields {
		if f.kind == "bit" {
			if bits%8 == 0 {
				octet = d.octet()
			}
			a[f.name] = octet>>(bits%8)&1 == 1
			bits++
			continue
		}
		bits = 0
		a[f.name] = d.field(f.kind)
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	return m, a, d.err
}

// encodeHeader gives the payload of a content header frame.
func encodeHeader(class uint16, bodyBytes uint64, a args) ([]byte, error) {
	b := binary.BigEndian.AppendUint16(nil, class)
	b = append(b, 0, 0) // weight
	b = binary.BigEndian.AppendUint64(b, bodyBytes)
	var flags uint16
	var fields []byte
	for i, p := range propertySpecs() {
		v, ok := a[p.name]
		if !ok {
			continue
		}
		flags |= 1 << (15 - i)
		var err error
		if fields, err = appendField(fields, p.kind, v); err != nil {
			return nil, fmt.Errorf("property %s: %w", p.name, err)
		}
	}
	return append(binary.BigEndian.AppendUint16(b, flags), fields...), nil
}

// decodeHeader reads a content header frame's payload.
func decodeHeader(payload []byte) (bodyBytes uint64, a args, err error) {
	d := &decoder{b: payload}
	d.long() // class and weight
	bodyBytes = d.longlong()
	flags := d.short()
	a = args{}
	for i, p := range propertySpecs() {
		if flags&(1<<(15-i)) != 0 {
			a[p.name] = d.field(p.kind)
		}
	}
	return bodyBytes, a, d.err
}

// appendFrame writes a whole frame.
func appendFrame(b []byte, kind byte, channel uint16, payload []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint16(b, channel)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(payload))), payload...)
	return append(b, 0xCE)
}
