package mgmt

import (
	"strings"

	"github.com/warrenmq/warren/internal/core/status"
)

type connectionHandle = status.ClientHandle[status.Connection]

// sees tells whether the caller may see what belongs to a client: all of it with
// the tag monitoring, else what he has opened himself.
func (c *caller) sees(client status.Client) bool { return c.monitors() || client.User == c.name }

// connections are those that the caller may see and that pass a filter.
func (q *request) connections(keep func(status.Client) bool) []connectionHandle {
	var seen []connectionHandle
	for _, h := range q.api.Clients.Connections() {
		if c := h.Client(); q.caller.sees(c) && keep(c) {
			seen = append(seen, h)
		}
	}
	return seen
}

func (q *request) sendConnections(keep func(status.Client) bool) error {
	return list[connectionHandle]{
		things: q.connections(keep), paging: true, name: connectionHandle.Name,
		before: func(a, b connectionHandle) int { return strings.Compare(a.Name(), b.Name()) },
		row: func(h connectionHandle) object {
			s := h.Status()
			return q.connectionRow(&s, nil)
		},
	}.send(q)
}

func (q *request) listConnections() error {
	return q.sendConnections(func(status.Client) bool { return true })
}

func (q *request) listVHostConnections() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendConnections(func(c status.Client) bool { return c.VHost == vhost })
}

func (q *request) listUserConnections() error {
	user := q.params[0]
	if user != q.caller.name && !q.caller.monitors() {
		return notAuthorised("User not authorised to access object")
	}
	return q.sendConnections(func(c status.Client) bool { return c.User == user })
}

func (q *request) getConnection() error {
	h, err := q.connection()
	if err != nil {
		return err
	}
	s := h.Status()
	return q.reply(q.connectionRow(&s, ""))
}

// connection is the connection that parameter 0 names.
func (q *request) connection() (connectionHandle, error) {
	for _, h := range q.api.Clients.Connections() {
		if h.Name() == q.params[0] {
			if !q.caller.sees(h.Client()) {
				return nil, notAuthorised("User not authorised to access object")
			}
			return h, nil
		}
	}
	return nil, errNotFound()
}

func (q *request) connectionByID(id uint64) *status.Client {
	for _, h := range q.api.Clients.Connections() {
		if c := h.Client(); c.ID == id {
			return &c
		}
	}
	return nil
}

// connectionRow is a connection. What it has only with TLS is noTLS: null in a
// list, and empty by itself, as in RabbitMQ.
func (q *request) connectionRow(s *status.Connection, noTLS any) object {
	state := "running"
	if s.Blocked {
		state = "blocked"
	}
	kind := "network"
	if s.PeerPort == 0 {
		kind = "direct"
	}
	o := object{
		{"name", s.Connection}, {"node", q.api.NodeName}, {"vhost", s.VHost}, {"user", s.User}, {"user_who_performed_action", s.User},
		{"state", state}, {"type", kind}, {"protocol", "AMQP 0-9-1"}, {"auth_mechanism", s.Mechanism},
		{"peer_host", s.PeerHost}, {"peer_port", s.PeerPort}, {"host", s.Host}, {"port", s.Port},
		{"client_properties", table(s.Properties)}, {"connected_at", s.Opened.UnixMilli()},
		{"channels", s.Channels}, {"channel_max", s.ChannelMax}, {"frame_max", s.FrameMax}, {"timeout", s.HeartbeatSeconds},
		{"ssl", false}, {"ssl_protocol", noTLS}, {"ssl_cipher", noTLS}, {"ssl_hash", noTLS}, {"ssl_key_exchange", noTLS},
		{"peer_cert_issuer", noTLS}, {"peer_cert_serial_number", noTLS}, {"peer_cert_subject", noTLS}, {"peer_cert_validity", noTLS},
		{"recv_cnt", s.Reads}, {"send_cnt", s.Writes}, {"send_pend", s.PendingBytes},
	}
	if v, ok := s.Properties.Get("connection_name"); ok {
		if name, isString := v.(string); isString {
			o = o.with("user_provided_name", name)
		}
	}
	o = counted(o, "recv_oct", s.ReadBytes, s.ReadRate)
	return counted(o, "send_oct", s.WrittenBytes, s.WriteRate)
}

// connectionDetails is a connection where it is named by something else.
func connectionDetails(c *status.Client) object {
	return object{{"name", c.Connection}, {"peer_host", c.PeerHost}, {"peer_port", c.PeerPort}}
}
