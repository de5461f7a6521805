package topology

import (
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// BindQueue is queue.bind, done by connection connID. added is false if that
// very binding was there already. Errors: 403 for the default exchange, 404 for
// a missing exchange or queue, 405 for another connection's exclusive queue, 406
// for arguments the exchange type refuses.
func (v *VHost) BindQueue(queue, source, key string, args wire.Table, connID uint64) (added bool, err *wire.Error) {
	queue, source = CleanName(queue), CleanName(source)
	if err := bindingRefused(exchange.Queue, queue, source); err != nil {
		return false, err
	}
	x, q := v.exchanges[source], v.queues[queue]
	if x == nil {
		return false, v.NoExchange(source)
	}
	if q == nil {
		return false, v.NoQueue(queue)
	}
	if text := exchange.InvalidBinding(x.Type, args); text != "" {
		return false, precondition(text)
	}
	if err := v.CheckAccess(q, connID); err != nil {
		return false, err
	}
	return v.link(x, exchange.Dest{Kind: exchange.Queue, ID: q.ID}, q.Name, &q.in, key, args), nil
}

// UnbindQueue is queue.unbind. Removing what is not there (binding, queue or
// exchange) is no error. gone is the auto-delete exchange that lost its last
// binding, and what went with it.
func (v *VHost) UnbindQueue(queue, source, key string, args wire.Table, connID uint64) (removed bool, gone []*Exchange, err *wire.Error) {
	queue, source = CleanName(queue), CleanName(source)
	if err := bindingRefused(exchange.Queue, queue, source); err != nil {
		return false, nil, err
	}
	x, q := v.exchanges[source], v.queues[queue]
	if x == nil || q == nil {
		return false, nil, nil
	}
	b := v.bindings[bindingID{x.ID, exchange.Dest{Kind: exchange.Queue, ID: q.ID}, key, exchange.EncodeArgs(args)}]
	if b == nil {
		return false, nil, nil
	}
	if err := v.CheckAccess(q, connID); err != nil {
		return false, nil, err
	}
	return true, v.unbind(b), nil
}

// BindExchange is exchange.bind: messages of source also go to dest. Errors as
// for BindQueue.
func (v *VHost) BindExchange(dest, source, key string, args wire.Table) (added bool, err *wire.Error) {
	dest, source = CleanName(dest), CleanName(source)
	if err := bindingRefused(exchange.Exchange, dest, source); err != nil {
		return false, err
	}
	x, to := v.exchanges[source], v.exchanges[dest]
	if x == nil {
		return false, v.NoExchange(source)
	}
	if to == nil {
		return false, v.NoExchange(dest)
	}
	if text := exchange.InvalidBinding(x.Type, args); text != "" {
		return false, precondition(text)
	}
	return v.link(x, exchange.Dest{Kind: exchange.Exchange, ID: to.ID}, to.Name, &to.in, key, args), nil
}

// UnbindExchange is exchange.unbind; see UnbindQueue.
func (v *VHost) UnbindExchange(dest, source, key string, args wire.Table) (removed bool, gone []*Exchange, err *wire.Error) {
	dest, source = CleanName(dest), CleanName(source)
	if err := bindingRefused(exchange.Exchange, dest, source); err != nil {
		return false, nil, err
	}
	x, to := v.exchanges[source], v.exchanges[dest]
	if x == nil || to == nil {
		return false, nil, nil
	}
	b := v.bindings[bindingID{x.ID, exchange.Dest{Kind: exchange.Exchange, ID: to.ID}, key, exchange.EncodeArgs(args)}]
	if b == nil {
		return false, nil, nil
	}
	return true, v.unbind(b), nil
}

// bindingRefused checks what needs only the names, in RabbitMQ's order.
func bindingRefused(kind exchange.DestKind, dest, source string) *wire.Error {
	if kind == exchange.Queue && strings.HasPrefix(dest, volatilePrefix) {
		return wire.ChannelError(wire.AccessRefused, "cannot bind or unbind to a volatile (direct reply-to) queue")
	}
	if source == "" || kind == exchange.Exchange && dest == "" {
		return defaultExchangeRefused()
	}
	return nil
}

// link adds a binding unless it is there.
func (v *VHost) link(x *Exchange, d exchange.Dest, destName string, in *bindingList, key string, args wire.Table) bool {
	id := bindingID{x.ID, d, key, exchange.EncodeArgs(args)}
	if v.bindings[id] != nil {
		return false
	}
	b := &binding{
		Binding: Binding{Source: x.Name, Kind: d.Kind, Dest: destName, Key: key, Args: args},
		source:  x, target: in, id: id,
	}
	v.bindings[id] = b
	x.table.Bind(key, args, d)
	x.out.push(b)
	in.push(b)
	v.epoch++
	return true
}

// unlink removes a binding from everywhere.
func (v *VHost) unlink(b *binding) {
	delete(v.bindings, b.id)
	b.source.table.Unbind(b.Key, b.Args, b.id.dest)
	b.source.out.remove(b)
	b.target.remove(b)
	v.epoch++
}

// unbind removes a binding and its source if that is auto-delete and now unused.
func (v *VHost) unbind(b *binding) (gone []*Exchange) {
	source := b.source
	v.unlink(b)
	if source.AutoDelete && source.out.n == 0 && !v.rebuilding {
		gone = v.dropExchange(nil, source)
	}
	return gone
}
