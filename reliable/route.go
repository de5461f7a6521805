package reliable

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Route is where a publisher publishes to. Make it with ToQueue or ToExchange.
type Route struct {
	exchange Exchange
	key      string
	queue    *Queue // set by ToQueue
}

// ToQueue leads to one queue, which is declared with its dead-letter queue.
func ToQueue(q Queue) Route { return Route{key: q.Name, queue: &q} }

// ToExchange leads to an exchange, which is declared unless its Kind is empty. The
// key is that of messages that have no other (Key, KeyFunc). That no queue is
// bound is ErrUnroutable.
func ToExchange(e Exchange, key string) Route { return Route{exchange: e, key: key} }

func (r Route) String() string {
	if r.queue != nil {
		return fmt.Sprintf("queue %q", r.queue.Name)
	}
	return fmt.Sprintf("exchange %q", r.exchange.Name)
}

func (r Route) validate() error {
	switch {
	case r.queue != nil:
		return r.queue.validate()
	case r.exchange.Name == "":
		return fmt.Errorf("reliable: ToExchange wants the name of an exchange; for the default exchange use ToQueue")
	case len(r.exchange.Name) > maxShortString:
		return fmt.Errorf("reliable: the exchange's name has %d bytes, at most %d are possible", len(r.exchange.Name), maxShortString)
	}
	return nil
}

// topology is what has to be there before the first message.
func (r Route) topology(c *Client) (t Topology) {
	if q := r.queue; q != nil {
		n := c.networkOf(c.typeOf(q.Type))
		t.Add(n.base(c.server))
		if !q.Existing {
			// Only a consumer needs the network, or a delayed message.
			own := q.topology(n, c.server)
			own.Bindings = own.Bindings[:len(own.Bindings)-1]
			t.Add(own)
		}
		return t
	}
	if r.exchange.Kind != "" {
		t.exchange(r.exchange.Name, r.exchange.Kind, r.exchange.Arguments)
	}
	return t
}

// outgoing is a message that options may change before it is published.
type outgoing struct {
	message amqp.Publishing
	key     string
	hasKey  bool
	delay   time.Duration
	at      time.Time
}

// PublishOption is about one message.
type PublishOption func(*outgoing)

// ID sets the message id. Who publishes the same thing again has to use the same
// id, so that consumers can tell. At most 255 bytes.
func ID(id string) PublishOption { return func(o *outgoing) { o.message.MessageId = id } }

// Key sets the routing key of a message that goes to an exchange. At most 255
// bytes.
func Key(key string) PublishOption { return func(o *outgoing) { o.key, o.hasKey = key, true } }

// Header adds a header. Values may have the types of amqp.Table. Names that begin
// with "wrn-" belong to this package, those with "x-" to the server.
func Header(name string, value any) PublishOption {
	return func(o *outgoing) {
		if o.message.Headers == nil {
			o.message.Headers = amqp.Table{}
		}
		o.message.Headers[name] = value
	}
}

// Type sets the message's type, by which a Mux chooses the handler. Unless set it
// is the name of the Go type.
func Type(name string) PublishOption { return func(o *outgoing) { o.message.Type = name } }

// Priority sets the priority, 0 to 9, for queues declared with x-max-priority.
func Priority(n uint8) PublishOption { return func(o *outgoing) { o.message.Priority = n } }

// CorrelationID sets the correlation id. At most 255 bytes.
func CorrelationID(id string) PublishOption {
	return func(o *outgoing) { o.message.CorrelationId = id }
}

// After has the message delivered after d, at most MaxDelay: it waits in the delay
// network of the broker. d is rounded up to DelayUnit. It is for ToQueue only.
func After(d time.Duration) PublishOption { return func(o *outgoing) { o.delay = d } }

// At has the message delivered at t; see After. A time that is past means now.
func At(t time.Time) PublishOption { return func(o *outgoing) { o.at = t } }
