package outbox

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func headerValue() *rapid.Generator[any] {
	scalar := func() *rapid.Generator[any] {
		return rapid.OneOf(
			rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.SliceOfN(rapid.Byte(), 1, 5).AsAny(),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return string(b) }),
			rapid.Int().AsAny(), rapid.Int8().AsAny(), rapid.Int16().AsAny(), rapid.Int32().AsAny(), rapid.Int64().AsAny(),
			rapid.Uint8().AsAny(),
			rapid.Float32().AsAny(), rapid.Float64().AsAny(), rapid.SampledFrom([]any{math.Inf(1), math.MaxFloat64, float32(0.1)}),
			rapid.Map(rapid.Int64Range(0, 1<<37), func(n int64) any { return time.Unix(n, 5000).UTC() }),
		)
	}
	inner := rapid.OneOf(scalar(), rapid.Map(rapid.SliceOfN(scalar(), 1, 3), func(l []any) any { return l }))
	table := rapid.Map(rapid.MapOfN(rapid.StringN(0, 5, 20), inner, 1, 3), func(m map[string]any) any { return m })
	return rapid.OneOf(scalar(), inner, table)
}

// TestHeadersComeBack: the same types, the same bytes.
func TestHeadersComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		headers := rapid.MapOfN(rapid.StringN(0, 10, 40), headerValue(), 1, 5).Draw(t, "headers")
		text, err := encodeHeaders(headers)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeHeaders(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(back, headers) {
			t.Fatalf("%#v became\n%#v by\n%s", headers, back, text)
		}
	})
}

type table map[string]any

type name string

func TestHeadersOfNamedTypes(t *testing.T) {
	text, err := encodeHeaders(table{"a": table{"b": name("c")}, "l": []table{{"d": time.Duration(4)}}})
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeHeaders(text)
	want := map[string]any{"a": map[string]any{"b": "c"}, "l": []any{map[string]any{"d": int64(4)}}}
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("%#v, %v, want %#v", back, err, want)
	}
	if back, err := decodeHeaders([]byte("{}")); err != nil || back != nil {
		t.Errorf("no headers became %#v, %v", back, err)
	}
}

func TestHeadersThatCannotBe(t *testing.T) {
	var deep any = "bottom"
	for range 100 {
		deep = []any{deep}
	}
	for what, headers := range map[string]map[string]any{
		"struct": {"a": struct{}{}}, "channel": {"a": make(chan int)}, "deep": {"a": deep},
		"map": {"a": map[int]any{}}, "unsigned": {"a": uint32(1)}, "inner": {"a": []any{func() {}}},
		"name": {"a": table{"\xff": 1}}, "year": {"a": time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := encodeHeaders(headers); err == nil || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, text := range []string{`[]`, `{"a":1}`, `{"a":{}}`, `{"a":{"int":1}}`, `{"a":{"int8":"300"}}`, `{"a":{"no":"1"}}`, `{"a":[{"time":"x"}]}`, `{"a":{"table":{"b":2}}}`} {
		if _, err := decodeHeaders([]byte(text)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}
