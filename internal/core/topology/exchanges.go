package topology

import (
	"fmt"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

const alternateArg = "alternate-exchange"

// DeclareExchange is exchange.declare.
type DeclareExchange struct {
	Name       string
	Type       string
	Passive    bool // only look whether it is there; Name is all that counts then
	Durable    bool
	AutoDelete bool
	Internal   bool
	Args       wire.Table // kept, not copied
}

// DeclareExchange declares an exchange, or finds the equivalent one that is
// already there. created tells which. Errors: 403 for the default exchange or a
// reserved name, 404 if a passive declare finds nothing, 406 for an unknown type
// or what is not equivalent.
func (v *VHost) DeclareExchange(r DeclareExchange) (x *Exchange, created bool, err *wire.Error) {
	name := CleanName(r.Name)
	if r.Passive {
		if name == "" {
			return nil, false, defaultExchangeRefused()
		}
		x, err = v.FindExchange(name)
		return x, false, err
	}
	if r.Type == "" {
		return nil, false, precondition("invalid exchange type ''")
	}
	if !exchange.Known(exchange.Type(r.Type)) {
		return nil, false, precondition("unknown exchange type '" + r.Type + "'")
	}
	if name == "" {
		return nil, false, defaultExchangeRefused()
	}
	if x = v.exchanges[name]; x != nil {
		return x, false, v.exchangeEquivalent(x, r)
	}
	if err = reservedName(exchange.Exchange, name); err != nil {
		return nil, false, err
	}
	x = &Exchange{
		Name: name, Type: exchange.Type(r.Type),
		Durable: r.Durable, AutoDelete: r.AutoDelete, Internal: r.Internal, Args: r.Args,
	}
	if alt, ok := r.Args.Get(alternateArg); ok {
		s, isString := alt.(string)
		if !isString {
			return nil, false, precondition(fmt.Sprintf("invalid type '%s' for arg '%s' in %s",
				wire.TypeName(alt), alternateArg, v.describeExchange(name)))
		}
		x.alternate, x.hasAlternate = s, true
	}
	v.addExchange(x)
	return x, true, nil
}

// exchangeEquivalent checks, in RabbitMQ's order, whether r describes x.
func (v *VHost) exchangeEquivalent(x *Exchange, r DeclareExchange) *wire.Error {
	on := v.describeExchange(x.Name)
	if err := sameField("type", on, string(x.Type), r.Type); err != nil {
		return err
	}
	if err := sameField("durable", on, x.Durable, r.Durable); err != nil {
		return err
	}
	if err := sameField("auto_delete", on, x.AutoDelete, r.AutoDelete); err != nil {
		return err
	}
	if err := sameField("internal", on, x.Internal, r.Internal); err != nil {
		return err
	}
	return sameArg(alternateArg, on, x.Args, r.Args)
}

// DeleteExchange is exchange.delete. Deleting what is not there is no error and
// deletes nothing. gone are the exchanges that went: the named one first, then
// the auto-delete exchanges that lost their last binding with it. Errors: 403
// for the default and the system exchanges, 406 if ifUnused and it has bindings
// as a source.
func (v *VHost) DeleteExchange(name string, ifUnused bool) (gone []*Exchange, err *wire.Error) {
	name = CleanName(name)
	if name == "" {
		return nil, defaultExchangeRefused()
	}
	if strings.HasPrefix(name, systemPrefix) {
		return nil, wire.ChannelError(wire.AccessRefused, "deletion of system %s not allowed", v.describeExchange(name))
	}
	x := v.exchanges[name]
	if x == nil {
		return nil, nil
	}
	if ifUnused && x.out.n > 0 {
		return nil, precondition(v.describeExchange(name) + " in use")
	}
	return v.dropExchange(nil, x), nil
}

// dropExchange removes x with all its bindings, and whatever auto-delete
// exchanges that leaves without bindings. It appends all of them to gone.
func (v *VHost) dropExchange(gone []*Exchange, x *Exchange) []*Exchange {
	gone = append(gone, x)
	v.removeExchange(x)
	// An auto-delete exchange that goes takes the bindings with it that lead to
	// it, which may be the last ones of the next: a worklist, not recursion,
	// since clients can chain exchanges at will.
	for i := len(gone) - 1; i < len(gone); i++ {
		gone = v.dropIncoming(gone, &gone[i].in)
	}
	return gone
}

// removeExchange takes x out of the vhost, with the bindings it is the source of.
func (v *VHost) removeExchange(x *Exchange) {
	for x.out.first != nil {
		v.unlink(x.out.first)
	}
	delete(v.exchanges, x.Name)
	delete(v.exchangesByID, x.ID)
	v.epoch++
}

// dropIncoming removes all bindings in a destination's list, and the auto-delete
// exchanges for which one was the last, which it appends to gone. The caller
// goes on with those.
func (v *VHost) dropIncoming(gone []*Exchange, in *bindingList) []*Exchange {
	for in.first != nil {
		source := in.first.source
		v.unlink(in.first)
		if source.AutoDelete && source.out.n == 0 && !v.rebuilding && v.exchanges[source.Name] == source {
			v.removeExchange(source)
			gone = append(gone, source)
		}
	}
	return gone
}

// Predeclared tells whether every vhost has an exchange of that name from the
// start. No client can declare or delete one.
func Predeclared(name string) bool { return name == "" || strings.HasPrefix(name, "amq.") }
