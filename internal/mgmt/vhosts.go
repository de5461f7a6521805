package mgmt

import (
	"strings"

	"github.com/warrenmq/warren/internal/core/status"
)

func (q *request) listVHosts() error {
	names := q.visible()
	if q.caller.monitors() {
		names = q.api.Topology.VHosts()
	}
	return list[string]{
		things: names, paging: true, name: func(s string) string { return s }, before: strings.Compare,
		row: func(name string) object {
			s := q.api.Sums.VHostStatus(name)
			return q.vhostRow(&s)
		},
	}.send(q)
}

func (q *request) getVHost() error {
	name, err := q.vhost(0)
	if err != nil {
		return err
	}
	s := q.api.Sums.VHostStatus(name)
	return q.reply(q.vhostRow(&s))
}

func vhostMetadata(name string) object {
	return object{{"description", vhostDescription(name)}, {"tags", []any{}}, {"default_queue_type", "classic"}}
}

func vhostDescription(name string) string {
	if name == "/" {
		return "Default virtual host"
	}
	return ""
}

func (q *request) vhostRow(s *status.VHost) object {
	o := object{
		{"name", s.Name}, {"description", vhostDescription(s.Name)}, {"tags", []any{}}, {"default_queue_type", "classic"},
		{"metadata", vhostMetadata(s.Name)}, {"protected_from_deletion", false}, {"tracing", false},
		{"cluster_state", object{{q.api.NodeName, "running"}}},
	}
	if s.Queues > 0 {
		o = queueTotals(o, s.Ready, s.Unacked, s.ReadyRate, s.UnackedRate)
	}
	if s.ReadBytes > 0 {
		o = counted(o, "recv_oct", s.ReadBytes, s.ReadBytesRate)
		o = counted(o, "send_oct", s.WrittenBytes, s.WrittenBytesRate)
	}
	stats := messageStats(&s.Counts, &s.Rates, publishKinds())
	if len(stats) > 0 { // RabbitMQ has all of it here or nothing
		stats = appendKinds(object{}, &s.Counts, &s.Rates, append(publishKinds(), deliverKinds()...))
		stats = counted(stats, "deliver_get", s.Counts.DeliverGet(), s.Rates.DeliverGet())
	}
	return withStats(o, stats)
}
