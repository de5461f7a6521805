package wire

// Table is a field table in wire order. Order and duplicate keys are kept as
// they came; Get returns the first match.
//
// A value's Go type fixes its wire tag, so that a table survives a round trip
// byte for byte and error texts can name the type:
//
//	bool       't'   int8    'b'   uint8   'B'   int16  's'   uint16 'u'
//	int32      'I'   uint32  'i'   int64   'l'   float32 'f'  float64 'd'
//	Decimal    'D'   string  'S'   []byte  'x'   Array  'A'
//	Timestamp  'T'   Table   'F'   nil     'V'
//
// 'L' (signed 64-bit in some clients) is read as int64 and written as 'l',
// as RabbitMQ does.
type Table []Field

// Field is one entry of a Table. Key is at most 255 bytes (specification 4.2.5.5).
type Field struct {
	Key   string
	Value any
}

// Array is a field array ('A').
type Array []any

// Timestamp is POSIX seconds ('T', specification 4.2.5.4).
type Timestamp uint64

// Decimal is Value divided by 10 to the power of Scale ('D').
type Decimal struct {
	Scale uint8
	Value int32
}

// Get returns the first value stored under key.
func (t Table) Get(key string) (any, bool) {
	for i := range t {
		if t[i].Key == key {
			return t[i].Value, true
		}
	}
	return nil, false
}

// Set returns t with key set to v: in place if the key is there, else appended.
func (t Table) Set(key string, v any) Table {
	for i := range t {
		if t[i].Key == key {
			t[i].Value = v
			return t
		}
	}
	return append(t, Field{key, v})
}

// Delete returns t without any entry under key. The order of the rest is kept.
func (t Table) Delete(key string) Table {
	out := t[:0]
	for _, f := range t {
		if f.Key != key {
			out = append(out, f)
		}
	}
	return out
}
