package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/topoplan"
	"github.com/warrenmq/warren/reliable"
)

// shared is what work queues of one type have in common in every virtual host.
type shared struct {
	kind     reliable.QueueType
	topology reliable.Topology
}

// networksFor are the delay networks as the toolkit declares them at a server.
func networksFor(product, version string) (list []shared) {
	for _, kind := range []reliable.QueueType{reliable.Quorum, reliable.Classic} {
		if t, err := reliable.TopologyFor(product, version, kind); err == nil { // it fails for bad names of queues only
			list = append(list, shared{kind, t})
		}
	}
	return list
}

// isLevel: a queue of the network that delays, and not the one for what is lost.
func isLevel(q reliable.QueueSpec) bool { return q.Arguments["x-message-ttl"] != nil }

func (x *examination) findNetworks() {
	x.shared = networksFor(x.Product, x.Version)
	for _, n := range x.shared {
		for _, spec := range n.topology.Queues {
			if isLevel(spec) {
				x.levels[spec.Name] = true
			}
			for _, vhost := range x.vhosts() {
				if p := (Place{vhost, spec.Name}); isLevel(spec) {
					x.network[p] = true
				} else {
					x.lost[p] = true
				}
			}
		}
	}
}

func (x *examination) vhosts() (list []string) {
	for _, e := range x.now.Exchanges { // every virtual host has some
		if !slices.Contains(list, e.VHost) {
			list = append(list, e.VHost)
		}
	}
	for i := range x.now.Queues { // over AMQP exchanges are not seen
		if v := x.now.Queues[i].VHost; !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// networks compares the delay networks that are there with what they should be.
func (x *examination) networks() {
	for _, vhost := range x.vhosts() {
		live := x.live(vhost)
		for _, n := range x.shared {
			x.inspect(vhost, n, live)
		}
	}
}

func (x *examination) inspect(vhost string, n shared, live *topoplan.Live) {
	levels, there := 0, 0
	for _, spec := range n.topology.Queues {
		q := x.queues[Place{vhost, spec.Name}]
		switch {
		case isLevel(spec):
			levels++
			if q != nil {
				there++
			}
		case q != nil && q.Messages > 0:
			x.add(Finding{LostAndFound, Risk, vhost, "queue " + q.Name,
				fmt.Sprintf("%s whose work queue or dead-letter queue was not there", count(q.Messages, "message")),
				"they wait here and nowhere else: retries, delayed messages or dead letters of a queue that somebody has deleted",
				fmt.Sprintf("look at them (warren dlq ls %[1]s), make the queue again (warren topology apply QUEUE) and send them to it (warren dlq redrive %[1]s --from-queue QUEUE), or give them up (warren dlq purge %[1]s --all)", quote(q.Name))})
		}
	}
	if there == 0 {
		return // nobody uses it here
	}
	if n.kind == reliable.Classic {
		x.add(Finding{ClassicNetwork, Risk, vhost, "delay network of classic queues",
			fmt.Sprintf("%d of its %d levels are declared", there, levels),
			"classic queues dead-letter at most once: delayed messages and dead letters can be lost when a node stops",
			"where the server is RabbitMQ 3.10 or newer, or WarrenMQ: leave out reliable.Classic, and delete the levels once they are empty"})
	}
	x.damaged(vhost, n, live)
}

func (x *examination) damaged(vhost string, n shared, live *topoplan.Live) {
	var notes []string
	missing := true
	for _, f := range topoplan.Compare(&n.topology, live) {
		if f.Differs() {
			notes = append(notes, strings.TrimSuffix(fmt.Sprintf("%s %s is %s: %s", f.Kind, f.Name, f.State, f.Note), ": "))
			missing = missing && f.State == topoplan.Missing
		}
	}
	if len(notes) == 0 {
		return
	}
	mend := "warren topology apply QUEUE (with the name of any work queue)"
	if !missing {
		mend = "take away what differs (warren unbind, or warren delete once it is empty), then " + mend
	}
	x.add(Finding{NetworkDamaged, Loss, vhost, "delay network of " + n.kind.String() + " queues", some(notes),
		"delayed messages and retries stop in a level, come too early, or go to the wrong place", mend})
}

// live is one virtual host as topoplan compares it.
func (x *examination) live(vhost string) *topoplan.Live {
	var l topoplan.Live
	for _, e := range x.now.Exchanges {
		if e.VHost == vhost {
			l.Exchanges = append(l.Exchanges, e)
		}
	}
	for _, q := range x.now.Queues {
		if q.VHost == vhost {
			l.Queues = append(l.Queues, q)
		}
	}
	for _, b := range x.now.Bindings {
		if b.VHost == vhost {
			l.Bindings = append(l.Bindings, b)
		}
	}
	return &l
}
