package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/warrenmq/warren/internal/core/exchange"
)

// naive is a vhost as plain lists, with the rules written down as directly as
// can be and no thought of speed.
type naive struct {
	exchanges map[string]naiveExchange
	queues    map[string]bool
	bindings  []naiveBinding
}

type naiveExchange struct {
	typ        exchange.Type
	alternate  string
	autoDelete bool
}

type naiveBinding struct {
	source, dest, key string
	toExchange        bool
}

func (n *naive) hasBindings(source string) bool {
	return slices.ContainsFunc(n.bindings, func(b naiveBinding) bool { return b.source == source })
}

func (n *naive) bind(b naiveBinding) bool {
	if slices.Contains(n.bindings, b) {
		return false
	}
	n.bindings = append(n.bindings, b)
	return true
}

func (n *naive) unbind(b naiveBinding) bool {
	i := slices.Index(n.bindings, b)
	if i < 0 {
		return false
	}
	n.bindings = slices.Delete(n.bindings, i, i+1)
	n.autoDelete(map[string]bool{b.source: true})
	return true
}

// dropTo removes the bindings to a destination that is gone.
func (n *naive) dropTo(dest string, isExchange bool) {
	touched := map[string]bool{}
	n.bindings = slices.DeleteFunc(n.bindings, func(b naiveBinding) bool {
		hit := b.dest == dest && b.toExchange == isExchange
		if hit {
			touched[b.source] = true
		}
		return hit
	})
	n.autoDelete(touched)
}

// autoDelete deletes those of the exchanges that lost a binding, have none left
// and are auto-delete.
func (n *naive) autoDelete(touched map[string]bool) {
	for name := range touched {
		if x, ok := n.exchanges[name]; ok && x.autoDelete && !n.hasBindings(name) {
			n.deleteExchange(name)
		}
	}
}

func (n *naive) deleteExchange(name string) {
	if _, ok := n.exchanges[name]; !ok {
		return
	}
	delete(n.exchanges, name)
	n.bindings = slices.DeleteFunc(n.bindings, func(b naiveBinding) bool { return b.source == name })
	n.dropTo(name, true)
}

func (n *naive) route(name string, keys []string) []string {
	out := map[string]bool{}
	if name == "" {
		for _, k := range keys {
			if n.queues[k] {
				out[k] = true
			}
		}
	} else {
		n.walk(name, keys, map[string]bool{}, out)
	}
	names := make([]string, 0, len(out))
	for q := range out {
		names = append(names, q)
	}
	slices.Sort(names)
	return names
}

func (n *naive) walk(name string, keys []string, visited, out map[string]bool) {
	x, ok := n.exchanges[name]
	if !ok || visited[name] {
		return
	}
	visited[name] = true
	matched := false
	for _, b := range n.bindings {
		if b.source != name || !slices.ContainsFunc(keys, func(k string) bool { return naiveMatches(x.typ, b.key, k) }) {
			continue
		}
		matched = true
		if b.toExchange {
			n.walk(b.dest, keys, visited, out)
		} else {
			out[b.dest] = true
		}
	}
	if !matched && x.alternate != "" {
		n.walk(x.alternate, keys, visited, out)
	}
}

func naiveMatches(t exchange.Type, pattern, key string) bool {
	switch t {
	case exchange.Fanout:
		return true
	case exchange.Direct:
		return pattern == key
	}
	var words []string
	if key != "" {
		words = strings.Split(key, ".")
	}
	return naiveTopic(strings.Split(pattern, "."), words)
}

func naiveTopic(pattern, words []string) bool {
	if len(pattern) == 0 {
		return len(words) == 0
	}
	if pattern[0] == "#" {
		return naiveTopic(pattern[1:], words) || len(words) > 0 && naiveTopic(pattern, words[1:])
	}
	return len(words) > 0 && (pattern[0] == "*" || pattern[0] == words[0]) && naiveTopic(pattern[1:], words[1:])
}

// pair is a VHost and the model it must agree with.
type pair struct {
	v       *VHost
	n       *naive
	nextID  uint64
	scratch RouteScratch
	routed  map[string][]string // last result by exchange and keys
	epoch   uint64              // when routed was taken
}

var (
	modelQueues    = []string{"q1", "q2", "q3"}
	modelExchanges = []string{"x1", "x2", "x3", "x4"}
	modelKeys      = []string{"a", "a.b", "q1"}
	modelPatterns  = []string{"a", "a.b", "a.*", "#", "#.b"}
)

func newPair() *pair {
	return &pair{
		v: NewVHost("/"), n: &naive{exchanges: map[string]naiveExchange{}, queues: map[string]bool{}},
		routed: map[string][]string{},
	}
}

// TestModel does random things to a vhost and to the model, and after each
// compares every route, the listings and the epoch.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair()
		t.Repeat(map[string]func(*rapid.T){
			"declare queue":    p.declareQueue,
			"delete queue":     p.deleteQueue,
			"declare exchange": p.declareExchange,
			"delete exchange":  p.deleteExchange,
			"bind":             p.bind,
			"bind more":        p.bind, // twice as likely
			"unbind":           p.unbind,
			"":                 p.check,
		})
	})
}

func (p *pair) declareQueue(t *rapid.T) {
	name := rapid.SampledFrom(modelQueues).Draw(t, "queue")
	p.nextID++
	_, created, err := p.v.DeclareQueue(DeclareQueue{Name: name, ID: p.nextID, Owner: 1})
	if err != nil || created == p.n.queues[name] {
		t.Fatalf("declare %s: %v %v", name, created, err)
	}
	p.n.queues[name] = true
}

func (p *pair) deleteQueue(t *rapid.T) {
	name := rapid.SampledFrom(modelQueues).Draw(t, "queue")
	q, _ := p.v.DeleteQueue(name)
	if (q != nil) != p.n.queues[name] {
		t.Fatalf("delete %s: %v", name, q)
	}
	delete(p.n.queues, name)
	p.n.dropTo(name, false)
}

func (p *pair) declareExchange(t *rapid.T) {
	name := rapid.SampledFrom(modelExchanges).Draw(t, "exchange")
	if _, ok := p.n.exchanges[name]; ok {
		t.Skip("declared")
	}
	x := naiveExchange{
		typ:        rapid.SampledFrom([]exchange.Type{exchange.Direct, exchange.Fanout, exchange.Topic}).Draw(t, "type"),
		alternate:  rapid.SampledFrom(append([]string{""}, modelExchanges...)).Draw(t, "alternate"),
		autoDelete: rapid.Bool().Draw(t, "auto-delete"),
	}
	r := DeclareExchange{Name: name, Type: string(x.typ), AutoDelete: x.autoDelete}
	if x.alternate != "" {
		r.Args = r.Args.Set(alternateArg, x.alternate)
	}
	if _, created, err := p.v.DeclareExchange(r); err != nil || !created {
		t.Fatalf("declare %s: %v %v", name, created, err)
	}
	p.n.exchanges[name] = x
}

func (p *pair) deleteExchange(t *rapid.T) {
	name := rapid.SampledFrom(modelExchanges).Draw(t, "exchange")
	before := len(p.n.exchanges)
	gone, err := p.v.DeleteExchange(name, false)
	p.n.deleteExchange(name)
	if err != nil || len(gone) != before-len(p.n.exchanges) {
		t.Fatalf("delete %s: %d gone, want %d (%v)", name, len(gone), before-len(p.n.exchanges), err)
	}
}

func drawModelBinding(t *rapid.T) naiveBinding {
	b := naiveBinding{
		source:     rapid.SampledFrom(modelExchanges).Draw(t, "source"),
		key:        rapid.SampledFrom(modelPatterns).Draw(t, "key"),
		toExchange: rapid.Bool().Draw(t, "to exchange"),
	}
	if b.toExchange {
		b.dest = rapid.SampledFrom(modelExchanges).Draw(t, "dest")
	} else {
		b.dest = rapid.SampledFrom(modelQueues).Draw(t, "dest")
	}
	return b
}

func (p *pair) bind(t *rapid.T) {
	b := drawModelBinding(t)
	_, hasSource := p.n.exchanges[b.source]
	_, hasDest := p.n.exchanges[b.dest]
	if !b.toExchange {
		hasDest = p.n.queues[b.dest]
	}
	added, err := p.v.BindQueue(b.dest, b.source, b.key, nil, 1)
	if b.toExchange {
		added, err = p.v.BindExchange(b.dest, b.source, b.key, nil)
	}
	if (err == nil) != (hasSource && hasDest) {
		t.Fatalf("bind %v: %v", b, err)
	}
	if err == nil && added != p.n.bind(b) {
		t.Fatalf("bind %v: added %v", b, added)
	}
}

func (p *pair) unbind(t *rapid.T) {
	b := drawModelBinding(t)
	if len(p.n.bindings) > 0 && rapid.Bool().Draw(t, "existing") {
		b = rapid.SampledFrom(p.n.bindings).Draw(t, "which")
	}
	before := len(p.n.exchanges)
	var removed bool
	var gone []*Exchange
	if b.toExchange {
		removed, gone, _ = p.v.UnbindExchange(b.dest, b.source, b.key, nil)
	} else {
		removed, gone, _ = p.v.UnbindQueue(b.dest, b.source, b.key, nil, 1)
	}
	if want := p.n.unbind(b); removed != want || len(gone) != before-len(p.n.exchanges) {
		t.Fatalf("unbind %v: %v, %d gone", b, removed, len(gone))
	}
}

func (p *pair) check(t *rapid.T) {
	for _, name := range append([]string{""}, modelExchanges...) {
		for _, keys := range [][]string{{"a"}, {"a.b"}, {"q1"}, modelKeys} {
			p.checkRoute(t, name, keys)
		}
	}
	p.epoch = p.v.Epoch()
	if got, want := p.v.BindingCount(), len(p.n.bindings); got != want {
		t.Fatalf("%d bindings, want %d", got, want)
	}
	if got, want := p.v.ExchangeCount(), len(p.n.exchanges)+7; got != want {
		t.Fatalf("%d exchanges, want %d", got, want)
	}
	var got []string
	for _, b := range p.v.Bindings() {
		if b.Source != "" {
			got = append(got, fmt.Sprint(naiveBinding{b.Source, b.Dest, b.Key, b.Kind == exchange.Exchange}))
		}
	}
	var want []string
	for _, b := range p.n.bindings {
		want = append(want, fmt.Sprint(b))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("bindings %v, want %v", got, want)
	}
	p.checkCounts(t)
}

// checkCounts: both ends of every binding know it.
func (p *pair) checkCounts(t *rapid.T) {
	for _, x := range p.v.Exchanges() {
		if x.Name == "" {
			continue
		}
		if got := len(p.v.BindingsFrom(x)); got != x.BindingCount() || got != x.table.Len() {
			t.Fatalf("%s: %d bindings listed, %d counted, %d in the table", x.Name, got, x.BindingCount(), x.table.Len())
		}
	}
	for _, q := range p.v.Queues() {
		if got := len(p.v.BindingsToQueue(q)); got != q.BindingCount()+1 {
			t.Fatalf("%s: %d bindings listed, %d counted", q.Name, got, q.BindingCount())
		}
	}
}

func (p *pair) checkRoute(t *rapid.T, name string, keys []string) {
	_, known := p.n.exchanges[name]
	qs, err := p.v.Route(name, keys, nil, &p.scratch)
	if (err == nil) != (known || name == "") {
		t.Fatalf("route %q: %v", name, err)
	}
	got := make([]string, 0, len(qs))
	for _, q := range qs {
		got = append(got, q.Name)
	}
	slices.Sort(got)
	if want := p.n.route(name, keys); !slices.Equal(got, want) {
		t.Fatalf("route %q %v: %v, want %v in %+v", name, keys, got, want, p.n)
	}
	at := name + " " + strings.Join(keys, " ")
	if last, ok := p.routed[at]; ok && !slices.Equal(last, got) && p.epoch == p.v.Epoch() {
		t.Fatalf("route %q %v changed from %v to %v, the epoch did not", name, keys, last, got)
	}
	p.routed[at] = got
}
