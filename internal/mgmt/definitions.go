package mgmt

import (
	"cmp"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/core/topology"
)

// definitions exports everything that is configured or declared, in the form that
// RabbitMQ imports. What RabbitMQ leaves out is left out: exclusive queues,
// internal exchanges and those that always exist, the default exchange's bindings.
func (q *request) definitions() error {
	vhosts := q.api.Topology.VHosts()
	users, hosts := []object{}, []object{}
	for _, d := range q.users() {
		users = append(users, userRow(d))
	}
	for _, v := range vhosts {
		hosts = append(hosts, object{{"name", v}, {"limits", object{}}, {"metadata", vhostMetadata(v)}})
	}
	o := append(q.definitionsHead(),
		member{"rabbitmq_definition_format", "cluster"}, member{"original_cluster_name", ClusterName},
		member{"explanation", "Definitions of cluster '" + ClusterName + "'"},
		member{"users", users}, member{"vhosts", hosts},
		member{"permissions", q.permissions(q.api.Users.Names(), vhosts)}, member{"topic_permissions", []object{}},
		member{"global_parameters", []object{}},
	)
	return q.reply(q.topologyDefinitions(o, vhosts, true))
}

func (q *request) vhostDefinitions() error {
	name := q.params[0]
	if !slices.Contains(q.api.Topology.VHosts(), name) {
		return badRequest("vhost_not_found")
	}
	o := append(q.definitionsHead(),
		member{"rabbitmq_definition_format", "single_virtual_host"}, member{"original_vhost_name", name},
		member{"explanation", "Definitions of virtual host '" + name + "'"},
		member{"description", vhostDescription(name)}, member{"metadata", vhostMetadata(name)}, member{"limits", object{}},
	)
	return q.reply(q.topologyDefinitions(o, []string{name}, false))
}

func (q *request) definitionsHead() object {
	return object{
		{"rabbit_version", APIVersion}, {"rabbitmq_version", APIVersion}, {"product_name", "WarrenMQ"},
		{"product_version", q.api.Version}, {"parameters", []object{}}, {"policies", []object{}},
	}
}

// topologyDefinitions adds queues, exchanges and bindings, each with its virtual
// host if there may be several.
func (q *request) topologyDefinitions(o object, vhosts []string, several bool) object {
	t := exported{queues: []object{}, exchanges: []object{}, bindings: []object{}}
	for _, v := range vhosts {
		var in object
		if several {
			in = object{{"vhost", v}}
		}
		hidden := t.addQueues(q.api.Topology.Queues(v), in)
		hidden = append(hidden, t.addExchanges(q.api.Topology.Exchanges(v), in)...)
		t.addBindings(q.api.Topology.Bindings(v, status.Bindings{FromAll: true, ToAll: true}), hidden, in)
	}
	return append(o, member{"queues", t.queues}, member{"exchanges", t.exchanges}, member{"bindings", t.bindings})
}

type exported struct{ queues, exchanges, bindings []object }

// addQueues returns the queues that are left out.
func (t *exported) addQueues(handles []status.Handle[status.Queue], in object) (hidden []destination) {
	for _, h := range handles {
		d := h.Status().Def
		if d.Exclusive {
			hidden = append(hidden, destination{exchange.Queue, d.Name})
			continue
		}
		t.queues = append(t.queues, append(object{{"name", d.Name}, {"type", d.Config.Type.String()}, {"durable", d.Durable},
			{"auto_delete", d.AutoDelete}, {"arguments", table(d.Args)}}, in...))
	}
	slices.SortFunc(t.queues, byName)
	return hidden
}

// addExchanges returns the exchanges whose bindings are left out, too.
func (t *exported) addExchanges(all []*topology.Exchange, in object) (hidden []destination) {
	for _, x := range all {
		if x.Internal {
			hidden = append(hidden, destination{exchange.Exchange, x.Name})
		}
		if x.Internal || x.Name == "" || strings.HasPrefix(x.Name, "amq.") {
			continue
		}
		t.exchanges = append(t.exchanges, append(object{{"name", x.Name}, {"type", string(x.Type)}, {"durable", x.Durable},
			{"auto_delete", x.AutoDelete}, {"arguments", table(x.Args)}}, in...))
	}
	slices.SortFunc(t.exchanges, byName)
	return hidden
}

func (t *exported) addBindings(all []topology.Binding, hidden []destination, in object) {
	out := make(map[destination]bool, len(hidden))
	for _, d := range hidden {
		out[d] = true
	}
	for _, b := range all {
		if b.Source == "" || out[destination{b.Kind, b.Dest}] || out[destination{exchange.Exchange, b.Source}] {
			continue
		}
		t.bindings = append(t.bindings, append(object{{"source", b.Source}, {"destination", b.Dest},
			{"destination_type", kindText(b.Kind)}, {"routing_key", b.Key}, {"arguments", table(b.Args)}}, in...))
	}
}

type destination struct {
	kind exchange.DestKind
	name string
}

// byName keeps the order of two exports the same; within one virtual host only
// the name differs.
func byName(a, b object) int {
	return cmp.Or(compare(at(a, []string{"vhost"}), at(b, []string{"vhost"})), compare(at(a, []string{"name"}), at(b, []string{"name"})))
}
