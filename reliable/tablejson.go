package reliable

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A header's value in JSON is an object with one name, its type, so that reading
// gives back the same bytes. Numbers of 64 bits and floats stand in strings, which
// no program between rounds.

func tableToJSON(t amqp.Table) (map[string]any, error) {
	if t == nil {
		return nil, nil
	}
	out := make(map[string]any, len(t))
	for name, value := range t {
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("the header name %q is not UTF-8", name)
		}
		v, err := valueToJSON(value)
		if err != nil {
			return nil, fmt.Errorf("header %q: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

func valueToJSON(v any) (any, error) {
	one := func(kind string, value any) (any, error) { return map[string]any{kind: value}, nil }
	switch v := v.(type) {
	case nil:
		return one("void", nil)
	case bool:
		return one("bool", v)
	case int8:
		return one("int8", v)
	case byte:
		return one("uint8", v)
	case int16:
		return one("int16", v)
	case uint16:
		return one("uint16", v)
	case int32:
		return one("int32", v)
	case uint32:
		return one("uint32", v)
	case int:
		return one("int64", strconv.Itoa(v))
	case int64:
		return one("int64", strconv.FormatInt(v, 10))
	case float32:
		return one("float32", strconv.FormatUint(uint64(math.Float32bits(v)), 16))
	case float64:
		return one("float64", strconv.FormatUint(math.Float64bits(v), 16))
	case amqp.Decimal:
		return one("decimal", []int64{int64(v.Scale), int64(v.Value)})
	case string:
		return one("string", base64IfBinary(v))
	case []byte:
		return one("bytes", base64.StdEncoding.EncodeToString(v))
	case time.Time:
		return one("time", v.Unix())
	case amqp.Table:
		t, err := tableToJSON(v)
		if err != nil {
			return nil, err
		}
		return map[string]any{"table": t}, nil
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			var err error
			if list[i], err = valueToJSON(e); err != nil {
				return nil, err
			}
		}
		return one("array", list)
	}
	return nil, fmt.Errorf("a value of type %T", v)
}

// base64IfBinary keeps strings that are not UTF-8: JSON would replace their bytes.
func base64IfBinary(s string) any {
	if text, err := json.Marshal(s); err == nil {
		var back string
		if json.Unmarshal(text, &back) == nil && back == s {
			return s
		}
	}
	return map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(s))}
}

func tableFromJSON(in map[string]any) (amqp.Table, error) {
	if in == nil {
		return nil, nil
	}
	out := make(amqp.Table, len(in))
	for name, value := range in {
		v, err := valueFromJSON(value)
		if err != nil {
			return nil, fmt.Errorf("header %q: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

func valueFromJSON(in any) (any, error) {
	object, ok := in.(map[string]any)
	if !ok || len(object) != 1 {
		return nil, fmt.Errorf(`%v is not like {"string": "text"}`, in)
	}
	for kind, value := range object {
		v, err := typedFromJSON(kind, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
		return v, nil
	}
	return nil, nil
}

func typedFromJSON(kind string, value any) (any, error) {
	text, _ := value.(string)
	number, isNumber := value.(float64)
	list, _ := value.([]any)
	switch kind {
	case "void":
		return nil, nil
	case "bool":
		b, ok := value.(bool)
		return b, wrongUnless(ok, value)
	case "int8":
		return int8(number), wrongUnless(isNumber && number == float64(int8(number)), value)
	case "uint8":
		return uint8(number), wrongUnless(isNumber && number == float64(uint8(number)), value)
	case "int16":
		return int16(number), wrongUnless(isNumber && number == float64(int16(number)), value)
	case "uint16":
		return uint16(number), wrongUnless(isNumber && number == float64(uint16(number)), value)
	case "int32":
		return int32(number), wrongUnless(isNumber && number == float64(int32(number)), value)
	case "uint32":
		return uint32(number), wrongUnless(isNumber && number == float64(uint32(number)), value)
	case "int64":
		return strconv.ParseInt(text, 10, 64)
	case "float32":
		n, err := strconv.ParseUint(text, 16, 32)
		return math.Float32frombits(uint32(n)), err
	case "float64":
		n, err := strconv.ParseUint(text, 16, 64)
		return math.Float64frombits(n), err
	case "time":
		return time.Unix(int64(number), 0), wrongUnless(isNumber, value)
	case "bytes":
		return base64.StdEncoding.DecodeString(text)
	}
	return nestedFromJSON(kind, value, list)
}

// nestedFromJSON reads the kinds that are not one word.
func nestedFromJSON(kind string, value any, list []any) (any, error) {
	switch kind {
	case "string":
		if text, ok := value.(string); ok {
			return text, nil
		}
		object, _ := value.(map[string]any)
		coded, ok := object["base64"].(string)
		if !ok {
			return nil, wrongUnless(false, value)
		}
		raw, err := base64.StdEncoding.DecodeString(coded)
		return string(raw), err
	case "decimal":
		if len(list) != 2 {
			return nil, wrongUnless(false, value)
		}
		scale, ok1 := list[0].(float64)
		n, ok2 := list[1].(float64)
		return amqp.Decimal{Scale: uint8(scale), Value: int32(n)}, wrongUnless(ok1 && ok2, value)
	case "table":
		object, ok := value.(map[string]any)
		if !ok {
			return nil, wrongUnless(false, value)
		}
		return tableFromJSON(object)
	case "array":
		out := make([]any, len(list))
		for i, e := range list {
			var err error
			if out[i], err = valueFromJSON(e); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("unknown type; known are void, bool, int8 to int64, uint8 to uint32, float32, float64, decimal, string, bytes, time, table and array")
}

func wrongUnless(ok bool, value any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%v is no such value", value)
}
