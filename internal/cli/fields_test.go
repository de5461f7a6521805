package cli

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"pgregory.net/rapid"
)

// field makes a value of any type that a field table can hold.
func field(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int8().AsAny(), rapid.Uint8().AsAny(), rapid.Int16().AsAny(),
		rapid.Uint16().AsAny(), rapid.Int32().AsAny(), rapid.Uint32().AsAny(), rapid.Int64().AsAny(),
		rapid.Float32().AsAny(), rapid.Float64().AsAny(), rapid.String().AsAny(), rapid.SliceOf(rapid.Byte()).AsAny(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return string(b) }),
		rapid.Map(rapid.Int64Range(math.MinInt32*1000, math.MaxInt32*1000), func(n int64) any { return time.Unix(n, 0).UTC() }),
		rapid.Custom(func(t *rapid.T) any {
			return amqp.Decimal{Scale: rapid.Uint8().Draw(t, "scale"), Value: rapid.Int32().Draw(t, "value")}
		}),
	}
	if depth > 0 {
		kinds = append(kinds,
			rapid.Map(rapid.SliceOfN(field(depth-1), 0, 4), func(s []any) any { return s }),
			rapid.Map(table(depth-1), func(t amqp.Table) any { return t }))
	}
	return rapid.OneOf(kinds...)
}

func table(depth int) *rapid.Generator[amqp.Table] {
	key := rapid.OneOf(rapid.StringN(0, 20, 255), rapid.SampledFrom([]string{"$int32", "$table", "$", "$bytes"}))
	return rapid.Map(rapid.MapOfN(key, field(depth), 0, 4), func(m map[string]any) amqp.Table { return m })
}

// throughJSON writes a table as a line and reads it again.
func throughJSON(headers amqp.Table) (amqp.Table, []byte, error) {
	w := writer{asJSON: true, end: '\n'}
	if err := w.add(&amqp.Delivery{Headers: headers}, nil); err != nil {
		return nil, nil, err
	}
	line := bytes.Clone(w.buf.Bytes())
	o, err := messageFromJSON(line)
	return o.msg.Headers, line, err
}

func TestHeadersSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := table(3).Draw(t, "headers")
		got, line, err := throughJSON(want)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if len(want) == 0 && len(got) == 0 {
			return
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\nbecame %#v\nwant   %#v", line, got, want)
		}
	})
}

func TestSpecialFloatsSurviveJSON(t *testing.T) {
	got, line, err := throughJSON(amqp.Table{
		"nan": math.NaN(), "inf": math.Inf(-1), "inf32": float32(math.Inf(1)), "whole": 1e6, "zero": math.Copysign(0, -1),
	})
	if err != nil {
		t.Fatal(err)
	}
	nan, _ := got["nan"].(float64)
	zero, _ := got["zero"].(float64)
	if !math.IsNaN(nan) || got["inf"] != math.Inf(-1) || got["inf32"] != float32(math.Inf(1)) || got["whole"] != 1e6 || !math.Signbit(zero) {
		t.Errorf("%s became %#v", line, got)
	}
}

func TestPlainJSONIsPlain(t *testing.T) {
	_, line, err := throughJSON(amqp.Table{"n": int64(5), "s": "<é>", "b": true, "f": 2.0, "a": []any{nil, amqp.Table{"k": int32(1)}}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"exchange":"","routing_key":"","properties":{"delivery_mode":0},"headers":{"a":[null,{"k":{"$int32":1}}],"b":true,"f":2.0,"n":5,"s":"<é>"},"body":""}` + "\n"
	if string(line) != want {
		t.Errorf("got  %s\nwant %s", line, want)
	}
}

func TestBadFields(t *testing.T) {
	for _, text := range []string{
		`{"$int8": 128}`, `{"$uint8": -1}`, `{"$int32": 1.5}`, `{"$int32": "x"}`, `{"$bytes": "!"}`, `{"$bytes": 5}`, `{"$colour": 1}`,
		`{"$timestamp": "yesterday"}`, `{"$timestamp": true}`, `{"$decimal": 1}`, `{"$decimal": {"scale": 300, "value": 1}}`,
		`{"$decimal": {"scale": 1}}`, `{"$table": 1}`, `{"$float32": "x"}`, `99999999999999999999`, `1e999`, `[{"$int8": 500}]`, `{"a": {"$int8": 500}}`,
	} {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if got, err := fieldFromJSON(v); err == nil {
			t.Errorf("%s was read as %#v", text, got)
		}
	}
}
