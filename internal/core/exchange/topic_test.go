package exchange

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/warrenmq/warren/internal/wire"
)

// naiveMatch is the definition: '*' is one word, '#' any number of them.
func naiveMatch(pattern, words []string) bool {
	if len(pattern) == 0 {
		return len(words) == 0
	}
	if pattern[0] == "#" {
		for i := 0; i <= len(words); i++ {
			if naiveMatch(pattern[1:], words[i:]) {
				return true
			}
		}
		return false
	}
	return len(words) > 0 && (pattern[0] == "*" || pattern[0] == words[0]) &&
		naiveMatch(pattern[1:], words[1:])
}

func naiveWords(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}

func distinct(ds []Dest) []uint64 {
	ids := make([]uint64, 0, len(ds))
	for _, d := range ds {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func sorted(ids []uint64) []uint64 {
	slices.Sort(ids)
	return ids
}

// naiveBinding is a binding in the models of this package.
type naiveBinding struct {
	key  string
	args string
	dest Dest
}

// TestTopicModel binds, unbinds and routes at random, and compares with matching
// every binding by the definition. Few words and many wildcards make patterns
// share prefixes and nest '#'.
func TestTopicModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(Topic)
		model := map[naiveBinding]bool{}
		patterns := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "*", "#"}), 0, 6),
			func(ws []string) string { return strings.Join(ws, ".") })
		keys := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "", "*", "#"}), 0, 6),
			func(ws []string) string { return strings.Join(ws, ".") })
		argSets := []wire.Table{nil, {{Key: "n", Value: int32(1)}}}
		t.Repeat(map[string]func(*rapid.T){
			"bind": func(t *rapid.T) {
				b, args := drawBinding(t, patterns, argSets)
				if got := table.Bind(b.key, args, b.dest); got == model[b] {
					t.Fatalf("Bind(%v) = %v", b, got)
				}
				model[b] = true
			},
			"unbind": func(t *rapid.T) {
				b, args := drawBinding(t, patterns, argSets)
				if len(model) > 0 && rapid.Bool().Draw(t, "existing") {
					all := make([]naiveBinding, 0, len(model))
					for x := range model {
						all = append(all, x)
					}
					slices.SortFunc(all, func(x, y naiveBinding) int {
						return strings.Compare(fmt.Sprint(x), fmt.Sprint(y))
					})
					b = rapid.SampledFrom(all).Draw(t, "which")
					args = nil
					if b.args != "" {
						args = argSets[1]
					}
				}
				if got := table.Unbind(b.key, args, b.dest); got != model[b] {
					t.Fatalf("Unbind(%v) = %v", b, got)
				}
				delete(model, b)
			},
			"": func(t *rapid.T) {
				if table.Len() != len(model) {
					t.Fatalf("Len() = %d, want %d", table.Len(), len(model))
				}
				key := keys.Draw(t, "key")
				var want []uint64
				for b := range model {
					if naiveMatch(naiveWords(b.key), naiveWords(key)) {
						want = append(want, b.dest.ID)
					}
				}
				want = slices.Compact(sorted(want))
				if got := distinct(table.Route(nil, key, nil)); !slices.Equal(got, want) {
					t.Fatalf("Route(%q) = %v, want %v in %v", key, got, want, model)
				}
			},
		})
	})
}

func drawBinding(t *rapid.T, keys *rapid.Generator[string], argSets []wire.Table) (naiveBinding, wire.Table) {
	args := rapid.SampledFrom(argSets).Draw(t, "args")
	return naiveBinding{
		key:  keys.Draw(t, "key"),
		args: EncodeArgs(args),
		dest: Dest{Kind: Queue, ID: rapid.Uint64Range(1, 5).Draw(t, "dest")},
	}, args
}

// TestTopicRoutesOncePerBinding: the front of the walk holds no node twice, so a
// destination comes out once for each binding that matches, however many ways
// its '#'s could share out the words.
func TestTopicRoutesOncePerBinding(t *testing.T) {
	table := New(Topic)
	table.Bind("#.a.#.a.#", nil, Dest{ID: 1})
	table.Bind("#.#.#", nil, Dest{ID: 2})
	got := table.Route(nil, "a.a.a.a.a.a", nil)
	if len(got) != 2 {
		t.Fatalf("got %v, want each destination once", got)
	}
}

// TestTopicPrunes: a table that lost all its bindings holds no nodes any more.
func TestTopicPrunes(t *testing.T) {
	table := newTopic()
	keys := []string{"", "a", "a.b.c", "a.*.c", "#", "#.b.#", "*", "a.#"}
	for _, k := range keys {
		table.Bind(k, nil, Dest{ID: 1})
	}
	for _, k := range keys {
		if !table.Unbind(k, nil, Dest{ID: 1}) {
			t.Fatalf("Unbind(%q) found nothing", k)
		}
	}
	if r := table.root; len(r.children) != 0 || r.star != nil || r.hash != nil || table.Len() != 0 {
		t.Fatalf("left over: %+v", r)
	}
}

// TestTopicHostile: patterns made of '#' and keys of many words stay cheap. A
// backtracking matcher would not finish this within the age of the universe.
func TestTopicHostile(t *testing.T) {
	table := New(Topic)
	hostile := strings.TrimSuffix(strings.Repeat("#.a.", 60), ".") + ".z"
	table.Bind(hostile, nil, Dest{ID: 1})
	for i := range 40 {
		table.Bind(strings.Repeat("#.*.a.", i+1)+"#", nil, Dest{ID: uint64(i + 2)})
	}
	key := strings.TrimSuffix(strings.Repeat("a.", 120), ".")
	got := distinct(table.Route(nil, key, nil))
	if len(got) != 40 || slices.Contains(got, 1) {
		t.Fatalf("got %v", got)
	}
}

func BenchmarkTopicRoute(b *testing.B) {
	for _, n := range []int{1, 100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			table := New(Topic)
			for i := range n {
				var key string
				switch i % 3 {
				case 0:
					key = fmt.Sprintf("eu.shop%d.order.created", i)
				case 1:
					key = fmt.Sprintf("*.shop%d.order.*", i)
				default:
					key = fmt.Sprintf("eu.shop%d.#", i)
				}
				table.Bind(key, nil, Dest{ID: uint64(i)})
			}
			key := fmt.Sprintf("eu.shop%d.order.created", n/2)
			var dst []Dest
			b.ReportAllocs()
			for b.Loop() {
				dst = table.Route(dst[:0], key, nil)
			}
		})
	}
}

func BenchmarkTopicHostile(b *testing.B) {
	table := New(Topic)
	for i := range 20 {
		table.Bind(strings.Repeat("#.a.", i+1)+"#", nil, Dest{ID: uint64(i)})
	}
	key := strings.TrimSuffix(strings.Repeat("a.", 120), ".")
	var dst []Dest
	b.ReportAllocs()
	for b.Loop() {
		dst = table.Route(dst[:0], key, nil)
	}
}
