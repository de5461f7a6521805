package reliable

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// follow takes a message through the network by its bindings, and returns how long
// it waited and the exchange that it came out of.
func follow(t *testing.T, topo Topology, exchange, key string) (waited time.Duration, out string) {
	t.Helper()
	words := strings.Split(key, ".")
	for range 2 * delayLevels {
		var next, queue string
		for _, b := range topo.Bindings {
			if b.Source != exchange || !topicMatches(strings.Split(b.RoutingKey, "."), words) {
				continue
			}
			if next != "" || queue != "" {
				t.Fatalf("%q goes two ways from %s", key, exchange)
			}
			if b.DestinationType == "queue" {
				queue = b.Destination
			} else {
				next = b.Destination
			}
		}
		for _, q := range topo.Queues {
			if q.Name == queue {
				waited += time.Duration(q.Arguments["x-message-ttl"].(int64)) * time.Millisecond
				next = q.Arguments["x-dead-letter-exchange"].(string)
			}
		}
		if next == "" {
			return waited, exchange
		}
		exchange = next
	}
	t.Fatalf("%q goes round and round", key)
	return 0, ""
}

func topicMatches(pattern, words []string) bool {
	for i, p := range pattern {
		if p == "#" {
			return true // it is last in all patterns
		}
		if i >= len(words) || p != "*" && p != words[i] {
			return false
		}
	}
	return len(pattern) == len(words)
}

func TestNetworkDelays(t *testing.T) {
	n := networkIn("", Quorum)
	topo := n.topology()
	q := Queue{Name: "a.b"}
	topo.Bindings = append(topo.Bindings, q.topology(n, server{product: warrenMQ}).Bindings...)
	check := func(d time.Duration) {
		exchange, key := n.route(d, q.Name)
		if d <= 0 {
			if exchange != "" || key != q.Name {
				t.Errorf("%v goes to %q with %q", d, exchange, key)
			}
			return
		}
		// The last step is into the queue, which is not one of the network's.
		waited, out := follow(t, topo, exchange, key)
		if waited < d || waited >= d+delayUnit || out != n.out() {
			t.Errorf("%v waits %v and leaves by %s", d, waited, out)
		}
	}
	for _, d := range []time.Duration{-1, 0, 1, delayUnit, delayUnit + 1, MaxDelay - 1, MaxDelay} {
		check(d)
	}
	for range 1000 {
		check(rand.N(MaxDelay))
	}
	if exchange, _ := n.route(MaxDelay+time.Hour, "q"); exchange != n.level(delayLevels-1) {
		t.Errorf("a delay that is too long goes to %q", exchange)
	}
}

// A message for a.b must not come to a queue b.
func TestNetworkSuffixes(t *testing.T) {
	n := networkIn("", Quorum)
	_, key := n.route(delayUnit, "a.b")
	bindings := Queue{Name: "b"}.topology(n, server{}).Bindings
	last := bindings[len(bindings)-1]
	if last.Source != n.out() || topicMatches(strings.Split(last.RoutingKey, "."), strings.Split(key, ".")) {
		t.Errorf("binding %q takes %q", last.RoutingKey, key)
	}
	long := strings.Repeat("q", maxQueueName)
	if _, key := n.route(delayUnit, long); len(key) > maxShortString {
		t.Errorf("the key of the longest name has %d bytes", len(key))
	}
}

func TestBackoffs(t *testing.T) {
	e := Exponential(time.Second, time.Minute)
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 7: time.Minute, 1000: time.Minute} {
		for range 100 {
			if d := e(n, nil); d < want*5/8-delayUnit || d > want*3/2+delayUnit {
				t.Fatalf("attempt %d waits %v, about %v expected", n, d, want)
			}
			if bits := delayUnits(e(n, nil)); bits&(bits-1)&((bits&(bits-1))-1) != 0 {
				t.Fatalf("%d units take more than two hops", bits)
			}
		}
	}
	s := Schedule(1, 2)
	if s(1, nil) != 1 || s(2, nil) != 2 || s(9, nil) != 2 || Schedule()(1, nil) != 0 {
		t.Error("a schedule is not followed")
	}
}

func TestServers(t *testing.T) {
	for _, c := range []struct {
		product, version         string
		want                     QueueType
		unlimited, requeueCounts bool
	}{
		{"RabbitMQ", "3.10.8", Quorum, false, true},
		{"RabbitMQ", "3.9.29", Classic, false, true},
		{"RabbitMQ", "4.0.1", Quorum, true, true},
		{"RabbitMQ", "4.3.0-rc.1", Quorum, true, false},
		{"RabbitMQ", "10.0", Quorum, true, false},
		{"WarrenMQ", "(devel)", Quorum, true, true},
		{"Other", "4.3", Classic, false, true},
		{"", "", Classic, false, true},
	} {
		s := serverOf(map[string]any{"product": c.product, "version": c.version})
		if s.queueType() != c.want || s.unlimitedArgument() != c.unlimited || s.requeueCounts() != c.requeueCounts {
			t.Errorf("%s %s: %+v", c.product, c.version, s)
		}
	}
}
