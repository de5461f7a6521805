package exchange

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/warrenmq/warren/internal/wire"
)

// TestDirectAndFanoutModel compares both with lists of bindings. Many bindings
// under few keys take the sets over the size where they grow an index and back.
func TestDirectAndFanoutModel(t *testing.T) {
	for _, typ := range []Type{Direct, Fanout} {
		t.Run(string(typ), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { checkKeyModel(t, typ) })
		})
	}
}

func checkKeyModel(t *rapid.T, typ Type) {
	table := New(typ)
	model := map[naiveBinding]bool{}
	argSets := []wire.Table{nil, {{Key: "n", Value: int32(1)}}}
	keys := rapid.SampledFrom([]string{"", "a", "b"})
	draw := func(t *rapid.T) (naiveBinding, wire.Table) {
		b, args := drawBinding(t, keys, argSets)
		b.dest.ID += 5 * rapid.Uint64Range(0, 7).Draw(t, "more")
		return b, args
	}
	t.Repeat(map[string]func(*rapid.T){
		"bind": func(t *rapid.T) {
			for range rapid.IntRange(1, 20).Draw(t, "n") {
				b, args := draw(t)
				if got := table.Bind(b.key, args, b.dest); got == model[b] {
					t.Fatalf("Bind(%v) = %v", b, got)
				}
				model[b] = true
			}
		},
		"unbind": func(t *rapid.T) {
			for range rapid.IntRange(1, 20).Draw(t, "n") {
				b, args := draw(t)
				if got := table.Unbind(b.key, args, b.dest); got != model[b] {
					t.Fatalf("Unbind(%v) = %v", b, got)
				}
				delete(model, b)
			}
		},
		"": func(t *rapid.T) {
			key := keys.Draw(t, "key")
			var want []uint64
			for b := range model {
				if typ == Fanout || b.key == key {
					want = append(want, b.dest.ID)
				}
			}
			want = slices.Compact(sorted(want))
			if got := distinct(table.Route(nil, key, nil)); !slices.Equal(got, want) {
				t.Fatalf("Route(%q) = %v, want %v", key, got, want)
			}
			if table.Len() != len(model) {
				t.Fatalf("Len() = %d, want %d", table.Len(), len(model))
			}
		},
	})
}

// TestDestKindsDiffer: a queue and an exchange with the same id are two destinations.
func TestDestKindsDiffer(t *testing.T) {
	for _, typ := range []Type{Direct, Fanout, Topic, Headers} {
		table := New(typ)
		q, x := Dest{Queue, 1}, Dest{Exchange, 1}
		if !table.Bind("k", nil, q) || !table.Bind("k", nil, x) {
			t.Errorf("%s: the second was not new", typ)
		}
		table.Unbind("k", nil, q)
		if got := table.Route(nil, "k", nil); len(got) != 1 || got[0] != x {
			t.Errorf("%s: got %v, want %v", typ, got, x)
		}
	}
}

// TestRouteDoesNotAllocate: the caller's slice is all the memory Route needs.
func TestRouteDoesNotAllocate(t *testing.T) {
	headers := []byte(EncodeArgs(wire.Table{{Key: "a", Value: "b"}, {Key: "n", Value: int64(1)}}))
	for _, typ := range []Type{Direct, Fanout, Topic, Headers} {
		table := New(typ)
		for i := range 20 {
			table.Bind(fmt.Sprintf("*.k%d", i), wire.Table{{Key: "n", Value: int32(1)}}, Dest{ID: uint64(i)})
			table.Bind("a.k1", nil, Dest{ID: uint64(100 + i)})
			table.Bind("#.a.#", nil, Dest{ID: uint64(200 + i)})
		}
		dst := make([]Dest, 0, 100)
		if n := testing.AllocsPerRun(100, func() { dst = table.Route(dst[:0], "a.k1", headers) }); n != 0 {
			t.Errorf("%s: %v allocations for %d destinations", typ, n, len(dst))
		}
		if len(dst) == 0 {
			t.Errorf("%s: routed nowhere, the test means nothing", typ)
		}
	}
}

func TestEncodeArgs(t *testing.T) {
	a := wire.Table{{Key: "b", Value: int32(1)}, {Key: "a", Value: wire.Table{{Key: "y", Value: nil}, {Key: "x", Value: true}}}}
	b := wire.Table{a[1], a[0]}
	if EncodeArgs(a) != EncodeArgs(b) {
		t.Error("the order of arguments counts")
	}
	if EncodeArgs(nil) != "" || EncodeArgs(wire.Table{}) != "" {
		t.Error("no arguments do not encode as nothing")
	}
	different := []wire.Table{
		{{Key: "a", Value: int32(1)}}, {{Key: "a", Value: int64(1)}}, {{Key: "a", Value: "1"}}, {{Key: "a", Value: []byte("1")}},
		{{Key: "a", Value: nil}}, {{Key: "a", Value: true}}, {{Key: "a", Value: wire.Timestamp(1)}}, {{Key: "a", Value: uint8(1)}},
		{{Key: "a", Value: int8(1)}}, {{Key: "a", Value: int16(1)}}, {{Key: "a", Value: uint16(1)}}, {{Key: "a", Value: uint32(1)}},
		{{Key: "a", Value: float32(1)}}, {{Key: "a", Value: float64(1)}}, {{Key: "a", Value: wire.Decimal{Scale: 0, Value: 1}}},
		{{Key: "a", Value: wire.Array{int32(1)}}}, {{Key: "a", Value: wire.Table{{Key: "1"}}}}, {{Key: "b", Value: int32(1)}},
		{{Key: "a", Value: wire.Array{int32(1), int32(1)}}},
	}
	seen := map[string]int{}
	for i, args := range different {
		if j, ok := seen[EncodeArgs(args)]; ok {
			t.Errorf("%v and %v encode alike", different[j], args)
		}
		seen[EncodeArgs(args)] = i
	}
}

func BenchmarkDirectRoute(b *testing.B) {
	table := New(Direct)
	for i := range 100_000 {
		table.Bind(fmt.Sprintf("key%d", i), nil, Dest{ID: uint64(i)})
	}
	var dst []Dest
	b.ReportAllocs()
	for b.Loop() {
		dst = table.Route(dst[:0], "key500", nil)
	}
}

func BenchmarkFanoutBindUnbind(b *testing.B) {
	table := New(Fanout)
	for i := range 100_000 {
		table.Bind("", nil, Dest{ID: uint64(i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		table.Unbind("", nil, Dest{ID: 500})
		table.Bind("", nil, Dest{ID: 500})
	}
}
