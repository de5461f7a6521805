package mgmt

import (
	"cmp"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/core/topology"
)

// queueHandle has its names at hand, because it is sorted by them.
type queueHandle struct {
	status.Handle[status.Queue]
	vhost, name string
}

func (q *request) listQueues() error         { return q.sendQueues(q.visible(), false) }
func (q *request) listQueuesDetailed() error { return q.sendQueues(q.visible(), true) }

func (q *request) listVHostQueues() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendQueues([]string{vhost}, false)
}

func (q *request) sendQueues(vhosts []string, detailed bool) error {
	var all []queueHandle
	for _, v := range vhosts {
		handles := q.api.Topology.Queues(v)
		all = slices.Grow(all, len(handles))
		for _, h := range handles {
			all = append(all, queueHandle{h, v, h.Name()})
		}
	}
	return list[queueHandle]{
		things: all, paging: true, column: queueColumn, name: func(h queueHandle) string { return h.name },
		before: func(a, b queueHandle) int {
			return cmp.Or(strings.Compare(a.vhost, b.vhost), strings.Compare(a.name, b.name))
		},
		row: func(h queueHandle) object {
			s := h.Status()
			if detailed {
				return q.queueDetail(&s)
			}
			return q.queueListed(&s)
		},
	}.send(q)
}

// queueColumn is what lists of queues are usually sorted by.
func queueColumn(h queueHandle, name string) (any, bool) {
	switch name {
	case "name":
		return h.name, true
	case "vhost":
		return h.vhost, true
	case "messages", "messages_ready", "messages_unacknowledged", "consumers":
	default:
		return nil, false
	}
	s := h.Status()
	switch name {
	case "messages_ready":
		return s.Ready, true
	case "messages_unacknowledged":
		return s.Unacked, true
	case "consumers":
		return s.Consumers, true
	}
	return s.Ready + s.Unacked + s.Dying + s.Delayed, true
}

// queueListed is a queue in a list: members without a value are left out.
func (q *request) queueListed(s *status.Queue) object {
	o := q.queueRow(s)
	if q.list.noStats {
		return o
	}
	if s.ExclusiveTag != "" {
		o = o.with("exclusive_consumer_tag", s.ExclusiveTag)
	}
	if s.ActiveTag != "" {
		o = o.with("single_active_consumer_tag", s.ActiveTag)
	}
	return o
}

// queueRow is what all views of a queue have.
func (q *request) queueRow(s *status.Queue) object {
	d := s.Def
	o := object{
		{"name", d.Name}, {"vhost", s.VHost}, {"type", d.Config.Type.String()}, {"node", q.api.NodeName}, {"state", "running"},
		{"durable", d.Durable}, {"auto_delete", d.AutoDelete}, {"exclusive", d.Exclusive}, {"arguments", table(d.Args)},
		{"internal", false}, {"internal_owner", false}, {"effective_policy_definition", object{}},
	}
	if d.Config.Type == topology.Quorum {
		node := []string{q.api.NodeName} // a group of one
		o = append(o, member{"leader", q.api.NodeName}, member{"members", node}, member{"online", node},
			member{"delivery_limit", d.Config.DeliveryLimit})
	}
	if q.list.noStats {
		o = append(o, member{"policy", nil}, member{"operator_policy", nil})
		if q.list.totalsAnyway {
			o = append(o, member{"messages", s.Ready + s.Unacked + s.Dying + s.Delayed}, member{"messages_ready", s.Ready},
				member{"messages_unacknowledged", s.Unacked})
		}
		return o
	}
	return q.queueNumbers(o, s)
}

// indexBytesPerMessage and queueBytes estimate what a queue uses besides bodies.
const (
	indexBytesPerMessage = 17
	queueBytes           = 2048
)

func (q *request) queueNumbers(o object, s *status.Queue) object {
	capacity := 0.0
	if s.Willing {
		capacity = 1
	}
	o = append(o,
		member{"consumers", s.Consumers}, member{"consumer_capacity", capacity}, member{"consumer_utilisation", capacity},
		member{"memory", queueBytes + indexBytesPerMessage*(s.Ready+s.Unacked)},
		member{"message_bytes", s.ReadyBytes + s.UnackedBytes + s.DyingBytes + s.DelayedBytes}, member{"message_bytes_ready", s.ReadyBytes},
		member{"message_bytes_unacknowledged", s.UnackedBytes},
	)
	o = counted(o, "messages", s.Ready+s.Unacked+s.Dying+s.Delayed, s.ReadyRate+s.UnackedRate)
	o = readyAndUnacked(o, s.Ready, s.Unacked, s.ReadyRate, s.UnackedRate)
	if d := s.Def.Config; d.Type == topology.Quorum {
		o = append(o, member{"messages_dlx", s.Dying}, member{"message_bytes_dlx", s.DyingBytes}, member{"messages_delayed", s.Delayed})
	}
	if s.Def.Durable {
		o = o.with("messages_transient_published", s.Transient)
	}
	return withStats(o, messageStats(&s.Counts, &s.Rates, []status.Kind{status.Publish}))
}

// queueDetail is a queue by itself.
func (q *request) queueDetail(s *status.Queue) object {
	o := q.queueRow(s)
	if q.list.noStats {
		return o
	}
	o = append(o, member{"policy", nil}, member{"operator_policy", nil},
		member{"single_active_consumer_tag", orNull(s.ActiveTag)}, member{"incoming", []any{}}, member{"deliveries", []any{}})
	if s.Def.Config.Type == topology.Classic {
		o = append(o, member{"exclusive_consumer_tag", orNull(s.ExclusiveTag)}, member{"head_message_timestamp", nil})
	}
	if s.Def.Exclusive && q.list.columns.wants("owner_pid_details") {
		if c := q.connectionByID(s.Def.Owner); c != nil {
			o = o.with("owner_pid_details", connectionDetails(c))
		}
	}
	if q.list.columns.wants("consumer_details") {
		o = o.with("consumer_details", q.consumerRows(q.api.Lookup.QueueConsumers(s.VHost, s.Def.Name)))
	}
	return o
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// queue is the queue that parameters 0 and 1 name.
func (q *request) queue() (status.Handle[status.Queue], error) {
	vhost, err := q.vhost(0)
	if err != nil {
		return nil, err
	}
	h := q.api.Lookup.Queue(vhost, q.params[1])
	if h == nil {
		return nil, errNotFound()
	}
	return h, nil
}

func (q *request) getQueue() error {
	h, err := q.queue()
	if err != nil {
		return err
	}
	s := h.Status()
	return q.reply(q.queueDetail(&s))
}

func (q *request) queueBindings() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendBindings([]string{vhost}, status.Bindings{To: q.params[1], ToKind: exchange.Queue, FromAll: true})
}
