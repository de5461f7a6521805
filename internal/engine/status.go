package engine

import (
	"maps"
	"slices"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/core/topology"
)

// What the engine tells about itself. Every method here is safe for concurrent
// use and holds one lock at a time, for as long as it takes to copy pointers or
// one object's numbers; nothing is sorted or formatted under a lock.

// VHosts are the names of the virtual hosts, sorted.
func (e *Engine) VHosts() []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Sorted(maps.Keys(e.vhosts))
}

// Exchanges are the exchanges of a virtual host, in no order.
func (e *Engine) Exchanges(vhost string) []*topology.Exchange {
	vh := e.vhost(vhost)
	if vh == nil {
		return nil
	}
	vh.mu.RLock()
	defer vh.mu.RUnlock()
	return vh.top.AppendExchanges(nil)
}

// Exchange is the exchange of that name, nil if there is none.
func (e *Engine) Exchange(vhost, name string) *topology.Exchange {
	vh := e.vhost(vhost)
	if vh == nil {
		return nil
	}
	vh.mu.RLock()
	defer vh.mu.RUnlock()
	return vh.top.Exchange(name)
}

// Queues are the queues of a virtual host, in no order.
func (e *Engine) Queues(vhost string) []status.Handle[status.Queue] {
	qs := e.queues(vhost)
	handles := make([]status.Handle[status.Queue], len(qs))
	for i, q := range qs {
		handles[i] = q
	}
	return handles
}

func (e *Engine) queues(vhost string) []*Queue {
	vh := e.vhost(vhost)
	if vh == nil {
		return nil
	}
	vh.mu.RLock()
	defs := vh.top.AppendQueues(nil)
	vh.mu.RUnlock()
	qs := make([]*Queue, 0, len(defs))
	for _, d := range defs {
		qs = append(qs, d.Runtime.(*Queue))
	}
	return qs
}

// Queue is the queue of that name, nil if there is none.
func (e *Engine) Queue(vhost, name string) status.Handle[status.Queue] {
	vh := e.vhost(vhost)
	if vh == nil {
		return nil
	}
	vh.mu.RLock()
	defer vh.mu.RUnlock()
	if def := vh.top.Queue(name); def != nil {
		return def.Runtime.(*Queue)
	}
	return nil
}

// Bindings are the bindings that b means, in no order.
func (e *Engine) Bindings(vhost string, b status.Bindings) []topology.Binding {
	vh := e.vhost(vhost)
	if vh == nil {
		return nil
	}
	vh.mu.RLock()
	defer vh.mu.RUnlock()
	if b.ToAll && b.FromAll {
		return vh.top.AppendBindings(nil)
	}
	var list []topology.Binding
	if b.ToAll {
		return vh.top.AppendBindingsFrom(list, b.From)
	}
	list = vh.top.AppendBindingsTo(list, b.ToKind, b.To)
	if !b.FromAll {
		list = slices.DeleteFunc(list, func(x topology.Binding) bool { return x.Source != b.From })
	}
	return list
}

// Name is the queue's name.
func (q *Queue) Name() string { return q.def.Name }

// Status is how the queue is now.
func (q *Queue) Status() status.Queue {
	e := q.vh.e
	now := int64(e.now())
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.numbers()
	if q.meter == nil {
		if s.Ready+s.Unacked == 0 && s.Counts == (status.Counts{}) {
			return s // nothing has ever happened, and nothing is remembered about it
		}
		q.meter = &status.Meter{}
	}
	var values [status.Kinds + 2]int64
	var rates [status.Kinds + 2]float64
	q.meter.Read(now, readings(values[:0], &s.Counts, int64(s.Ready), int64(s.Unacked)), rates[:])
	s.Rates = status.Rates(rates[:status.Kinds])
	s.ReadyRate, s.UnackedRate = rates[status.Kinds], rates[status.Kinds+1]
	return s
}

// numbers is the status but for rates. Called with q.mu held.
func (q *Queue) numbers() status.Queue {
	s := status.Queue{
		Def: q.def, VHost: q.vh.name,
		Ready: q.m.ReadyCount(), Unacked: q.m.UnackedCount(),
		ReadyBytes: q.m.ReadyBytes(), UnackedBytes: q.m.UnackedBytes(),
		Consumers: q.m.ConsumerCount(), Counts: countsOf(q.m.Totals()), Transient: q.m.Totals().Transient,
	}
	s.Delayed, s.DelayedBytes = q.m.DelayedCount(), q.m.DelayedBytes()
	if q.def.Config.AtLeastOnce() {
		s.Dying, s.DyingBytes = q.m.MovingCount(), q.m.MovingBytes()
	} else {
		s.Unacked += q.m.MovingCount()
	}
	for _, qc := range q.m.Consumers() {
		s.Willing = s.Willing || !qc.Blocked()
		if qc.Exclusive {
			s.ExclusiveTag = qc.Gate.(*Consumer).tag
		}
	}
	if a := q.m.Active(); a != nil {
		s.ActiveTag = a.Gate.(*Consumer).tag
	}
	return s
}

func countsOf(t queue.Totals) (c status.Counts) {
	c[status.Publish] = t.Published
	c[status.Deliver], c[status.DeliverNoAck] = t.Delivered, t.DeliveredNoAck
	c[status.Get], c[status.GetNoAck], c[status.GetEmpty] = t.Got, t.GotNoAck, t.GotEmpty
	c[status.Redeliver], c[status.Ack] = t.Redelivered, t.Acked
	return c
}

// readings appends counts and other numbers to v, for a meter.
func readings(v []int64, c *status.Counts, more ...int64) []int64 {
	for _, n := range c {
		v = append(v, int64(n))
	}
	return append(v, more...)
}

// Consumers are the consumers of a virtual host, queue by queue in no order, and
// those of one queue in order of subscription.
func (e *Engine) Consumers(vhost string) []status.Consumer {
	var list []status.Consumer
	for _, q := range e.queues(vhost) {
		list = q.appendConsumers(list)
	}
	return list
}

// QueueConsumers are the consumers of one queue in order of subscription.
func (e *Engine) QueueConsumers(vhost, name string) []status.Consumer {
	q, _ := e.Queue(vhost, name).(*Queue)
	if q == nil {
		return nil
	}
	return q.appendConsumers(nil)
}

func (q *Queue) appendConsumers(list []status.Consumer) []status.Consumer {
	q.mu.Lock()
	defer q.mu.Unlock()
	active := q.m.Active()
	for _, qc := range q.m.Consumers() {
		c := qc.Gate.(*Consumer)
		list = append(list, status.Consumer{
			Client: c.ch.conn.client(), Channel: c.ch.target.Channel, Queue: q.def.Name, Tag: c.tag,
			NoAck: qc.NoAck, Exclusive: qc.Exclusive, Prefetch: int(c.limit), Args: c.args,
			Single: active != nil, Active: active == nil || active == qc,
		})
	}
	return list
}

// VHostStatus sums up a virtual host. It asks every queue in turn. The zero
// VHost is that of a name that does not exist.
func (e *Engine) VHostStatus(name string) status.VHost {
	vh := e.vhost(name)
	if vh == nil {
		return status.VHost{}
	}
	s := status.VHost{Name: name}
	vh.mu.RLock()
	s.Exchanges, s.Bindings = vh.top.ExchangeCount(), vh.top.BindingCount()+vh.top.QueueCount()
	vh.mu.RUnlock()
	for _, q := range e.queues(name) {
		q.mu.Lock()
		s.Queues++
		s.Consumers += q.m.ConsumerCount()
		s.Ready += q.m.ReadyCount()
		s.Unacked += q.m.UnackedCount() + q.m.MovingCount()
		q.mu.Unlock()
	}
	for _, c := range e.listed() {
		if c.vh == vh {
			s.Connections++
			s.Channels += c.channelsOpen()
		}
	}
	s.Counts = vh.totals.counts()
	s.ReadBytes, s.WrittenBytes = vh.traffic.readBytes.Load(), vh.traffic.writtenBytes.Load()
	var rates [status.Kinds + 4]float64
	vh.meter.mu.Lock()
	vh.meter.meter.Read(int64(e.now()),
		readings(nil, &s.Counts, int64(s.Ready), int64(s.Unacked), int64(s.ReadBytes), int64(s.WrittenBytes)), rates[:])
	vh.meter.mu.Unlock()
	s.Rates = status.Rates(rates[:status.Kinds])
	s.ReadyRate, s.UnackedRate = rates[status.Kinds], rates[status.Kinds+1]
	s.ReadBytesRate, s.WrittenBytesRate = rates[status.Kinds+2], rates[status.Kinds+3]
	return s
}

// NodeStatus is how the engine is as a whole.
func (e *Engine) NodeStatus() status.Node {
	n := status.Node{
		Started: e.started, MemoryAlarm: e.alarm.memory.Load(), DiskAlarm: e.alarm.disk.Load(),
		BodyBytes: e.arena.Used(), MemoryLimitBytes: max(e.alarm.limit, 0), Failed: e.Err(),
		Churn: status.Churn{
			ConnectionsOpened: e.churn.connectionsOpened.Load(), ConnectionsClosed: e.churn.connectionsClosed.Load(),
			ChannelsOpened: e.churn.channelsOpened.Load(), ChannelsClosed: e.churn.channelsClosed.Load(),
			QueuesDeclared: e.churn.queuesDeclared.Load(), QueuesCreated: e.churn.queuesCreated.Load(),
			QueuesDeleted: e.churn.queuesDeleted.Load(),
		},
	}
	if e.disk != nil {
		n.Dir, n.DiskFreeLimit = e.dir, e.minFreeDisk
		if free, err := e.disk.Free(); err == nil {
			n.DiskFree = free
		}
	}
	return n
}
