package mgmt

import (
	"cmp"
	"strings"

	"github.com/warrenmq/warren/internal/core/status"
)

// channelHandle has its name made once: it is asked for often.
type channelHandle struct {
	status.ClientHandle[status.Channel]
	name string
}

func (q *request) sendChannels(keep func(status.Client) bool) error {
	var seen []channelHandle
	for _, h := range q.api.Clients.Channels() {
		if c := h.Client(); q.caller.sees(c) && keep(c) {
			seen = append(seen, channelHandle{h, h.Name()})
		}
	}
	return list[channelHandle]{
		things: seen, paging: true, name: func(h channelHandle) string { return h.name },
		before: func(a, b channelHandle) int {
			// Channel 10 of a connection comes after its channel 9.
			return cmp.Or(strings.Compare(a.Client().Connection, b.Client().Connection),
				cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
		},
		row: func(h channelHandle) object {
			s := h.Status()
			return q.channelRow(h.name, &s)
		},
	}.send(q)
}

func (q *request) listChannels() error {
	return q.sendChannels(func(status.Client) bool { return true })
}

func (q *request) listVHostChannels() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendChannels(func(c status.Client) bool { return c.VHost == vhost })
}

func (q *request) listConnectionChannels() error {
	h, err := q.connection()
	if err != nil {
		return err
	}
	id := h.Client().ID
	return q.sendChannels(func(c status.Client) bool { return c.ID == id })
}

func (q *request) getChannel() error {
	for _, h := range q.api.Clients.Channels() {
		if h.Name() != q.params[0] {
			continue
		}
		if !q.caller.sees(h.Client()) {
			return notAuthorised("User not authorised to access object")
		}
		s := h.Status()
		o := q.channelRow(h.Name(), &s)
		o = append(o, member{"deliveries", []any{}}, member{"publishes", []any{}})
		if q.list.columns.wants("consumer_details") {
			o = o.with("consumer_details", q.channelConsumers(&s))
		}
		return q.reply(o)
	}
	return errNotFound()
}

// channelConsumers are the consumers of one channel, found among those of its
// virtual host.
func (q *request) channelConsumers(s *status.Channel) []object {
	own := []status.Consumer{}
	for _, c := range q.api.Clients.Consumers(s.VHost) {
		if c.ID == s.ID && c.Channel == s.Number {
			own = append(own, c)
		}
	}
	return q.consumerRows(own)
}

func (q *request) channelRow(name string, s *status.Channel) object {
	o := object{
		{"name", name}, {"number", s.Number}, {"node", q.api.NodeName}, {"vhost", s.VHost}, {"user", s.User},
		{"user_who_performed_action", s.User}, {"state", "running"}, {"connection_details", connectionDetails(&s.Client)},
		{"confirm", s.Confirming}, {"transactional", s.Tx}, {"consumer_count", s.Consumers},
		{"messages_unacknowledged", s.Unacked}, {"messages_unconfirmed", s.Unconfirmed},
		{"messages_uncommitted", 0}, {"acks_uncommitted", 0},
		{"prefetch_count", s.Prefetch}, {"global_prefetch_count", s.GlobalPrefetch},
	}
	return withStats(o, messageStats(&s.Counts, &s.Rates, publishKinds()))
}
