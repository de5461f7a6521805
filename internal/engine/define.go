package engine

import (
	"errors"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// define appends definitions. Called with the vhost's lock held, before anybody
// else can see the change, so that the log has them in the order in which they
// happened.
func (e *Engine) define(defs ...store.Definition) {
	if e.disk != nil && len(defs) > 0 {
		e.disk.Define(defs...)
	}
}

// settled waits until every definition made so far is on the disk: what a
// client is told to be declared, bound or deleted stays so. Called without
// locks.
func (e *Engine) settled() *wire.Error {
	if e.disk == nil {
		return nil
	}
	if err := e.disk.WaitDurable(e.disk.End()); err != nil {
		return wire.ConnectionError(wire.InternalError, "the broker's disk has failed")
	}
	return nil
}

// settled is Engine.settled for a connection's reader.
func (c *Conn) settled() *wire.Error {
	if c.e.disk == nil {
		return nil
	}
	defer c.Out.waits()()
	return c.e.settled()
}

// waitPosition waits until a position is durable.
func (e *Engine) waitPosition(p session.Position) *wire.Error {
	if e.disk == nil || p == 0 {
		return nil
	}
	if err := e.disk.WaitDurable(seglogLSN(p)); err != nil {
		return wire.ConnectionError(wire.InternalError, "the broker's disk has failed")
	}
	return nil
}

func queueDefinition(vh *VHost, q *topology.Queue) store.Definition {
	return store.Definition{Kind: store.QueueDeclared, ID: q.ID, VHost: vh.name, Name: q.Name, AutoDelete: q.AutoDelete, Args: q.Args}
}

func exchangeDefinition(vh *VHost, x *topology.Exchange) store.Definition {
	return store.Definition{Kind: store.ExchangeDeclared, VHost: vh.name, Name: x.Name, Type: string(x.Type),
		AutoDelete: x.AutoDelete, Internal: x.Internal, Args: x.Args}
}

func bindingDefinition(kind store.DefinitionKind, vh *VHost, b topology.Binding) store.Definition {
	return store.Definition{Kind: kind, VHost: vh.name, Source: b.Source, Name: b.Dest, Key: b.Key,
		ToExchange: b.Kind == exchange.Exchange, Args: b.Args}
}

func (e *Engine) defineQueueGone(q *topology.Queue) {
	if q.Durable {
		e.define(store.Definition{Kind: store.QueueDeleted, ID: q.ID})
	}
}

func (e *Engine) defineExchangesGone(vh *VHost, gone []*topology.Exchange) {
	for _, x := range gone {
		if x.Durable {
			e.define(store.Definition{Kind: store.ExchangeDeleted, VHost: vh.name, Name: x.Name})
		}
	}
}

// durableBinding tells whether a binding has to survive: both of its ends do.
func durableBinding(t *topology.VHost, b topology.Binding) bool {
	x := t.Exchange(b.Source)
	if x == nil || !x.Durable {
		return false
	}
	if b.Kind == exchange.Exchange {
		d := t.Exchange(b.Dest)
		return d != nil && d.Durable
	}
	q := t.Queue(b.Dest)
	return q != nil && q.Durable
}

// Define implements store.Restorer.
func (r *restorer) Define(d *store.Definition) error {
	switch d.Kind {
	case store.Counters:
		r.e.lastQueueID.Store(max(r.e.lastQueueID.Load(), d.ID))
		return nil
	case store.QueueDeleted:
		r.deleteQueue(queue.ID(d.ID))
		return nil
	}
	vh := r.e.vhosts[d.VHost]
	if vh == nil {
		return errDefinition(d, errors.New("there is no such virtual host in the configuration: add it, or the data of its queues cannot be kept"))
	}
	var err *wire.Error
	switch d.Kind {
	case store.QueueDeclared:
		err = r.declareQueue(vh, d)
	case store.ExchangeDeclared:
		_, _, err = vh.top.DeclareExchange(topology.DeclareExchange{
			Name: d.Name, Type: d.Type, Durable: true, AutoDelete: d.AutoDelete, Internal: d.Internal, Args: d.Args})
	case store.ExchangeDeleted:
		_, err = vh.top.DeleteExchange(d.Name, false)
	case store.Bound:
		err = r.bind(vh, d)
	case store.Unbound:
		if d.ToExchange {
			vh.top.UnbindExchange(d.Name, d.Source, d.Key, d.Args)
		} else {
			vh.top.UnbindQueue(d.Name, d.Source, d.Key, d.Args, 0)
		}
	}
	if err != nil {
		return errDefinition(d, err)
	}
	return nil
}

func (r *restorer) declareQueue(vh *VHost, d *store.Definition) *wire.Error {
	if r.seen(queue.ID(d.ID)) != nil {
		return nil // a snapshot repeats what is known
	}
	req := topology.DeclareQueue{Name: d.Name, Durable: true, AutoDelete: d.AutoDelete, Args: d.Args, ID: d.ID}
	if strings.HasPrefix(d.Name, "amq.") { // the broker has named it
		req.Name, req.GeneratedName = "", d.Name
	}
	def, _, err := vh.top.DeclareQueue(req)
	if err != nil {
		return err
	}
	q := r.e.newQueue(vh, def, r.now)
	def.Runtime = q
	r.queues[q.id] = q
	return nil
}

func (r *restorer) deleteQueue(id queue.ID) {
	q := r.seen(id)
	if q == nil {
		return
	}
	delete(r.queues, id)
	q.vh.top.DeleteQueue(q.def.Name)
	q.dead = true
	var out queue.Output
	q.mu.Lock()
	q.dead = true
	r.e.timers.disarm(q) // it would delete another queue of that name, when its time is over
	q.m.Close(&out)
	q.mu.Unlock()
	for _, e := range out.Released {
		r.disk.Release(store.Ref(e.Ref), 1)
	}
	for _, c := range out.Cold {
		r.disk.ReleasePage(c)
	}
}

// bind restores a binding. One of its ends may be gone in what a snapshot
// repeats out of order; it is not in the way then.
func (r *restorer) bind(vh *VHost, d *store.Definition) *wire.Error {
	var err *wire.Error
	if d.ToExchange {
		_, err = vh.top.BindExchange(d.Name, d.Source, d.Key, d.Args)
	} else {
		_, err = vh.top.BindQueue(d.Name, d.Source, d.Key, d.Args, 0)
	}
	if err != nil && err.Code == wire.NotFound {
		return nil
	}
	return err
}
