package outbox

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxDepth bounds how deep headers are nested.
const maxDepth = 64

// encodeHeaders writes headers as JSON that keeps their types and that people can read: text, booleans, null and
// lists are themselves, everything else is an object with its type as the only key.
//
//	{"tenant": "a", "attempt": {"int32": "3"}, "at": {"time": "2026-01-01T00:00:00Z"}, "nested": {"table": {...}}}
func encodeHeaders(headers map[string]any) ([]byte, error) {
	plain, err := plainTable(reflect.ValueOf(headers), 0)
	if err != nil {
		return nil, err
	}
	return json.Marshal(plain)
}

func plainTable(v reflect.Value, depth int) (map[string]any, error) {
	table := map[string]any{}
	for _, k := range v.MapKeys() {
		if !utf8.ValidString(k.String()) {
			return nil, fmt.Errorf("the name %q is not UTF-8", k.String())
		}
		value, err := plain(v.MapIndex(k).Interface(), depth+1)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", k.String(), err)
		}
		table[k.String()] = value
	}
	return table, nil
}

// tagged is a value with its type.
func tagged(name, value string) map[string]any { return map[string]any{name: value} }

// plain turns a value into what encoding/json writes without loss.
func plain(value any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	switch x := value.(type) {
	case nil, bool:
		return x, nil
	case string:
		if !utf8.ValidString(x) { // JSON would mend it
			return tagged("text", base64.StdEncoding.EncodeToString([]byte(x))), nil
		}
		return x, nil
	case []byte:
		return tagged("bytes", base64.StdEncoding.EncodeToString(x)), nil
	case time.Time:
		if year := x.UTC().Year(); year < 0 || year > 9999 {
			return nil, fmt.Errorf("the time %v: years have four digits", x)
		}
		return tagged("time", x.UTC().Format(time.RFC3339Nano)), nil
	}
	v := reflect.ValueOf(value)
	switch kind := v.Kind(); {
	case v.CanInt():
		return tagged(kind.String(), strconv.FormatInt(v.Int(), 10)), nil
	case kind == reflect.Uint8:
		return tagged(kind.String(), strconv.FormatUint(v.Uint(), 10)), nil
	case v.CanFloat():
		return tagged(kind.String(), strconv.FormatFloat(v.Float(), 'g', -1, 64)), nil
	case kind == reflect.String:
		return plain(v.String(), depth)
	case kind == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			var err error
			if list[i], err = plain(v.Index(i).Interface(), depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case kind == reflect.Map && v.Type().Key().Kind() == reflect.String:
		table, err := plainTable(v, depth)
		return map[string]any{"table": table}, err
	}
	return nil, fmt.Errorf("a %T cannot be in a header", value)
}

func decodeHeaders(text []byte) (map[string]any, error) {
	var raw map[string]any
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	headers, err := typedTable(raw)
	if err != nil || len(headers) == 0 {
		return nil, err
	}
	return headers, nil
}

func typedTable(raw map[string]any) (map[string]any, error) {
	table := make(map[string]any, len(raw))
	for k, v := range raw {
		value, err := typed(v)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
		table[k] = value
	}
	return table, nil
}

func typed(raw any) (any, error) {
	switch x := raw.(type) {
	case nil, bool, string:
		return x, nil
	case []any:
		list := make([]any, len(x))
		for i := range x {
			var err error
			if list[i], err = typed(x[i]); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		names := slices.Collect(maps.Keys(x))
		if len(names) != 1 {
			return nil, fmt.Errorf("an object with %d keys, want its type alone", len(names))
		}
		if table, ok := x["table"].(map[string]any); ok {
			return typedTable(table)
		}
		text, ok := x[names[0]].(string)
		if !ok {
			return nil, fmt.Errorf("the value of a %q is not text", names[0])
		}
		return typedText(names[0], text)
	}
	return nil, fmt.Errorf("a %T without its type", raw)
}

// typedText reads the value of a tagged type.
func typedText(name, text string) (any, error) {
	integer := func(bits int) (int64, error) { return strconv.ParseInt(text, 10, bits) }
	switch name {
	case "text":
		b, err := base64.StdEncoding.DecodeString(text)
		return string(b), err
	case "bytes":
		return base64.StdEncoding.DecodeString(text)
	case "time":
		return time.Parse(time.RFC3339Nano, text)
	case "int":
		n, err := integer(64)
		return int(n), err
	case "int8":
		n, err := integer(8)
		return int8(n), err
	case "int16":
		n, err := integer(16)
		return int16(n), err
	case "int32":
		n, err := integer(32)
		return int32(n), err
	case "int64":
		return integer(64)
	case "uint8":
		n, err := strconv.ParseUint(text, 10, 8)
		return uint8(n), err
	case "float32":
		f, err := strconv.ParseFloat(text, 32)
		return float32(f), err
	case "float64":
		return strconv.ParseFloat(text, 64)
	}
	return nil, fmt.Errorf("there is no type %q", name)
}

// stored is a message as Encode writes it.
type stored struct {
	ID         string          `json:"id"`
	Key        []byte          `json:"key,omitempty"` // any bytes
	Exchange   string          `json:"exchange,omitempty"`
	RoutingKey string          `json:"routing_key,omitempty"`
	Properties Properties      `json:"properties"`
	Headers    json.RawMessage `json:"headers"`
	Body       []byte          `json:"body,omitempty"`
	DeliverAt  int64           `json:"deliver_at,omitempty"` // microseconds since 1970
}

// Encode writes a message as JSON that keeps the types of its headers, for a [Source] that stores bytes. It
// returns an ErrInvalid for what Add would refuse.
func Encode(m Message) ([]byte, error) {
	headers, err := m.validHeaders()
	if err != nil {
		return nil, err
	}
	s := stored{ID: m.ID, Key: []byte(m.Key), Exchange: m.Exchange, RoutingKey: m.RoutingKey, Properties: m.Properties,
		Headers: headers, Body: m.Body}
	if !m.DeliverAt.IsZero() {
		s.DeliverAt = m.DeliverAt.UnixMicro()
	}
	return json.Marshal(s)
}

// Decode is the opposite of [Encode].
func Decode(text []byte) (m Message, err error) {
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return m, fmt.Errorf("a stored message: %w", err)
	}
	m = Message{ID: s.ID, Key: string(s.Key), Exchange: s.Exchange, RoutingKey: s.RoutingKey, Properties: s.Properties, Body: s.Body}
	if m.Headers, err = decodeHeaders(s.Headers); err != nil {
		return Message{}, fmt.Errorf("headers of the stored message %q: %w", s.ID, err)
	}
	if s.DeliverAt != 0 {
		m.DeliverAt = time.UnixMicro(s.DeliverAt)
	}
	return m, nil
}
