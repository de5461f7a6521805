package topology

import (
	"cmp"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
)

// Exchanges lists all exchanges by name; the default exchange comes first.
func (v *VHost) Exchanges() []*Exchange {
	xs := make([]*Exchange, 0, len(v.exchanges))
	for _, x := range v.exchanges {
		xs = append(xs, x)
	}
	slices.SortFunc(xs, func(a, b *Exchange) int { return strings.Compare(a.Name, b.Name) })
	return xs
}

// Queues lists all queues by name.
func (v *VHost) Queues() []*Queue {
	qs := make([]*Queue, 0, len(v.queues))
	for _, q := range v.queues {
		qs = append(qs, q)
	}
	slices.SortFunc(qs, func(a, b *Queue) int { return strings.Compare(a.Name, b.Name) })
	return qs
}

// implied is the binding the default exchange has with every queue.
func implied(q *Queue) Binding {
	return Binding{Kind: exchange.Queue, Dest: q.Name, Key: q.Name}
}

// Bindings lists all bindings, the default exchange's included, by source,
// destination kind, destination and key.
func (v *VHost) Bindings() []Binding {
	bs := make([]Binding, 0, len(v.bindings)+len(v.queues))
	for _, q := range v.queues {
		bs = append(bs, implied(q))
	}
	for _, b := range v.bindings {
		bs = append(bs, b.Binding)
	}
	return sortBindings(bs)
}

// BindingsFrom lists the bindings that an exchange is the source of, sorted.
func (v *VHost) BindingsFrom(x *Exchange) []Binding {
	if x.Name == "" {
		bs := make([]Binding, 0, len(v.queues))
		for _, q := range v.queues {
			bs = append(bs, implied(q))
		}
		return sortBindings(bs)
	}
	return sortBindings(x.out.list(nil))
}

// BindingsToQueue lists the bindings that lead to a queue, the default
// exchange's included, sorted.
func (v *VHost) BindingsToQueue(q *Queue) []Binding {
	return sortBindings(q.in.list([]Binding{implied(q)}))
}

// BindingsToExchange lists the bindings that lead to an exchange, sorted.
func (v *VHost) BindingsToExchange(x *Exchange) []Binding {
	return sortBindings(x.in.list(nil))
}

func (l *bindingList) list(bs []Binding) []Binding {
	for b := l.first; b != nil; b = l.link(b).next {
		bs = append(bs, b.Binding)
	}
	return bs
}

func sortBindings(bs []Binding) []Binding {
	slices.SortFunc(bs, func(a, b Binding) int {
		return cmp.Or(
			strings.Compare(a.Source, b.Source),
			cmp.Compare(a.Kind, b.Kind),
			strings.Compare(a.Dest, b.Dest),
			strings.Compare(a.Key, b.Key),
			strings.Compare(exchange.EncodeArgs(a.Args), exchange.EncodeArgs(b.Args)),
		)
	})
	return bs
}

// The Append methods copy out what is there in no order, so that the lock that
// guards the topology is held no longer than that takes.

// AppendExchanges appends all exchanges.
func (v *VHost) AppendExchanges(dst []*Exchange) []*Exchange {
	dst = slices.Grow(dst, len(v.exchanges))
	for _, x := range v.exchanges {
		dst = append(dst, x)
	}
	return dst
}

// AppendQueues appends all queues.
func (v *VHost) AppendQueues(dst []*Queue) []*Queue {
	dst = slices.Grow(dst, len(v.queues))
	for _, q := range v.queues {
		dst = append(dst, q)
	}
	return dst
}

// AppendBindings appends all bindings, the default exchange's included.
func (v *VHost) AppendBindings(dst []Binding) []Binding {
	dst = v.appendImplied(slices.Grow(dst, len(v.queues)+len(v.bindings)))
	for _, b := range v.bindings {
		dst = append(dst, b.Binding)
	}
	return dst
}

func (v *VHost) appendImplied(dst []Binding) []Binding {
	for _, q := range v.queues {
		dst = append(dst, implied(q))
	}
	return dst
}

// AppendBindingsFrom appends the bindings whose source has that name: none if
// there is no such exchange.
func (v *VHost) AppendBindingsFrom(dst []Binding, source string) []Binding {
	if source == "" {
		return v.appendImplied(dst)
	}
	if x := v.exchanges[source]; x != nil {
		dst = x.out.list(dst)
	}
	return dst
}

// AppendBindingsTo appends the bindings that lead to a queue or an exchange: none
// if it is not there.
func (v *VHost) AppendBindingsTo(dst []Binding, kind exchange.DestKind, name string) []Binding {
	if kind == exchange.Queue {
		if q := v.queues[name]; q != nil {
			dst = q.in.list(append(dst, implied(q)))
		}
		return dst
	}
	if x := v.exchanges[name]; x != nil {
		dst = x.in.list(dst)
	}
	return dst
}
