package engine

import (
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// findQueue returns the queue a method names, the channel's last declared one
// for the empty name, if this connection may use it.
func (ch *Channel) findQueue(name string) (*Queue, *wire.Error) {
	name, err := ch.queueName(name)
	if err != nil {
		return nil, err
	}
	vh := ch.conn.vh
	vh.mu.RLock()
	defer vh.mu.RUnlock()
	def, err := vh.top.FindQueue(name)
	if err != nil {
		return nil, err
	}
	if err := vh.top.CheckAccess(def, ch.conn.ID); err != nil {
		return nil, err
	}
	return def.Runtime.(*Queue), nil
}

func (ch *Channel) queueName(name string) (string, *wire.Error) {
	if name != "" {
		return name, nil
	}
	if ch.lastQueue == "" {
		return "", wire.ChannelError(wire.NotFound, "no previously declared queue")
	}
	return ch.lastQueue, nil
}

// Declared is the answer to queue.declare.
type Declared struct {
	Name                string
	Messages, Consumers uint32
}

// DeclareQueue declares a queue or looks for it (queue.declare).
func (ch *Channel) DeclareQueue(m *wire.QueueDeclare) (Declared, *wire.Error) {
	c := ch.conn
	if m.Queue == directReplyTo || strings.HasPrefix(m.Queue, directReplyTo+".") {
		return c.probeReply(m.Queue)
	}
	vh := c.vh
	vh.mu.Lock()
	def, created, err := vh.top.DeclareQueue(topology.DeclareQueue{
		Name: m.Queue, Passive: m.Passive, Durable: m.Durable, Exclusive: m.Exclusive,
		AutoDelete: m.AutoDelete, Args: m.Arguments,
		Owner: c.ID, ID: c.e.lastQueueID.Add(1), GeneratedName: ServerName("amq.gen-"),
	})
	if err != nil {
		vh.mu.Unlock()
		return Declared{}, err
	}
	now := c.e.now()
	if created {
		def.Runtime = c.e.newQueue(vh, def, now)
		if def.Durable {
			c.e.define(queueDefinition(vh, def))
		}
		vh.changed()
		c.e.churn.queuesCreated.Add(1)
	}
	c.e.churn.queuesDeclared.Add(1)
	q := def.Runtime.(*Queue)
	vh.mu.Unlock()
	if def.Durable && !m.Passive {
		if err := c.settled(); err != nil {
			return Declared{}, err
		}
	}
	ch.lastQueue = def.Name
	if !created {
		q.mu.Lock()
		q.m.Touch(now)
		q.mu.Unlock()
	}
	d := Declared{Name: def.Name}
	d.Messages, d.Consumers = q.counts()
	return d, nil
}

// DeleteQueue deletes a queue. onOk is called with the number of ready messages
// it held, before its consumers hear that it is gone. A queue that is not there
// is no error.
func (ch *Channel) DeleteQueue(m *wire.QueueDelete, onOk func(ready uint32)) *wire.Error {
	name, err := ch.queueName(m.Queue)
	if err != nil {
		return err
	}
	c := ch.conn
	vh := c.vh
	w := &c.w
	w.begin(c.e.now())
	vh.mu.Lock()
	def, _ := vh.top.FindQueue(name)
	if def == nil {
		vh.mu.Unlock()
		onOk(0)
		return nil
	}
	q := def.Runtime.(*Queue)
	q.mu.Lock()
	err = vh.top.CheckDelete(def, c.ID, m.IfUnused, m.IfEmpty, q.m.ConsumerCount(), q.m.ReadyCount())
	var ready int
	var gone []*queue.Consumer
	if err == nil {
		ready, gone = c.e.buryQueue(w, vh, q)
	}
	q.mu.Unlock()
	vh.mu.Unlock()
	if err == nil && def.Durable {
		err = c.settled()
	}
	if err == nil {
		onOk(uint32(ready))
	}
	cancelConsumers(gone)
	w.finish()
	return err
}

// deleteQueue deletes a queue whatever its state. The caller finishes w.
func (e *Engine) deleteQueue(w *worker, q *Queue) {
	vh := q.vh
	vh.mu.Lock()
	q.mu.Lock()
	var gone []*queue.Consumer
	if !q.dead {
		_, gone = e.buryQueue(w, vh, q)
	}
	q.mu.Unlock()
	vh.mu.Unlock()
	cancelConsumers(gone)
}

// Purge drops a queue's ready messages and returns how many there were.
func (ch *Channel) Purge(name string) (uint32, *wire.Error) {
	q, err := ch.findQueue(name)
	if err != nil {
		return 0, err
	}
	w := &ch.conn.w
	w.begin(ch.conn.e.now())
	q.mu.Lock()
	n := q.m.Purge(&w.out)
	if q.m.MovingCount() == 0 {
		q.arrived = nil
	}
	w.carry(q)
	q.mu.Unlock()
	w.finish()
	if q.def.Durable {
		if err := ch.conn.settled(); err != nil {
			return 0, err
		}
	}
	return uint32(n), nil
}

// topologyChange runs f under the topology's lock. What f returns as changed
// durably is waited for, so that the client's answer means that it is on the
// disk; so is a change that had been made before and is only confirmed again.
func (ch *Channel) topologyChange(f func(vh *VHost) (durable bool, err *wire.Error)) *wire.Error {
	vh := ch.conn.vh
	vh.mu.Lock()
	durable, err := f(vh)
	vh.changed()
	vh.mu.Unlock()
	if err == nil && durable {
		err = ch.conn.settled()
	}
	return err
}

// DeclareExchange is exchange.declare.
func (ch *Channel) DeclareExchange(m *wire.ExchangeDeclare) *wire.Error {
	return ch.topologyChange(func(vh *VHost) (bool, *wire.Error) {
		x, created, err := vh.top.DeclareExchange(topology.DeclareExchange{
			Name: m.Exchange, Type: m.Type, Passive: m.Passive, Durable: m.Durable,
			AutoDelete: m.AutoDelete, Internal: m.Internal, Args: m.Arguments,
		})
		if err != nil {
			return false, err
		}
		if created && x.Durable {
			ch.conn.e.define(exchangeDefinition(vh, x))
		}
		return x.Durable && !m.Passive, nil
	})
}

// DeleteExchange is exchange.delete.
func (ch *Channel) DeleteExchange(m *wire.ExchangeDelete) *wire.Error {
	return ch.topologyChange(func(vh *VHost) (bool, *wire.Error) {
		gone, err := vh.top.DeleteExchange(m.Exchange, m.IfUnused)
		ch.conn.e.defineExchangesGone(vh, gone)
		return len(gone) > 0, err
	})
}

// bound logs a binding that was made.
func (ch *Channel) bound(vh *VHost, b topology.Binding, added bool) bool {
	durable := durableBinding(vh.top, b)
	if durable && added {
		ch.conn.e.define(bindingDefinition(store.Bound, vh, b))
	}
	return durable
}

// unbound logs a binding that was taken away, with the exchanges that deleted
// themselves because of it.
func (ch *Channel) unbound(vh *VHost, b topology.Binding, wasDurable, removed bool, gone []*topology.Exchange) bool {
	if wasDurable && removed {
		ch.conn.e.define(bindingDefinition(store.Unbound, vh, b))
	}
	ch.conn.e.defineExchangesGone(vh, gone)
	return wasDurable && removed
}

// BindExchange is exchange.bind.
func (ch *Channel) BindExchange(m *wire.ExchangeBind) *wire.Error {
	b := topology.Binding{Source: topology.CleanName(m.Source), Kind: exchange.Exchange,
		Dest: topology.CleanName(m.Destination), Key: m.RoutingKey, Args: m.Arguments}
	return ch.topologyChange(func(vh *VHost) (bool, *wire.Error) {
		added, err := vh.top.BindExchange(m.Destination, m.Source, m.RoutingKey, m.Arguments)
		if err != nil {
			return false, err
		}
		return ch.bound(vh, b, added), nil
	})
}

// UnbindExchange is exchange.unbind.
func (ch *Channel) UnbindExchange(m *wire.ExchangeUnbind) *wire.Error {
	b := topology.Binding{Source: topology.CleanName(m.Source), Kind: exchange.Exchange,
		Dest: topology.CleanName(m.Destination), Key: m.RoutingKey, Args: m.Arguments}
	return ch.topologyChange(func(vh *VHost) (bool, *wire.Error) {
		durable := durableBinding(vh.top, b)
		removed, gone, err := vh.top.UnbindExchange(m.Destination, m.Source, m.RoutingKey, m.Arguments)
		return ch.unbound(vh, b, durable, removed, gone), err
	})
}

// bindingNames resolves the empty queue name to the last declared queue. With
// both names empty the queue's name is the routing key too (specification,
// queue.bind).
func (ch *Channel) bindingNames(name, key string) (string, string, *wire.Error) {
	if name != "" {
		return name, key, nil
	}
	name, err := ch.queueName(name)
	if key == "" {
		key = name
	}
	return name, key, err
}

// BindQueue is queue.bind.
func (ch *Channel) BindQueue(m *wire.QueueBind) *wire.Error {
	name, key, err := ch.bindingNames(m.Queue, m.RoutingKey)
	if err != nil {
		return err
	}
	b := topology.Binding{Source: topology.CleanName(m.Exchange), Kind: exchange.Queue,
		Dest: topology.CleanName(name), Key: key, Args: m.Arguments}
	return ch.topologyChange(func(vh *VHost) (bool, *wire.Error) {
		added, err := vh.top.BindQueue(name, m.Exchange, key, m.Arguments, ch.conn.ID)
		if err != nil {
			return false, err
		}
		return ch.bound(vh, b, added), nil
	})
}

// UnbindQueue is queue.unbind.
func (ch *Channel) UnbindQueue(m *wire.QueueUnbind) *wire.Error {
	name, key, err := ch.bindingNames(m.Queue, m.RoutingKey)
	if err != nil {
		return err
	}
	b := topology.Binding{Source: topology.CleanName(m.Exchange), Kind: exchange.Queue,
		Dest: topology.CleanName(name), Key: key, Args: m.Arguments}
	return ch.topologyChange(func(vh *VHost) (bool, *wire.Error) {
		durable := durableBinding(vh.top, b)
		removed, gone, err := vh.top.UnbindQueue(name, m.Exchange, key, m.Arguments, ch.conn.ID)
		return ch.unbound(vh, b, durable, removed, gone), err
	})
}
