package reliable

import (
	"fmt"
	"maps"
	"math/bits"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The delay network: one level per power of two, each a queue whose time to live
// is its delay, and a topic exchange that decides by one bit of the routing key
// whether a message waits in the level or passes it. A message enters at the
// highest bit of its delay and leaves to the queue at the end of its key, having
// waited in one queue per bit that is set. All work queues of a vhost share it.
//
// The names carry version and unit, because a queue's arguments cannot be changed.
const (
	delayLevels = 20
	delayUnit   = 250 * time.Millisecond

	networkVersion = "wrn.v1"
	// defaultDeliveryLimit is RabbitMQ's from 4.0 on, for all servers.
	defaultDeliveryLimit = 20
)

// MaxDelay is the longest delay of a retry or of a delayed publish, 72.8 hours.
const MaxDelay = (1<<delayLevels - 1) * delayUnit

// DelayUnit is what delays are rounded up to.
const DelayUnit = delayUnit

// network names what work queues of one type share.
type network struct {
	prefix string
	kind   QueueType // Quorum or Classic
}

// networkIn is the network of a namespace, which may be empty.
func networkIn(namespace string, t QueueType) network {
	prefix := networkVersion
	if t == Classic { // another network: the arguments differ
		prefix += "c"
	}
	if namespace != "" {
		prefix = namespace + "." + prefix
	}
	return network{prefix, t}
}

// networkOf is the network of a client's queues of one type.
func (c *Client) networkOf(t QueueType) network { return networkIn(c.config.Namespace, t) }

// inNetwork says that an exchange or a queue belongs to a network, of any namespace.
func inNetwork(name string) bool {
	return strings.HasPrefix(name, networkVersion) || strings.Contains(name, "."+networkVersion)
}

// lost is where messages go whose queue is gone.
func (n network) lost() string { return n.prefix + ".lost" }

// dlx is the exchange for dead letters.
func (n network) dlx() string { return n.prefix + ".dlx" }

// delays is what the names of levels begin with.
func (n network) delays() string { return fmt.Sprintf("%s.d%d", n.prefix, delayUnit.Milliseconds()) }

func (n network) level(i int) string { return fmt.Sprintf("%s.L%02d", n.delays(), i) }
func (n network) out() string        { return n.delays() + ".out" }

// below is where a message goes after level i.
func (n network) below(i int) string {
	if i == 0 {
		return n.out()
	}
	return n.level(i - 1)
}

// route is where to publish a message that queue is to get after d. A delay below
// half a unit is none: then it is the default exchange and the queue's name.
func (n network) route(d time.Duration, queue string) (exchange, key string) {
	units := delayUnits(d)
	if units == 0 {
		return "", queue
	}
	var b strings.Builder
	b.Grow(2*delayLevels + len(queue))
	for i := delayLevels - 1; i >= 0; i-- {
		b.WriteByte('0' + byte(units>>i&1))
		b.WriteByte('.')
	}
	b.WriteString(queue)
	return n.level(bits.Len64(units) - 1), b.String()
}

// delayUnits is d in units, rounded up, so that no message comes early.
func delayUnits(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	d = min(d, MaxDelay)
	return uint64((d + delayUnit - 1) / delayUnit)
}

// atLeastOnce adds to args what makes a quorum queue keep a dead letter until its
// new queue has confirmed it.
func atLeastOnce(t QueueType, args amqp.Table) amqp.Table {
	if t == Quorum {
		args["x-queue-type"] = "quorum"
		args["x-dead-letter-strategy"] = "at-least-once"
	}
	args["x-overflow"] = "reject-publish"
	return args
}

// keepForever is the arguments of a queue whose messages people look at: no
// delivery limit, or looking would destroy them.
func keepForever(t QueueType, s server) amqp.Table {
	args := amqp.Table{}
	if t == Quorum {
		args["x-queue-type"] = "quorum"
		if s.unlimitedArgument() {
			args["x-delivery-limit"] = int64(-1)
		}
	}
	return args
}

// base is what every work queue needs: the exchange for dead letters, and the
// place for messages whose queue is gone, which would otherwise freeze a level.
func (n network) base(s server) (topo Topology) {
	topo.exchange(n.lost(), amqp.ExchangeFanout, nil)
	topo.queue(n.lost(), keepForever(n.kind, s))
	topo.bindQueue(n.lost(), "", n.lost(), nil)
	topo.exchange(n.dlx(), amqp.ExchangeDirect, amqp.Table{"alternate-exchange": n.lost()})
	return topo
}

// topology is the whole network, lowest level first, so that a level never leads
// to an exchange that does not exist.
func (n network) topology() (topo Topology) {
	topo.exchange(n.out(), amqp.ExchangeTopic, amqp.Table{"alternate-exchange": n.lost()})
	for i := range delayLevels {
		name := n.level(i)
		topo.exchange(name, amqp.ExchangeTopic, nil)
		topo.queue(name, atLeastOnce(n.kind, amqp.Table{
			"x-message-ttl":          (delayUnit << i).Milliseconds(),
			"x-dead-letter-exchange": n.below(i),
		}))
		skip := strings.Repeat("*.", delayLevels-1-i)
		topo.bindQueue(name, skip+"1.#", name, nil)
		topo.bindExchange(name, skip+"0.#", n.below(i))
	}
	return topo
}

// topology is what q needs besides base and network: itself, its dead-letter
// queue and their bindings. An Existing queue is not declared itself.
func (q Queue) topology(n network, s server) (topo Topology) {
	topo.queue(q.DeadLetterQueue(), keepForever(n.kind, s))
	topo.bindQueue(n.dlx(), q.Name, q.DeadLetterQueue(), nil)
	if !q.Existing {
		args := atLeastOnce(n.kind, amqp.Table{"x-dead-letter-exchange": n.dlx(), "x-dead-letter-routing-key": q.Name})
		if n.kind == Quorum {
			switch limit := q.DeliveryLimit; {
			case limit == 0:
				args["x-delivery-limit"] = int64(defaultDeliveryLimit)
			case limit > 0:
				args["x-delivery-limit"] = int64(limit)
			case s.unlimitedArgument():
				args["x-delivery-limit"] = int64(-1)
			}
		}
		maps.Copy(args, q.Arguments)
		topo.queue(q.Name, args)
	}
	for _, b := range q.Bind {
		if b.Exchange.Kind != "" {
			topo.exchange(b.Exchange.Name, b.Exchange.Kind, b.Exchange.Arguments)
		}
		topo.bindQueue(b.Exchange.Name, b.Key, q.Name, b.Arguments)
	}
	topo.bindQueue(n.out(), strings.Repeat("*.", delayLevels)+q.Name, q.Name, nil)
	return topo
}
