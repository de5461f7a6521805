package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Field tables in JSON, so that no type is lost on the way there and back.
//
// What JSON has by itself is written plainly: text, true, false, null, arrays,
// tables as objects, int64 as a whole number, float64 as a number with a point
// or an exponent. Every other type is an object with one key that starts with $:
//
//	{"$int32": 5}  also int8 uint8 int16 uint16 uint32
//	{"$float32": 1.5}  {"$float64": "NaN"}
//	{"$bytes": "AAE="}  base64
//	{"$string": "/w=="}  base64 of a string that is not UTF-8
//	{"$timestamp": "2026-01-02T03:04:05Z"}  or seconds since 1970
//	{"$decimal": {"scale": 2, "value": 314}}
//	{"$table": {"$int32": 1}}  a table that would be mistaken for one of these

// fieldToJSON makes a value that encoding/json writes in the form above.
func fieldToJSON(v any) any {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return tagged("string", base64.StdEncoding.EncodeToString([]byte(v)))
		}
		return v
	case float64:
		return floatToJSON(v)
	case float32:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return tagged("float32", strconv.FormatFloat(float64(v), 'g', -1, 32))
		}
		return tagged("float32", json.Number(strconv.FormatFloat(float64(v), 'g', -1, 32)))
	case int8, uint8, int16, uint16, int32, uint32:
		return tagged(fmt.Sprintf("%T", v), v)
	case []byte:
		return tagged("bytes", base64.StdEncoding.EncodeToString(v))
	case time.Time:
		return tagged("timestamp", timeToJSON(v))
	case amqp.Decimal:
		return tagged("decimal", map[string]any{"scale": v.Scale, "value": v.Value})
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fieldToJSON(v[i])
		}
		return out
	case amqp.Table:
		out := tableToJSON(v)
		for k := range v {
			if len(v) == 1 && strings.HasPrefix(k, "$") {
				return tagged("table", out)
			}
		}
		return out
	}
	return v // nil, bool, int64
}

func tagged(kind string, v any) map[string]any { return map[string]any{"$" + kind: v} }

func tableToJSON(t amqp.Table) map[string]any {
	out := make(map[string]any, len(t))
	for k, v := range t {
		out[k] = fieldToJSON(v)
	}
	return out
}

// floatToJSON makes sure that the number cannot be read as a whole one.
func floatToJSON(f float64) any {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return tagged("float64", s)
	}
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return json.Number(s)
}

// timeToJSON is RFC 3339, or seconds where that has no form (years past 9999).
func timeToJSON(t time.Time) any {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return t.Unix()
	}
	return t.Format(time.RFC3339)
}

func timeFromJSON(v any) (time.Time, error) {
	switch v := v.(type) {
	case string:
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return time.Time{}, fmt.Errorf("%q is not a time such as 2026-01-02T03:04:05Z", v)
		}
		return t.UTC(), nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return time.Unix(n, 0).UTC(), nil
		}
	}
	return time.Time{}, errors.New("a time is text such as 2026-01-02T03:04:05Z or seconds since 1970")
}

// fieldFromJSON reads the form above. Numbers must come as json.Number.
func fieldFromJSON(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			n, err := v.Int64()
			if err != nil {
				return nil, fmt.Errorf("%s does not fit into 64 bits", v)
			}
			return n, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("%s is too large for a number", v)
		}
		return f, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			item, err := fieldFromJSON(v[i])
			if err != nil {
				return nil, err
			}
			out[i] = item
		}
		return out, nil
	case map[string]any:
		for k, inner := range v {
			if kind, ok := strings.CutPrefix(k, "$"); ok && len(v) == 1 {
				return taggedFromJSON(kind, inner)
			}
		}
		return tableFromJSON(v)
	}
	return v, nil // nil, bool, string
}

func tableFromJSON(m map[string]any) (amqp.Table, error) {
	out := make(amqp.Table, len(m))
	for k, v := range m {
		if len(k) > 255 {
			return nil, fmt.Errorf("the key %.20q… has %d bytes, at most 255 are allowed", k, len(k))
		}
		field, err := fieldFromJSON(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		out[k] = field
	}
	return out, nil
}

func taggedFromJSON(kind string, v any) (any, error) {
	text := ""
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	}
	bad := fmt.Errorf("$%s has a value that is not one", kind)
	integer := func(bits int, unsigned bool) (int64, error) {
		if unsigned {
			n, err := strconv.ParseUint(text, 10, bits)
			return int64(n), err
		}
		return strconv.ParseInt(text, 10, bits)
	}
	switch kind {
	case "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32":
		bits, _ := strconv.Atoi(strings.TrimLeft(kind, "uint"))
		n, err := integer(bits, kind[0] == 'u')
		if err != nil {
			return nil, bad
		}
		return intOf(kind, n), nil
	case "float32", "float64":
		bits, _ := strconv.Atoi(strings.TrimPrefix(kind, "float"))
		f, err := strconv.ParseFloat(text, bits)
		if err != nil {
			return nil, bad
		}
		if bits == 32 {
			return float32(f), nil
		}
		return f, nil
	case "bytes", "string":
		data, err := base64.StdEncoding.DecodeString(text)
		if _, isText := v.(string); err != nil || !isText {
			return nil, bad
		}
		if kind == "string" {
			return string(data), nil
		}
		return data, nil
	case "timestamp":
		return timeFromJSON(v)
	}
	if m, ok := v.(map[string]any); ok && kind == "table" {
		return tableFromJSON(m)
	} else if ok && kind == "decimal" {
		return decimalFromJSON(m)
	}
	return nil, fmt.Errorf("$%s is not a type (write a table with such a key as {\"$table\": {…}})", kind)
}

// intOf gives a number that has been checked to fit the type its tag names.
func intOf(kind string, n int64) any {
	switch kind {
	case "int8":
		return int8(n)
	case "uint8":
		return uint8(n)
	case "int16":
		return int16(n)
	case "uint16":
		return uint16(n)
	case "int32":
		return int32(n)
	case "uint32":
		return uint32(n)
	}
	return n
}

func decimalFromJSON(m map[string]any) (any, error) {
	scale, ok1 := m["scale"].(json.Number)
	value, ok2 := m["value"].(json.Number)
	s, err1 := strconv.ParseUint(scale.String(), 10, 8)
	n, err2 := strconv.ParseInt(value.String(), 10, 32)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || len(m) != 2 {
		return nil, errors.New("$decimal wants scale (0 to 255) and value (32 bits)")
	}
	return amqp.Decimal{Scale: uint8(s), Value: int32(n)}, nil
}
