package mgmt

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/wire"
)

type vhostBinding struct {
	topology.Binding
	vhost string
}

func (q *request) listBindings() error {
	return q.sendBindings(q.visible(), status.Bindings{FromAll: true, ToAll: true})
}

func (q *request) listVHostBindings() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendBindings([]string{vhost}, status.Bindings{FromAll: true, ToAll: true})
}

// pairBindings are those between one exchange and one queue or exchange.
func pairBindings(kind exchange.DestKind) func(*request) error {
	return func(q *request) error {
		vhost, which, err := q.pair(kind)
		if err != nil {
			return err
		}
		return q.sendBindings([]string{vhost}, which)
	}
}

func (q *request) pair(kind exchange.DestKind) (vhost string, which status.Bindings, err error) {
	vhost, err = q.vhost(0)
	return vhost, status.Bindings{From: exchangeName(q.params[1]), ToKind: kind, To: exchangeOrQueue(kind, q.params[2])}, err
}

func exchangeOrQueue(kind exchange.DestKind, name string) string {
	if kind == exchange.Exchange {
		return exchangeName(name)
	}
	return name
}

// oneBinding is the binding of a pair that has that properties_key.
func oneBinding(kind exchange.DestKind) func(*request) error {
	return func(q *request) error {
		b, err := q.binding(kind)
		if err != nil {
			return err
		}
		return q.reply(bindingRow(b))
	}
}

// binding finds the binding that the path names.
func (q *request) binding(kind exchange.DestKind) (b vhostBinding, err error) {
	vhost, which, err := q.pair(kind)
	if err != nil {
		return b, err
	}
	for _, b := range q.api.Topology.Bindings(vhost, which) {
		// The key is made for paths: it comes as it stands there or unescaped.
		if key := propertiesKey(&b); key == q.params[3] || unescaped(key) == q.params[3] {
			return vhostBinding{b, vhost}, nil
		}
	}
	return b, errNotFound()
}

func unescaped(key string) string {
	s, err := url.QueryUnescape(key)
	if err != nil {
		return key
	}
	return s
}

func (q *request) sendBindings(vhosts []string, which status.Bindings) error {
	var all []vhostBinding
	for _, v := range vhosts {
		for _, b := range q.api.Topology.Bindings(v, which) {
			all = append(all, vhostBinding{b, v})
		}
	}
	return list[vhostBinding]{
		things: all,
		before: func(a, b vhostBinding) int {
			return cmp.Or(strings.Compare(a.vhost, b.vhost), strings.Compare(a.Source, b.Source),
				strings.Compare(a.Dest, b.Dest), cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Key, b.Key))
		},
		row: bindingRow,
	}.send(q)
}

func bindingRow(b vhostBinding) object {
	return object{
		{"source", b.Source}, {"vhost", b.vhost}, {"destination", b.Dest}, {"destination_type", kindText(b.Kind)},
		{"routing_key", b.Key}, {"arguments", table(b.Args)}, {"properties_key", propertiesKey(&b.Binding)},
	}
}

func kindText(k exchange.DestKind) string {
	if k == exchange.Exchange {
		return "exchange"
	}
	return "queue"
}

// propertiesKey is the name of a binding among those of its pair: the routing key,
// escaped, and with arguments a hash of them. RabbitMQ's hash is a function of the
// Erlang virtual machine, so ours is another.
func propertiesKey(b *topology.Binding) string {
	key := strings.ReplaceAll(url.QueryEscape(b.Key), "~", "%7E")
	if len(b.Args) == 0 {
		if key == "" {
			return "~"
		}
		return key
	}
	sum := sha256.Sum256(wire.AppendTable(nil, b.Args))
	return key + "~" + base64.RawURLEncoding.EncodeToString(sum[:4])
}
