package wire

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// TypeName is RabbitMQ's name for the wire type of a table value, as its error
// texts have it; "undefined" for a Go type that Table does not list.
func TypeName(v any) string {
	switch v.(type) {
	case nil:
		return "void"
	case bool:
		return "bool"
	case int8:
		return "byte"
	case uint8:
		return "unsignedbyte"
	case int16:
		return "short"
	case uint16:
		return "unsignedshort"
	case int32:
		return "signedint"
	case uint32:
		return "unsignedint"
	case int64, int:
		return "long"
	case float32:
		return "float"
	case float64:
		return "double"
	case Decimal:
		return "decimal"
	case string:
		return "longstr"
	case []byte:
		return "binary"
	case Timestamp:
		return "timestamp"
	case Table:
		return "table"
	case Array:
		return "array"
	}
	return "undefined"
}

// EqualTables reports whether a and b hold the same keys with values of the
// same type and content, in any order of keys. Duplicates of one key compare
// in their order. It costs n log n in the number of entries.
func EqualTables(a, b Table) bool {
	if len(a) != len(b) {
		return false
	}
	if !sameKeys(a, b) {
		a, b = sortedByKey(a), sortedByKey(b)
	}
	for i := range a {
		if a[i].Key != b[i].Key || !EqualValues(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

// sameKeys reports whether the keys of a and b, equally many, come in one order.
func sameKeys(a, b Table) bool {
	for i := range a {
		if a[i].Key != b[i].Key {
			return false
		}
	}
	return true
}

func sortedByKey(t Table) Table {
	t = slices.Clone(t)
	slices.SortStableFunc(t, func(x, y Field) int { return cmp.Compare(x.Key, y.Key) })
	return t
}

// EqualValues reports whether two table values have the same type and content.
// Floats compare by their bits, so that a NaN equals itself.
func EqualValues(a, b any) bool {
	switch a := a.(type) {
	case Table:
		b, ok := b.(Table)
		return ok && EqualTables(a, b)
	case Array:
		b, ok := b.(Array)
		return ok && slices.EqualFunc(a, b, EqualValues)
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case float32:
		b, ok := b.(float32)
		return ok && math.Float32bits(a) == math.Float32bits(b)
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case nil, bool, int, int8, uint8, int16, uint16, int32, uint32, int64, string, Timestamp, Decimal:
		return a == b
	}
	return false // a type that Table does not list may not be comparable
}
