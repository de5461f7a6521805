package reliable

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TopologyFor is what Client.Topology returns at a server that presents itself
// with this product ("RabbitMQ", "WarrenMQ") and version ("4.3.1"), without being
// connected to one, and without a Config.Namespace. t is the type of queues that name none; Auto is what the
// server decides. What the queues share comes first, also without any queue.
func TopologyFor(product, version string, t QueueType, queues ...Queue) (Topology, error) {
	s := serverOf(amqp.Table{"product": product, "version": version})
	if t == Auto {
		t = s.queueType()
	}
	n := networkIn("", t)
	topo := n.base(s)
	topo.Add(n.topology())
	of, err := topologyOf(s, "", t, queues)
	topo.Add(of)
	return topo, err
}

// topologyOf is what the queues need at a server; auto is the type of those that
// name none.
func topologyOf(s server, namespace string, auto QueueType, queues []Queue) (Topology, error) {
	var t Topology
	for _, q := range queues {
		if err := q.validate(); err != nil {
			return t, err
		}
		kind := q.Type
		if kind == Auto {
			kind = auto
		}
		n := networkIn(namespace, kind)
		t.Add(n.base(s))
		t.Add(n.topology())
		t.Add(q.topology(n, s))
	}
	return t, nil
}

// DelayRoute is where a message is published that a queue is to get after d: the
// exchange of the highest level that it waits in, and the routing key that leads
// it through the levels, a digit for each, highest first, and then the queue. t is
// Quorum or Classic. Without a delay it is the default exchange and the queue.
func DelayRoute(t QueueType, d time.Duration, queue string) (exchange, key string) {
	return networkIn("", t).route(d, queue)
}

// JitterRange is what Jitter makes of a delay d: at least the shortest and at most
// the longest, and the middle where chance has no say.
func JitterRange(fraction float64, d time.Duration) (shortest, middle, longest time.Duration) {
	shift := time.Duration(float64(d) * min(max(fraction, 0), 1))
	return min(twoHops(d-shift), MaxDelay), min(twoHops(d), MaxDelay), min(twoHops(d+shift), MaxDelay)
}
