package exchange

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/wire"
)

// EncodeArgs is binding arguments as a comparable string, empty for no
// arguments. Two tables have the same encoding exactly if they hold the same
// typed values under the same keys in any order (the order inside nested tables
// counts, as in RabbitMQ). Values are in wire form, without the table's length.
func EncodeArgs(args wire.Table) string {
	if len(args) == 0 {
		return ""
	}
	byKey := func(a, b wire.Field) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(args, byKey) {
		args = slices.Clone(args)
		slices.SortStableFunc(args, byKey)
	}
	return string(appendFields(nil, args))
}

func appendFields(b []byte, t wire.Table) []byte {
	for _, f := range t {
		b = append(b, byte(len(f.Key)))
		b = append(b, f.Key...)
		b = appendValue(b, f.Value)
	}
	return b
}

// appendValue appends the tag and the value as they are on the wire
// (specification 4.2.1, RabbitMQ's tags).
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 'V')
	case bool:
		if v {
			return append(b, 't', 1)
		}
		return append(b, 't', 0)
	case int8:
		return append(b, 'b', byte(v))
	case uint8:
		return append(b, 'B', v)
	case int16:
		return binary.BigEndian.AppendUint16(append(b, 's'), uint16(v))
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, 'u'), v)
	case int32:
		return binary.BigEndian.AppendUint32(append(b, 'I'), uint32(v))
	case uint32:
		return binary.BigEndian.AppendUint32(append(b, 'i'), v)
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'l'), uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(append(b, 'f'), math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 'd'), math.Float64bits(v))
	case wire.Timestamp:
		return binary.BigEndian.AppendUint64(append(b, 'T'), uint64(v))
	case wire.Decimal:
		return binary.BigEndian.AppendUint32(append(b, 'D', v.Scale), uint32(v.Value))
	case string:
		return append(binary.BigEndian.AppendUint32(append(b, 'S'), uint32(len(v))), v...)
	case []byte:
		return append(binary.BigEndian.AppendUint32(append(b, 'x'), uint32(len(v))), v...)
	case wire.Table:
		return withLength(append(b, 'F'), func(b []byte) []byte { return appendFields(b, v) })
	case wire.Array:
		return withLength(append(b, 'A'), func(b []byte) []byte {
			for _, x := range v {
				b = appendValue(b, x)
			}
			return b
		})
	}
	// The codec makes no other type; void keeps a bug visible without a panic.
	return append(b, 'V')
}

// withLength puts a 32-bit length before what fill appends.
func withLength(b []byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = fill(append(b, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}
