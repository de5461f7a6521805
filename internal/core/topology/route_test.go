package topology

import (
	"fmt"
	"sync"
	"testing"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// wide makes a vhost with n queues on a fanout behind a topic exchange, and on
// the topic exchange itself.
func wide(tb testing.TB, n int) *VHost {
	tb.Helper()
	v := NewVHost("/")
	for i := range n {
		name := fmt.Sprintf("q%d", i)
		if _, _, err := v.DeclareQueue(DeclareQueue{Name: name, Durable: true, Owner: 1, ID: uint64(i + 1)}); err != nil {
			tb.Fatal(err)
		}
		for _, x := range []string{"amq.fanout", "amq.topic"} {
			if _, err := v.BindQueue(name, x, "#", nil, 1); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if _, err := v.BindExchange("amq.fanout", "amq.topic", "a.*", nil); err != nil {
		tb.Fatal(err)
	}
	return v
}

// TestRouteDoesNotAllocate once its scratch is warm, few queues or many.
func TestRouteDoesNotAllocate(t *testing.T) {
	for _, n := range []int{1, 10, 100} {
		v := wide(t, n)
		var s RouteScratch
		keys := []string{"a.b", "q0", "other"}
		for _, x := range []string{"", "amq.fanout", "amq.topic"} {
			var qs []*Queue
			run := func() { qs, _ = v.Route(x, keys, nil, &s) }
			run()
			if allocs := testing.AllocsPerRun(50, run); allocs != 0 {
				t.Errorf("%d queues, exchange %q: %v allocations", n, x, allocs)
			}
			if x != "" && len(qs) != n {
				t.Errorf("%d queues, exchange %q: routed to %d", n, x, len(qs))
			}
		}
	}
}

// TestRouteConcurrently: Routes only read, so they may run side by side. The
// race detector is the judge.
func TestRouteConcurrently(t *testing.T) {
	v := wide(t, 40)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var s RouteScratch
			for range 200 {
				if qs, err := v.Route("amq.topic", []string{"a.b"}, nil, &s); err != nil || len(qs) != 40 {
					t.Errorf("%d queues, %v", len(qs), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestScratchSurvivesDeletions: a scratch that has seen many queues come and go
// neither keeps growing nor mistakes a new queue for an old one.
func TestScratchSurvivesDeletions(t *testing.T) {
	v := NewVHost("/")
	var s RouteScratch
	id := uint64(0)
	for range 30 {
		for i := range 100 {
			id++
			name := fmt.Sprintf("q%d", i)
			if _, created, err := v.DeclareQueue(DeclareQueue{Name: name, Owner: 1, ID: id}); err != nil || !created {
				t.Fatal(created, err)
			}
			if _, err := v.BindQueue(name, "amq.fanout", "", nil, 1); err != nil {
				t.Fatal(err)
			}
		}
		if qs, _ := v.Route("amq.fanout", []string{""}, nil, &s); len(qs) != 100 {
			t.Fatalf("routed to %d queues", len(qs))
		}
		for i := range 100 {
			v.DeleteQueue(fmt.Sprintf("q%d", i))
		}
		if qs, _ := v.Route("amq.fanout", []string{""}, nil, &s); len(qs) != 0 {
			t.Fatalf("routed to %d deleted queues", len(qs))
		}
	}
	if len(s.seen.many) > 1500 {
		t.Errorf("the scratch remembers %d ids of 100 queues", len(s.seen.many))
	}
}

// TestEpoch: reads and refusals do not move it, changes do.
func TestEpoch(t *testing.T) {
	v := NewVHost("/")
	moved := func(what string, want bool, f func()) {
		t.Helper()
		before := v.Epoch()
		f()
		if got := v.Epoch() != before; got != want {
			t.Errorf("%s: epoch moved %v, want %v", what, got, want)
		}
	}
	declare := func() { _, _, _ = v.DeclareQueue(DeclareQueue{Name: "q", Durable: true, Owner: 1, ID: 1}) }
	bind := func() { _, _ = v.BindQueue("q", "amq.direct", "k", nil, 1) }
	unbind := func() { _, _, _ = v.UnbindQueue("q", "amq.direct", "k", nil, 1) }
	x := DeclareExchange{Name: "x", Type: "direct"}
	moved("declare", true, declare)
	moved("declare again", false, declare)
	moved("bind", true, bind)
	moved("bind again", false, bind)
	moved("refused bind", false, func() { _, _ = v.BindQueue("q", "missing", "k", nil, 1) })
	moved("unbind", true, unbind)
	moved("unbind again", false, unbind)
	moved("route", false, func() { _, _ = v.Route("amq.direct", []string{"k"}, nil, new(RouteScratch)) })
	moved("declare exchange", true, func() { _, _, _ = v.DeclareExchange(x) })
	moved("declare exchange again", false, func() { _, _, _ = v.DeclareExchange(x) })
	moved("delete exchange", true, func() { _, _ = v.DeleteExchange("x", false) })
	moved("delete exchange again", false, func() { _, _ = v.DeleteExchange("x", false) })
	moved("delete queue", true, func() { v.DeleteQueue("q") })
	moved("delete queue again", false, func() { v.DeleteQueue("q") })
}

// TestArgsAreNotWrittenTo: what the caller passed stays as it was.
func TestArgsAreNotWrittenTo(t *testing.T) {
	v := NewVHost("/")
	backing := wire.Table{{Key: "x-overflow", Value: "drop-head"}, {Key: "x-max-length", Value: int32(1)}, {Key: "spare", Value: true}}
	q, _, err := v.DeclareQueue(DeclareQueue{Name: "q", Owner: 1, ID: 1, Args: backing[:2]})
	if err != nil {
		t.Fatal(err)
	}
	if backing[0].Key != "x-overflow" || backing[1].Key != "x-max-length" || backing[2].Key != "spare" {
		t.Errorf("the caller's table is now %v", backing)
	}
	if _, ok := q.Args.Get(typeArg); !ok || q.Config.MaxLength != 1 {
		t.Errorf("the queue has %v, %+v", q.Args, q.Config)
	}
}

// TestLongChainsEnd: clients may chain any number of exchanges; neither routing
// nor the end of the chain recurses.
func TestLongChainsEnd(t *testing.T) {
	v := NewVHost("/")
	const n = 20_000
	for i := range n {
		x := DeclareExchange{Name: fmt.Sprintf("x%d", i), Type: "fanout", AutoDelete: true}
		if _, _, err := v.DeclareExchange(x); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if _, err := v.BindExchange(x.Name, fmt.Sprintf("x%d", i-1), "", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, _, err := v.DeclareQueue(DeclareQueue{Name: "q", Owner: 1, ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.BindQueue("q", fmt.Sprintf("x%d", n-1), "", nil, 1); err != nil {
		t.Fatal(err)
	}
	if qs, err := v.Route("x0", []string{""}, nil, new(RouteScratch)); err != nil || len(qs) != 1 {
		t.Fatalf("%d queues, %v", len(qs), err)
	}
	if _, gone := v.DeleteQueue("q"); len(gone) != n {
		t.Fatalf("%d exchanges went, want all %d", len(gone), n)
	}
}

func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		for _, x := range []string{"amq.fanout", "amq.topic"} {
			b.Run(fmt.Sprintf("%s/queues=%d", x, n), func(b *testing.B) {
				v := wide(b, n)
				var s RouteScratch
				keys := []string{"a.b"}
				b.ReportAllocs()
				for b.Loop() {
					_, _ = v.Route(x, keys, nil, &s)
				}
			})
		}
	}
}

// BenchmarkChurn100k declares, binds and deletes one queue beside 100,000
// bindings of one exchange: it must not notice them.
func BenchmarkChurn100k(b *testing.B) {
	for _, typ := range []exchange.Type{exchange.Direct, exchange.Fanout, exchange.Topic, exchange.Headers} {
		b.Run(string(typ), func(b *testing.B) {
			v := NewVHost("/")
			x := "amq." + string(typ)
			args := wire.Table{{Key: "a", Value: "b"}}
			for i := range 100_000 {
				q := fmt.Sprintf("q%d", i%1000)
				if i < 1000 {
					_, _, _ = v.DeclareQueue(DeclareQueue{Name: q, Owner: 1, ID: uint64(i + 1)})
				}
				if _, err := v.BindQueue(q, x, fmt.Sprintf("key.%d", i), args, 1); err != nil {
					b.Fatal(err)
				}
			}
			id := uint64(1_000_000)
			b.ReportAllocs()
			for b.Loop() {
				id++
				_, _, _ = v.DeclareQueue(DeclareQueue{Name: "new", Owner: 1, ID: id})
				_, _ = v.BindQueue("new", x, "key.7", args, 1)
				_, _ = v.BindQueue("new", x, "other.key", args, 1)
				_, _, _ = v.UnbindQueue("new", x, "other.key", args, 1)
				v.DeleteQueue("new")
			}
		})
	}
}
