package exchange

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/warrenmq/warren/internal/wire"
)

func fields(kv ...any) wire.Table {
	var t wire.Table
	for i := 0; i < len(kv); i += 2 {
		t = append(t, wire.Field{Key: kv[i].(string), Value: kv[i+1]})
	}
	return t
}

func TestHeadersMatch(t *testing.T) {
	for _, c := range []struct {
		name          string
		args, message wire.Table
		want          bool
	}{
		{"all needs all", fields("a", "1", "b", "2"), fields("a", "1"), false},
		{"all has all", fields("a", "1", "b", "2"), fields("c", "3", "b", "2", "a", "1"), true},
		{"any needs one", fields("x-match", "any", "a", "1", "b", "2"), fields("b", "2"), true},
		{"any has none", fields("x-match", "any", "a", "1", "b", "2"), fields("a", "2"), false},
		{"all of nothing", nil, fields("a", "1"), true},
		{"any of nothing", fields("x-match", "any"), fields("a", "1"), false},
		{"x- keys do not count", fields("x-a", "1"), nil, true},
		{"x- keys do not count for any", fields("x-match", "any", "x-a", "1"), fields("x-a", "1"), false},
		{"x- keys with x", fields("x-match", "all-with-x", "x-a", "1"), fields("x-a", "2"), false},
		{"x- keys with x, any", fields("x-match", "any-with-x", "x-a", "1", "b", "2"), fields("x-a", "1"), true},
		{"x-match itself is never wanted", fields("x-match", "all-with-x", "x-a", "1"), fields("x-a", "1"), true},
		{"void: presence", fields("a", nil), fields("a", "whatever"), true},
		{"void: absence", fields("a", nil), fields("b", "1"), false},
		{"a void header equals no value", fields("a", "1"), fields("a", nil), false},
		{"the later of two headers counts", fields("a", "1"), fields("a", "1", "a", "2"), false},
		{"numbers of any width", fields("a", int32(-7)), fields("a", int8(-7)), true},
		{"unsigned", fields("a", uint32(4000000000)), fields("a", int64(4000000000)), true},
		{"signs count", fields("a", int8(-1)), fields("a", uint8(255)), false},
		{"short and long floats", fields("a", float32(0.5)), fields("a", 0.5), true},
		{"whole and broken numbers differ", fields("a", 1.0), fields("a", int32(1)), false},
		{"text is not a number", fields("a", "1"), fields("a", int32(1)), false},
		{"bytes are text", fields("a", "x"), fields("a", []byte("x")), true},
		{"bools", fields("a", true), fields("a", false), false},
		{"bool is no number", fields("a", true), fields("a", int8(1)), false},
		{"timestamps", fields("a", wire.Timestamp(9)), fields("a", wire.Timestamp(9)), true},
		{"a timestamp is no number", fields("a", wire.Timestamp(9)), fields("a", int64(9)), false},
		{"decimals", fields("a", wire.Decimal{Scale: 2, Value: 314}), fields("a", wire.Decimal{Scale: 2, Value: 314}), true},
		{"decimals of another scale", fields("a", wire.Decimal{Scale: 1, Value: 314}), fields("a", wire.Decimal{Scale: 2, Value: 314}), false},
		{"arrays", fields("a", wire.Array{int32(1), "x"}), fields("a", wire.Array{int32(1), "x"}), true},
		{"arrays by type", fields("a", wire.Array{int32(1)}), fields("a", wire.Array{int64(1)}), false},
		{"tables", fields("a", fields("k", "v")), fields("a", fields("k", "v")), true},
		{"table and array", fields("a", wire.Table(nil)), fields("a", wire.Array(nil)), false},
		{"empty text", fields("a", ""), fields("a", ""), true},
		{"empty text is there", fields("a", ""), fields("b", ""), false},
	} {
		table := New(Headers)
		table.Bind("k", c.args, Dest{ID: 1})
		raw := appendFields(nil, c.message) // not EncodeArgs: the order stays
		if got := len(table.Route(nil, "", raw)) == 1; got != c.want {
			t.Errorf("%s: %v on %v: %v", c.name, c.args, c.message, got)
		}
	}
}

// TestHeadersTruncated: whatever the bytes, Route does not panic, and counts the
// fields before the damage.
func TestHeadersTruncated(t *testing.T) {
	table := New(Headers)
	table.Bind("", fields("a", "1"), Dest{ID: 1})
	raw := appendFields(nil, fields("a", "1", "b", wire.Array{int64(1)}))
	first := len(appendFields(nil, fields("a", "1")))
	for n := range raw {
		want := 0
		if n >= first {
			want = 1
		}
		if got := table.Route(nil, "", raw[:n]); len(got) != want {
			t.Errorf("%d bytes: %v", n, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		table.Route(nil, "", rapid.SliceOf(rapid.Byte()).Draw(t, "raw"))
	})
}

// TestHeadersIdentity: key and arguments make the binding, in any order of them.
func TestHeadersIdentity(t *testing.T) {
	table := New(Headers)
	d := Dest{ID: 1}
	steps := []struct {
		what string
		got  bool
		want bool
	}{
		{"new", table.Bind("k", fields("a", "1", "b", "2"), d), true},
		{"again", table.Bind("k", fields("b", "2", "a", "1"), d), false},
		{"other key", table.Bind("l", fields("a", "1", "b", "2"), d), true},
		{"other args", table.Bind("k", fields("a", "1"), d), true},
		{"remove what is not there", table.Unbind("k", nil, d), false},
		{"remove the first", table.Unbind("k", fields("b", "2", "a", "1"), d), true},
		{"twice", table.Unbind("k", fields("b", "2", "a", "1"), d), false},
	}
	for _, s := range steps {
		if s.got != s.want {
			t.Errorf("%s: %v", s.what, s.got)
		}
	}
	if got := len(table.Route(nil, "", appendFields(nil, fields("a", "1")))); got != 1 || table.Len() != 2 {
		t.Errorf("%d routed, %d bindings left", got, table.Len())
	}
}

func TestInvalidBinding(t *testing.T) {
	for _, c := range []struct {
		typ  Type
		args wire.Table
		want string
	}{
		{Headers, nil, ""},
		{Headers, fields("x-match", "any-with-x"), ""},
		{Headers, fields("x-match", "ANY"), `Invalid x-match field value <<"ANY">>; expected all, any, all-with-x, or any-with-x`},
		{Headers, fields("x-match", int32(1)), `Invalid x-match field type signedint (value 1); expected longstr`},
		{Topic, fields("x-match", "ANY"), ""},
	} {
		if got := InvalidBinding(c.typ, c.args); got != c.want {
			t.Errorf("%s %v: %q, want %q", c.typ, c.args, got, c.want)
		}
	}
}

func TestTerm(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, "undefined"}, {true, "true"}, {int8(-3), "-3"}, {uint32(7), "7"}, {wire.Timestamp(9), "9"},
		{"", "<<>>"}, {"a\"b\\", `<<"a\"b\\">>`}, {"é", `<<"é"/utf8>>`}, {"\x00\x01", "<<0,1>>"}, {[]byte{0xff}, "<<255>>"},
		{0.0, "0.0"}, {1.0, "1.0"}, {100000.0, "1.0e5"}, {10000.0, "1.0e4"}, {123456.0, "123456.0"}, {0.001, "0.001"}, {1e-5, "1.0e-5"},
		{-2.5, "-2.5"}, {1e30, "1.0e30"}, {float32(0.1), "0.10000000149011612"}, {1.2345678901234568e17, "1.2345678901234568e17"},
		{wire.Decimal{Scale: 2, Value: 5}, "{2,5}"},
		{wire.Array{int32(1), "b", nil}, `[{signedint,1},{longstr,<<"b">>},{void,undefined}]`},
		{fields("a", int64(1), "b", wire.Array{}), `[{<<"a">>,long,1},{<<"b">>,array,[]}]`},
	} {
		if got := Term(c.v); got != c.want {
			t.Errorf("Term(%v) = %s, want %s", c.v, got, c.want)
		}
	}
	for text, want := range map[string]string{"a 'b\"ä'": `"a 'b\"ä'"`, "中a": "[20013,97]"} {
		if got := QuoteTerm(text); got != want {
			t.Errorf("QuoteTerm(%q) = %s, want %s", text, got, want)
		}
	}
}

func BenchmarkHeadersRoute(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			table := New(Headers)
			for i := range n {
				table.Bind("", fields("tenant", fmt.Sprintf("t%d", i), "kind", "order"), Dest{ID: uint64(i)})
			}
			raw := appendFields(nil, fields("trace", "0123456789abcdef", "tenant", "t5", "kind", "order"))
			var dst []Dest
			b.ReportAllocs()
			for b.Loop() {
				dst = table.Route(dst[:0], "", raw)
			}
		})
	}
}
