package mgmt

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/warrenmq/warren/internal/wire"
)

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	key   string
	value any
}

// get is the value under a key.
func (o object) get(key string) (any, bool) {
	for i := range o {
		if o[i].key == key {
			return o[i].value, true
		}
	}
	return nil, false
}

// with is o with one more member.
func (o object) with(key string, value any) object { return append(o, member{key, value}) }

// appendJSON appends v as JSON. It knows the types that handlers use and those
// of field tables; anything else is null.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return appendString(b, v)
	case []byte:
		return appendString(b, string(v))
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int8:
		return strconv.AppendInt(b, int64(v), 10)
	case int16:
		return strconv.AppendInt(b, int64(v), 10)
	case int32:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case uint8:
		return strconv.AppendUint(b, uint64(v), 10)
	case uint16:
		return strconv.AppendUint(b, uint64(v), 10)
	case uint32:
		return strconv.AppendUint(b, uint64(v), 10)
	case uint64:
		return strconv.AppendUint(b, v, 10)
	case float32:
		return appendFloat(b, float64(v))
	case float64:
		return appendFloat(b, v)
	case wire.Timestamp:
		return strconv.AppendUint(b, uint64(v), 10)
	case wire.Decimal:
		return appendFloat(b, float64(v.Value)*math.Pow10(-int(v.Scale)))
	case object:
		b = append(b, '{')
		for i := range v {
			b = appendMember(b, i, v[i].key, v[i].value)
		}
		return append(b, '}')
	case wire.Table:
		b = append(b, '{')
		for i := range v {
			b = appendMember(b, i, v[i].Key, v[i].Value)
		}
		return append(b, '}')
	case []object:
		return appendArray(b, v)
	case []string:
		return appendArray(b, v)
	case []any:
		return appendArray(b, v)
	case []int:
		return appendArray(b, v)
	case wire.Array:
		return appendArray(b, v)
	}
	return append(b, "null"...)
}

func appendMember(b []byte, i int, key string, value any) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	b = append(appendString(b, key), ':')
	return appendJSON(b, value)
}

func appendArray[T any](b []byte, list []T) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, v)
	}
	return append(b, ']')
}

// appendFloat writes a decimal point always, as RabbitMQ does.
func appendFloat(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendFloat(b, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

// appendString writes what is not UTF-8 in base64: names and values in AMQP may
// be any bytes, and a JSON text may not.
func appendString(b []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return append(append(append(b, '"'), s...), '"')
	}
	if !utf8.ValidString(s) {
		s = base64.StdEncoding.EncodeToString([]byte(s))
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string has no other way to fail than none
	}
	return append(b, quoted...)
}

// table is a field table as an object: absent is empty.
func table(t wire.Table) any {
	if t == nil {
		return object{}
	}
	return t
}
