package wire

import (
	"encoding/binary"
	"errors"
	"math"
)

const (
	// MaxTableDepth is how deep tables and arrays may nest; the outermost table
	// counts as 1. RabbitMQ has no such limit; it keeps our stack bounded.
	MaxTableDepth = 64
	// MaxTableValues is how many values one table may hold, nested ones
	// included. It bounds the memory that a table of one-byte values unfolds to.
	MaxTableValues = 1 << 16
)

// What is wrong with a field table.
var (
	ErrTableBounds = errors.New("field table: a length is larger than what follows")
	ErrTableType   = errors.New("field table: unknown type of value")
	ErrTableDepth  = errors.New("field table: nested too deep")
	ErrTableValues = errors.New("field table: too many values")
	ErrTableFloat  = errors.New("field table: a float that is not a finite number")
)

// fixedBytes is the size of a value by its tag, for tags whose size is fixed.
func fixedBytes(tag byte) (n int, ok bool) {
	switch tag {
	case 'V':
		return 0, true
	case 't', 'b', 'B':
		return 1, true
	case 's', 'u':
		return 2, true
	case 'I', 'i', 'f':
		return 4, true
	case 'D':
		return 5, true
	case 'l', 'L', 'd', 'T':
		return 8, true
	}
	return 0, false
}

// finite is false for a float that is infinite or not a number: its exponent
// is all ones. Erlang cannot hold such a value, so RabbitMQ lets none through
// and no consumer expects any.
func finite(tag byte, v []byte) bool {
	switch tag {
	case 'f':
		return binary.BigEndian.Uint32(v)&0x7F800000 != 0x7F800000
	case 'd':
		return binary.BigEndian.Uint64(v)&0x7FF00000_00000000 != 0x7FF00000_00000000
	}
	return true
}

// scanTable checks the entries of a table body (no u32 length) at nesting
// level depth. left counts down the values still allowed.
func scanTable(b []byte, depth int, left *int) error {
	for len(b) > 0 {
		n := 1 + int(b[0])
		if n >= len(b) { // the tag must follow the key
			return ErrTableBounds
		}
		used, err := scanValue(b[n:], depth, left)
		if err != nil {
			return err
		}
		b = b[n+used:]
	}
	return nil
}

// scanValue checks the tag and value at the start of b, which is not empty,
// and returns the bytes they take.
func scanValue(b []byte, depth int, left *int) (int, error) {
	if *left--; *left < 0 {
		return 0, ErrTableValues
	}
	if n, ok := fixedBytes(b[0]); ok {
		if 1+n > len(b) {
			return 0, ErrTableBounds
		}
		if !finite(b[0], b[1:1+n]) {
			return 0, ErrTableFloat
		}
		return 1 + n, nil
	}
	switch b[0] {
	case 'S', 'x', 'F', 'A':
	default:
		return 0, ErrTableType
	}
	if len(b) < 5 {
		return 0, ErrTableBounds
	}
	size := binary.BigEndian.Uint32(b[1:])
	if uint64(size) > uint64(len(b)-5) {
		return 0, ErrTableBounds
	}
	end := 5 + int(size)
	if b[0] == 'S' || b[0] == 'x' {
		return end, nil
	}
	if depth >= MaxTableDepth {
		return 0, ErrTableDepth
	}
	if b[0] == 'F' {
		return end, scanTable(b[5:end], depth+1, left)
	}
	for body := b[5:end]; len(body) > 0; {
		used, err := scanValue(body, depth+1, left)
		if err != nil {
			return 0, err
		}
		body = body[used:]
	}
	return end, nil
}

// checkTable validates the field table at the start of b, u32 length included,
// and returns the bytes it takes. It allocates nothing.
func checkTable(b []byte) (n int, err error) {
	if len(b) < 4 {
		return 0, ErrTableBounds
	}
	size := binary.BigEndian.Uint32(b)
	if uint64(size) > uint64(len(b)-4) {
		return 0, ErrTableBounds
	}
	left := MaxTableValues
	if err := scanTable(b[4:4+int(size)], 1, &left); err != nil {
		return 0, err
	}
	return 4 + int(size), nil
}

// ParseTable decodes the field table at the start of b, u32 length included,
// and returns the bytes it takes. Nothing of b is kept. An empty table is nil.
// The whole table is checked before anything is allocated; the error is one of
// the ErrTable values.
func ParseTable(b []byte) (t Table, n int, err error) {
	n, err = checkTable(b)
	if err != nil {
		return nil, 0, err
	}
	return decodeTable(b[4:n]), n, nil
}

// ParseTableBody is ParseTable for entries without the u32 length in front, as
// PropsView.Headers and the AMQPLAIN response have them.
func ParseTableBody(b []byte) (Table, error) {
	left := MaxTableValues
	if err := scanTable(b, 1, &left); err != nil {
		return nil, err
	}
	return decodeTable(b), nil
}

// decodeTable decodes a table body that scanTable has accepted.
func decodeTable(b []byte) Table {
	var t Table
	for r := (reader{b: b}); len(r.b) > 0; {
		key := r.shortstr()
		v := r.value()
		t = append(t, Field{key, v})
	}
	return t
}

// value reads a tag and its value. The bytes have been scanned before: an
// unknown tag cannot come, and nesting is bounded.
func (r *reader) value() any {
	switch r.octet() {
	case 't':
		return r.octet() != 0
	case 'b':
		return int8(r.octet())
	case 'B':
		return r.octet()
	case 's':
		return int16(r.short())
	case 'u':
		return r.short()
	case 'I':
		return int32(r.long())
	case 'i':
		return r.long()
	case 'l', 'L':
		return int64(r.longlong())
	case 'f':
		return math.Float32frombits(r.long())
	case 'd':
		return math.Float64frombits(r.longlong())
	case 'D':
		scale := r.octet()
		return Decimal{Scale: scale, Value: int32(r.long())}
	case 'S':
		return r.longstr()
	case 'x':
		return append([]byte{}, r.longBytes()...)
	case 'T':
		return Timestamp(r.longlong())
	case 'F':
		return decodeTable(r.longBytes())
	case 'A':
		var a Array
		for body := (reader{b: r.longBytes()}); len(body.b) > 0; {
			a = append(a, body.value())
		}
		return a
	}
	return nil // 'V'
}

// AppendTable appends t as a field table with its u32 length. Keys longer than
// 255 bytes are cut there. What no reader could take is written as void: a
// value of a Go type that Table does not list, a table or array nested deeper
// than MaxTableDepth, a float that is not finite. int is written as int64.
func AppendTable(dst []byte, t Table) []byte { return appendTableAt(dst, t, 1) }

func appendTableAt(dst []byte, t Table, depth int) []byte {
	mark := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for i := range t {
		dst = appendShortstr(dst, t[i].Key)
		dst = appendValue(dst, t[i].Value, depth)
	}
	binary.BigEndian.PutUint32(dst[mark:], uint32(len(dst)-mark-4))
	return dst
}

func appendValue(dst []byte, v any, depth int) []byte {
	switch v := v.(type) {
	case bool:
		return append(dst, 't', bit(v, 0))
	case int8:
		return append(dst, 'b', byte(v))
	case uint8:
		return append(dst, 'B', v)
	case int16:
		return appendShort(append(dst, 's'), uint16(v))
	case uint16:
		return appendShort(append(dst, 'u'), v)
	case int32:
		return appendLong(append(dst, 'I'), uint32(v))
	case uint32:
		return appendLong(append(dst, 'i'), v)
	case int64:
		return appendLonglong(append(dst, 'l'), uint64(v))
	case int:
		return appendLonglong(append(dst, 'l'), uint64(v))
	case float32:
		if v-v == 0 { // neither infinite nor NaN
			return appendLong(append(dst, 'f'), math.Float32bits(v))
		}
	case float64:
		if v-v == 0 {
			return appendLonglong(append(dst, 'd'), math.Float64bits(v))
		}
	case Decimal:
		return appendLong(append(dst, 'D', v.Scale), uint32(v.Value))
	case string:
		return appendLongstr(append(dst, 'S'), v)
	case []byte:
		return append(appendLong(append(dst, 'x'), uint32(len(v))), v...)
	case Timestamp:
		return appendLonglong(append(dst, 'T'), uint64(v))
	case Table:
		if depth < MaxTableDepth {
			return appendTableAt(append(dst, 'F'), v, depth+1)
		}
	case Array:
		if depth < MaxTableDepth {
			return appendArray(append(dst, 'A'), v, depth+1)
		}
	}
	return append(dst, 'V')
}

func appendArray(dst []byte, a Array, depth int) []byte {
	mark := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for _, v := range a {
		dst = appendValue(dst, v, depth)
	}
	binary.BigEndian.PutUint32(dst[mark:], uint32(len(dst)-mark-4))
	return dst
}

// TableLookup finds the first entry under key in a table body (no u32 length)
// and decodes its value; the rest is skipped over, not decoded. ok is false if
// there is none or the entries up to it are malformed.
func TableLookup(raw []byte, key string) (value any, ok bool) {
	left := MaxTableValues
	for len(raw) > 0 {
		n := 1 + int(raw[0])
		if n >= len(raw) {
			return nil, false
		}
		used, err := scanValue(raw[n:], 1, &left)
		if err != nil {
			return nil, false
		}
		if string(raw[1:n]) == key {
			r := reader{b: raw[n : n+used]}
			return r.value(), true
		}
		raw = raw[n+used:]
	}
	return nil, false
}
