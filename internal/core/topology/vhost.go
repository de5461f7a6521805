package topology

import (
	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// VHost is the topology of one virtual host. Make it with NewVHost.
type VHost struct {
	name           string
	epoch          uint64
	lastExchangeID uint64

	exchanges     map[string]*Exchange
	exchangesByID map[uint64]*Exchange
	queues        map[string]*Queue
	queuesByID    map[uint64]*Queue
	owned         map[uint64]map[uint64]*Queue // connection id -> its exclusive queues by id
	bindings      map[bindingID]*binding
	rebuilding    bool
}

// NewVHost makes a vhost with the exchanges that RabbitMQ predeclares.
func NewVHost(name string) *VHost {
	v := &VHost{
		name:          name,
		exchanges:     make(map[string]*Exchange),
		exchangesByID: make(map[uint64]*Exchange),
		queues:        make(map[string]*Queue),
		queuesByID:    make(map[uint64]*Queue),
		owned:         make(map[uint64]map[uint64]*Queue),
		bindings:      make(map[bindingID]*binding),
	}
	for _, x := range []Exchange{
		{Name: "", Type: exchange.Direct},
		{Name: "amq.direct", Type: exchange.Direct},
		{Name: "amq.fanout", Type: exchange.Fanout},
		{Name: "amq.topic", Type: exchange.Topic},
		{Name: "amq.headers", Type: exchange.Headers},
		{Name: "amq.match", Type: exchange.Headers},
		{Name: "amq.rabbitmq.trace", Type: exchange.Topic, Internal: true},
	} {
		x.Durable = true
		v.addExchange(&x)
	}
	return v
}

// Rebuild says whether the topology is being read back from a log. No exchange
// deletes itself then: that it did so is in the log, and the bindings that kept
// it from doing so may not be, because they led to what does not survive.
func (v *VHost) Rebuild(on bool) { v.rebuilding = on }

// Name is the vhost's name.
func (v *VHost) Name() string { return v.name }

// Epoch grows at every change that can alter the result of Route. A result
// cached under one epoch holds as long as Epoch stays the same.
func (v *VHost) Epoch() uint64 { return v.epoch }

// Exchange returns the exchange of that name, nil if there is none. The default
// exchange has the empty name.
func (v *VHost) Exchange(name string) *Exchange { return v.exchanges[name] }

// Queue returns the queue of that name, nil if there is none.
func (v *VHost) Queue(name string) *Queue { return v.queues[name] }

// QueueByID returns the queue with that id, nil if it is gone.
func (v *VHost) QueueByID(id uint64) *Queue { return v.queuesByID[id] }

// FindQueue returns the queue of exactly that name, or 404.
func (v *VHost) FindQueue(name string) (*Queue, *wire.Error) {
	if q := v.queues[name]; q != nil {
		return q, nil
	}
	return nil, v.NoQueue(name)
}

// FindExchange returns the exchange of exactly that name, or 404.
func (v *VHost) FindExchange(name string) (*Exchange, *wire.Error) {
	if x := v.exchanges[name]; x != nil {
		return x, nil
	}
	return nil, v.NoExchange(name)
}

// QueueCount is the number of queues.
func (v *VHost) QueueCount() int { return len(v.queues) }

// ExchangeCount is the number of exchanges, the predeclared ones included.
func (v *VHost) ExchangeCount() int { return len(v.exchanges) }

// BindingCount is the number of bindings, the default exchange's not included.
func (v *VHost) BindingCount() int { return len(v.bindings) }

// addExchange gives x an id and a table and puts it in.
func (v *VHost) addExchange(x *Exchange) {
	v.lastExchangeID++
	x.ID = v.lastExchangeID
	x.table = exchange.New(x.Type)
	x.in.incoming = true
	v.exchanges[x.Name] = x
	v.exchangesByID[x.ID] = x
	v.epoch++
}
