package topology

import (
	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// Exchange is a declared exchange. Its description never changes.
type Exchange struct {
	ID         uint64 // unique in the vhost, never reused
	Name       string
	Type       exchange.Type
	Durable    bool
	AutoDelete bool
	Internal   bool
	Args       wire.Table // as declared

	alternate    string // the alternate-exchange argument
	hasAlternate bool
	table        exchange.Table
	out          bindingList // bindings it is the source of
	in           bindingList // bindings it is the destination of
}

// BindingCount is the number of bindings the exchange is the source of. Reads
// shared state: needs the vhost's lock, at least for reading.
func (x *Exchange) BindingCount() int { return x.out.n }

// Alternate is the name in the alternate-exchange argument.
func (x *Exchange) Alternate() (name string, ok bool) { return x.alternate, x.hasAlternate }

// Queue is a declared queue. Its description never changes.
type Queue struct {
	ID         uint64 // given by the caller, never reused
	Name       string
	Durable    bool
	Exclusive  bool
	AutoDelete bool
	Owner      uint64     // the connection an exclusive queue belongs to, 0 if none
	Args       wire.Table // as declared, plus x-queue-type if that was missing
	Config     QueueConfig

	// Runtime is the engine's own handle on the queue machine. It is set under
	// the lock that declared the queue and never looked at here.
	Runtime any

	in bindingList
}

// BindingCount is the number of bindings that lead to the queue, without the
// default exchange's. Needs the vhost's lock, at least for reading.
func (q *Queue) BindingCount() int { return q.in.n }

// Binding describes one binding.
type Binding struct {
	Source string
	Kind   exchange.DestKind
	Dest   string
	Key    string
	Args   wire.Table // as given
}

// binding is a Binding in place. Those of the default exchange are implied by
// the queues and never made.
type binding struct {
	Binding
	source *Exchange
	target *bindingList // the destination's list
	id     bindingID
	out    bindingLink // in source.out
	in     bindingLink // in *target
}

// bindingID is what makes two bindings the same one.
type bindingID struct {
	source uint64
	dest   exchange.Dest
	key    string
	args   string // encoded, empty for none
}

type bindingLink struct{ prev, next *binding }

// bindingList is an intrusive list, so that a binding leaves both of its ends in
// O(1) and lists come out in the order of binding.
type bindingList struct {
	first, last *binding
	n           int
	incoming    bool // which of a binding's two links the list uses
}

func (l *bindingList) link(b *binding) *bindingLink {
	if l.incoming {
		return &b.in
	}
	return &b.out
}

func (l *bindingList) push(b *binding) {
	k := l.link(b)
	k.prev, k.next = l.last, nil
	if l.last != nil {
		l.link(l.last).next = b
	} else {
		l.first = b
	}
	l.last = b
	l.n++
}

func (l *bindingList) remove(b *binding) {
	k := l.link(b)
	if k.prev != nil {
		l.link(k.prev).next = k.next
	} else {
		l.first = k.next
	}
	if k.next != nil {
		l.link(k.next).prev = k.prev
	} else {
		l.last = k.prev
	}
	*k = bindingLink{}
	l.n--
}
