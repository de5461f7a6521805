package mgmt

import (
	"encoding/json"
	"errors"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

func sample() object {
	return object{
		{"name", "q"}, {"messages", 3}, {"message_stats", object{{"publish", 1}, {"publish_details", object{{"rate", 0.5}}}}},
		{"arguments", wire.Table{{Key: "x-max-length", Value: int32(5)}, {Key: "x-expires", Value: int64(6)}}},
		{"consumer_details", []object{{{"consumer_tag", "a"}, {"active", true}}, {{"consumer_tag", "b"}}}},
	}
}

func TestColumns(t *testing.T) {
	for list, want := range map[string]string{
		"name":                                      `{"name":"q"}`,
		"messages,name":                             `{"name":"q","messages":3}`,
		"message_stats.publish_details.rate":        `{"message_stats":{"publish_details":{"rate":0.5}}}`,
		"message_stats.publish,message_stats":       `{"message_stats":{"publish":1,"publish_details":{"rate":0.5}}}`,
		"message_stats,message_stats.publish":       `{"message_stats":{"publish":1,"publish_details":{"rate":0.5}}}`,
		"message_stats.nothing,name":                `{"name":"q"}`,
		"consumer_details.consumer_tag":             `{"consumer_details":[{"consumer_tag":"a"},{"consumer_tag":"b"}]}`,
		"arguments.x-expires":                       `{"arguments":{"x-max-length":5,"x-expires":6}}`,
		"nothing":                                   `{}`,
		"name.below":                                `{"name":"q"}`,
		",,name,":                                   `{"name":"q"}`,
		"message_stats.publish,message_stats.other": `{"message_stats":{"publish":1}}`,
	} {
		c, err := parseColumns(list)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendJSON(nil, c.of(sample()))); got != want {
			t.Errorf("columns=%s: %s, want %s", list, got, want)
		}
	}
	for _, list := range []string{strings.Repeat("a,", maxColumns), strings.Repeat("a.", maxPathDepth) + "a"} {
		if _, err := parseColumns(list); err == nil {
			t.Errorf("columns=%.20s… was accepted", list)
		}
	}
}

func TestNamesWithoutCase(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		isRegexp, hit bool
	}{
		{"RD", "orders", false, true}, {"r.e", "orders", false, false}, {"r.e", "Orders", true, true},
		{"^o", "ORDERS", true, true}, {"(", "(", true, false}, {"(", "(", false, true}, {")|(", "a", true, false},
	} {
		match, err := parseName(c.pattern, c.isRegexp)
		if err != nil {
			t.Fatal(err)
		}
		if match(c.name) != c.hit {
			t.Errorf("%q on %q (regexp %v): %v", c.pattern, c.name, c.isRegexp, !c.hit)
		}
	}
	if _, err := parseName(strings.Repeat("a", maxPatternBytes+1), true); err == nil {
		t.Error("a very long pattern was accepted")
	}
}

// TestOrder is Erlang's: numbers before truth values and null before strings.
func TestOrder(t *testing.T) {
	ascending := []any{-1, 0, uint16(3), 3.5, int64(4), false, nil, true, object{}, "", "a", "b"}
	for i := range ascending {
		for j := range ascending {
			if got := compare(ascending[i], ascending[j]); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("compare(%v, %v) = %d", ascending[i], ascending[j], got)
			}
		}
	}
}

func TestJSON(t *testing.T) {
	v := object{
		{"plain", "text"}, {"quoted", "a\"b\\c\nü\x00"}, {"bytes", "\xff\xfe"}, {"html", "<&>"}, {"float", 1.0}, {"small", 0.25},
		{"large", 1e300}, {"nan", math.NaN()}, {"max", uint64(math.MaxUint64)}, {"min", int64(math.MinInt64)}, {"null", nil},
		{"table", wire.Table{{Key: "k", Value: wire.Array{int8(1), true, wire.Timestamp(7), nil, wire.Decimal{Scale: 2, Value: 314}}}}},
		{"empty", []object{}}, {"strings", []string{"a", "b"}}, {"unknown", struct{}{}},
	}
	text := appendJSON(nil, v)
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	want := map[string]any{
		"plain": "text", "quoted": "a\"b\\c\nü\x00", "bytes": "//4=", "html": "<&>", "float": 1.0, "small": 0.25, "large": 1e300,
		"nan": nil, "max": float64(math.MaxUint64), "min": float64(math.MinInt64), "null": nil,
		"table": map[string]any{"k": []any{1.0, true, 7.0, nil, 3.14}}, "empty": []any{}, "strings": []any{"a", "b"}, "unknown": nil,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if !strings.Contains(string(text), `"float":1.0,`) {
		t.Errorf("a rate has to look like one: %s", text)
	}
}

// FuzzQuery wants every query to be either refused with a 400 or bounded, and what
// it makes of a row to be JSON.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		"page=1&page_size=10&name=a&use_regex=true", "columns=a.b.c,a,a.b&sort=a.b&sort_reverse=true", "page=0", "page=-1&page_size=x",
		"page=1&name=((a*)*)*&use_regex=true", "columns=" + strings.Repeat("a.", 99), "sort=....", "page=99999999999999999999", "columns=.",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		values, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		q, err := parseQuery(values)
		if err != nil {
			var refusal *failure
			if !errors.As(err, &refusal) || refusal.status != 400 {
				t.Fatalf("%v", err)
			}
			return
		}
		if q.paged && (q.page < 1 || q.size < 1 || q.size > maxPageSize) {
			t.Fatalf("page %d of %d", q.page, q.size)
		}
		if q.match != nil {
			q.match("some queue")
		}
		at(sample(), q.sort)
		if b := appendJSON(nil, q.columns.of(sample())); !json.Valid(b) {
			t.Fatalf("%s", b)
		}
	})
}

// FuzzPath wants every path to be cut into parts or refused.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/api/queues/%2F/a", "/api/", "/api", "/api/queues//", "/api/%zz", "/api/a%2Fb/", "/api/" + strings.Repeat("a/", 9999)} {
		f.Add(s)
	}
	a := New(Config{})
	f.Fuzz(func(t *testing.T, s string) {
		segments, ok := splitPath(s)
		if !ok {
			return
		}
		if r, params := a.find(segments); r != nil && len(params) > len(segments) {
			t.Fatalf("%q: %v", s, params)
		}
	})
}
