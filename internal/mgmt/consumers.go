package mgmt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/core/status"
)

func (q *request) listConsumers() error {
	vhosts := q.visible()
	if q.caller.monitors() {
		vhosts = q.api.Topology.VHosts()
	}
	return q.sendConsumers(vhosts)
}

func (q *request) listVHostConsumers() error {
	if q.caller.monitors() && slices.Contains(q.api.Topology.VHosts(), q.params[0]) {
		return q.sendConsumers(q.params[:1])
	}
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendConsumers([]string{vhost})
}

func (q *request) sendConsumers(vhosts []string) error {
	var all []status.Consumer
	for _, v := range vhosts {
		for _, c := range q.api.Clients.Consumers(v) {
			if q.caller.sees(c.Client) {
				all = append(all, c)
			}
		}
	}
	return list[status.Consumer]{
		things: all,
		before: func(a, b status.Consumer) int {
			return cmp.Or(strings.Compare(a.VHost, b.VHost), strings.Compare(a.Queue, b.Queue))
		},
		row: q.consumerRow,
	}.send(q)
}

func (q *request) consumerRows(list []status.Consumer) []object {
	rows := make([]object, len(list))
	for i := range list {
		rows[i] = q.consumerRow(list[i])
	}
	return rows
}

func (q *request) consumerRow(c status.Consumer) object {
	activity := "up"
	switch {
	case c.Single && c.Active:
		activity = "single_active"
	case c.Single:
		activity = "waiting"
	}
	return object{
		{"consumer_tag", c.Tag}, {"queue", object{{"name", c.Queue}, {"vhost", c.VHost}}},
		{"channel_details", object{
			{"name", fmt.Sprintf("%s (%d)", c.Connection, c.Channel)}, {"number", c.Channel}, {"connection_name", c.Connection},
			{"node", q.api.NodeName}, {"peer_host", c.PeerHost}, {"peer_port", c.PeerPort}, {"user", c.User},
		}},
		{"ack_required", !c.NoAck}, {"exclusive", c.Exclusive}, {"prefetch_count", c.Prefetch}, {"arguments", table(c.Args)},
		{"active", c.Active}, {"activity_status", activity}, {"consumer_timeout", 0}, // none: consumers may take their time
	}
}
