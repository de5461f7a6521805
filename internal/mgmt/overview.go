package mgmt

import (
	"runtime"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/status"
)

func exchangeTypes() []object {
	types := []object{}
	for _, t := range []struct {
		name exchange.Type
		text string
	}{
		{exchange.Direct, "AMQP direct exchange, as per the AMQP specification"},
		{exchange.Fanout, "AMQP fanout exchange, as per the AMQP specification"},
		{exchange.Headers, "AMQP headers exchange, as per the AMQP specification"},
		{exchange.Topic, "AMQP topic exchange, as per the AMQP specification"},
	} {
		types = append(types, object{{"name", string(t.name)}, {"description", t.text}, {"enabled", true}})
	}
	return types
}

func (q *request) overview() error {
	api := q.api
	o := object{
		{"management_version", APIVersion}, {"rates_mode", "basic"}, {"sample_retention_policies", object{
			{"global", []int{}}, {"basic", []int{}}, {"detailed", []int{}}}},
		{"exchange_types", exchangeTypes()}, {"product_name", "WarrenMQ"}, {"product_version", api.Version},
		{"rabbitmq_version", APIVersion}, {"cluster_name", ClusterName}, {"cluster_tags", object{}}, {"node_tags", object{}},
		{"erlang_version", runtime.Version()}, {"erlang_full_version", "no Erlang: " + runtime.Version()},
		{"crypto_lib_version", "Go crypto"}, {"disable_stats", false}, {"default_queue_type", "classic"},
		{"is_op_policy_updating_enabled", false}, {"enable_queue_totals", false}, {"require_definition_json_extension", false},
	}
	s := q.sum()
	publishing := publishKinds()
	o = append(o, member{"message_stats", messageStats(&s.Counts, &s.Rates, publishing)}, member{"churn_rates", churn(api.Sums.NodeStatus().Churn)})
	totals := object{}
	if s.Queues > 0 {
		totals = queueTotals(totals, s.Ready, s.Unacked, s.ReadyRate, s.UnackedRate)
	}
	objects := object{{"channels", s.Channels}, {"connections", s.Connections}, {"exchanges", s.Exchanges}, {"queues", s.Queues}}
	if q.caller.monitors() {
		objects = objects.with("consumers", s.Consumers)
	}
	o = append(o, member{"queue_totals", totals}, member{"object_totals", objects}, member{"statistics_db_event_queue", 0})
	if q.caller.monitors() {
		o = append(o, member{"node", api.NodeName}, member{"listeners", q.listeners()}, member{"contexts", q.contexts(true)})
	}
	return q.reply(o)
}

// sum adds up the virtual hosts that the caller may see.
func (q *request) sum() (sum status.VHost) {
	vhosts := q.visible()
	if q.caller.monitors() {
		vhosts = q.api.Topology.VHosts()
	}
	for _, name := range vhosts {
		sum.Add(q.api.Sums.VHostStatus(name))
	}
	return sum
}

func churn(c status.Churn) object {
	o := object{}
	for _, x := range []struct {
		name string
		n    uint64
	}{
		{"connection_created", c.ConnectionsOpened}, {"connection_closed", c.ConnectionsClosed},
		{"channel_created", c.ChannelsOpened}, {"channel_closed", c.ChannelsClosed},
		{"queue_declared", c.QueuesDeclared}, {"queue_created", c.QueuesCreated}, {"queue_deleted", c.QueuesDeleted},
	} {
		o = counted(o, x.name, x.n, 0)
	}
	return o
}

func (q *request) listeners() []object {
	rows := []object{}
	for _, l := range q.api.Listeners() {
		rows = append(rows, object{
			{"node", q.api.NodeName}, {"protocol", l.Protocol}, {"ip_address", l.Host}, {"port", l.Port},
			{"socket_opts", object{}}, {"tls", false},
		})
	}
	return rows
}

// contexts are the listeners of this API.
func (q *request) contexts(withNode bool) []object {
	rows := []object{}
	for _, l := range q.api.Listeners() {
		if l.Protocol != "http" {
			continue
		}
		o := object{{"description", "WarrenMQ management"}, {"path", "/"}, {"ip", l.Host}, {"port", itoa(l.Port)}}
		if withNode {
			o = append(o, member{"ssl_opts", []any{}}, member{"node", q.api.NodeName})
		}
		rows = append(rows, o)
	}
	return rows
}

func (q *request) whoami() error {
	return q.reply(object{{"name", q.caller.name}, {"tags", q.caller.tags}, {"is_internal_user", true}})
}

func (q *request) clusterName() error { return q.reply(object{{"name", ClusterName}}) }

func (q *request) version() error {
	q.send(200, APIVersion)
	return nil
}

func (q *request) extensions() error { return q.reply([]object{}) }
