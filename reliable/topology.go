package reliable

import (
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// QueueType is the type of the queues that are declared.
type QueueType int

// The types of queues. Auto is Quorum where the server has quorum queues with
// everything that the delivery semantics needs (RabbitMQ from 3.10, WarrenMQ),
// and else Classic, with a warning in the log.
const (
	Auto QueueType = iota
	Quorum
	Classic
)

func (t QueueType) String() string {
	switch t {
	case Quorum:
		return "quorum"
	case Classic:
		return "classic"
	}
	return "auto"
}

// Queue is a work queue: durable, with a dead-letter queue next to it. A program
// that publishes to it and one that consumes from it have to declare the same, so
// keep it in one place.
//
// The dead-letter queue has its name with the suffix ".dlq".
type Queue struct {
	// Name may have at most 215 bytes and no word "*" or "#" between its dots.
	Name string
	// Type is Auto unless set: then that of the Config.
	Type QueueType
	// DeliveryLimit is how often the broker delivers a message of a quorum queue
	// that is not settled, because consumers die of it, before it becomes a dead
	// letter. 0 means 20, a negative value no limit. It does not count retries,
	// which are new messages.
	DeliveryLimit int
	// Bind are bindings to exchanges. A queue gets everything published to its
	// name without one.
	Bind []Bind
	// Arguments are further arguments, such as x-max-length. They may replace
	// those that the package sets.
	Arguments amqp.Table
	// Existing leaves the queue's declaration to somebody else. Its consumer still
	// declares the dead-letter queue, and binds the queue to the delay network; but
	// what the server drops from it (expired, over a limit) is a dead letter only
	// if its own arguments say so.
	Existing bool
}

// Bind is a binding of a Queue.
type Bind struct {
	Exchange  Exchange
	Key       string
	Arguments amqp.Table
}

// Exchange is an exchange that is durable.
type Exchange struct {
	Name string
	// Kind is "direct", "fanout", "topic", "headers" or what else the server
	// offers. Empty means that somebody else declares the exchange.
	Kind      string
	Arguments amqp.Table
}

// DeadLetterQueue is the name of the queue for q's dead letters.
func (q Queue) DeadLetterQueue() string { return q.Name + ".dlq" }

// maxQueueName is what the key of a delay network leaves for a queue's name.
const maxQueueName = maxShortString - 2*delayLevels

// maxShortString is the longest name, key or other short string of AMQP, in bytes.
const maxShortString = 255

func (q Queue) validate() error {
	switch {
	case q.Name == "":
		return fmt.Errorf("reliable: the queue has no name")
	case len(q.Name) > maxQueueName:
		return fmt.Errorf("reliable: the queue's name has %d bytes, at most %d are possible because its delays are encoded in front of it", len(q.Name), maxQueueName)
	case strings.HasPrefix(q.Name, "amq."):
		return fmt.Errorf("reliable: queue %q: names that begin with amq. belong to the server", q.Name)
	}
	for word := range strings.SplitSeq(q.Name, ".") {
		if word == "*" || word == "#" {
			return fmt.Errorf("reliable: queue %q: %q between dots is a wildcard, and would get other queues' delayed messages", q.Name, word)
		}
	}
	return nil
}

// Topology is exchanges, queues and bindings as they are declared, in an order in
// which they can be. Its JSON form is that of a RabbitMQ definitions file.
type Topology struct {
	Exchanges []ExchangeSpec `json:"exchanges"`
	Queues    []QueueSpec    `json:"queues"`
	Bindings  []BindingSpec  `json:"bindings"`
}

// ExchangeSpec is the declaration of a durable exchange.
type ExchangeSpec struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	Durable    bool       `json:"durable"`
	AutoDelete bool       `json:"auto_delete"`
	Internal   bool       `json:"internal"`
	Arguments  amqp.Table `json:"arguments"`
}

// QueueSpec is the declaration of a durable queue.
type QueueSpec struct {
	Name       string     `json:"name"`
	Durable    bool       `json:"durable"`
	AutoDelete bool       `json:"auto_delete"`
	Arguments  amqp.Table `json:"arguments"`
}

// BindingSpec is a binding of a queue or an exchange to an exchange.
type BindingSpec struct {
	Source          string     `json:"source"`
	Destination     string     `json:"destination"`
	DestinationType string     `json:"destination_type"` // "queue" or "exchange"
	RoutingKey      string     `json:"routing_key"`
	Arguments       amqp.Table `json:"arguments"`
}

// Add appends what u declares and t does not.
func (t *Topology) Add(u Topology) {
	for _, e := range u.Exchanges {
		if !slices.ContainsFunc(t.Exchanges, func(have ExchangeSpec) bool { return have.Name == e.Name }) {
			t.Exchanges = append(t.Exchanges, e)
		}
	}
	for _, q := range u.Queues {
		if !slices.ContainsFunc(t.Queues, func(have QueueSpec) bool { return have.Name == q.Name }) {
			t.Queues = append(t.Queues, q)
		}
	}
	for _, b := range u.Bindings {
		if !slices.ContainsFunc(t.Bindings, b.same) {
			t.Bindings = append(t.Bindings, b)
		}
	}
}

func (b BindingSpec) same(c BindingSpec) bool {
	return b.Source == c.Source && b.Destination == c.Destination && b.DestinationType == c.DestinationType &&
		b.RoutingKey == c.RoutingKey && len(b.Arguments) == 0 && len(c.Arguments) == 0
}

func (t *Topology) exchange(name, kind string, args amqp.Table) {
	t.Exchanges = append(t.Exchanges, ExchangeSpec{Name: name, Type: kind, Durable: true, Arguments: args})
}

func (t *Topology) queue(name string, args amqp.Table) {
	t.Queues = append(t.Queues, QueueSpec{Name: name, Durable: true, Arguments: args})
}

func (t *Topology) bindQueue(source, key, queue string, args amqp.Table) {
	t.Bindings = append(t.Bindings, BindingSpec{Source: source, Destination: queue, DestinationType: "queue", RoutingKey: key, Arguments: args})
}

func (t *Topology) bindExchange(source, key, exchange string) {
	t.Bindings = append(t.Bindings, BindingSpec{Source: source, Destination: exchange, DestinationType: "exchange", RoutingKey: key})
}
