package mgmt

import (
	"cmp"
	"strings"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/core/topology"
)

// defaultExchange is how a path names the exchange without a name.
const defaultExchange = "amq.default"

func exchangeName(segment string) string {
	if segment == defaultExchange {
		return ""
	}
	return segment
}

type vhostExchange struct {
	*topology.Exchange
	vhost string
}

func (q *request) listExchanges() error { return q.sendExchanges(q.visible()) }

func (q *request) listVHostExchanges() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendExchanges([]string{vhost})
}

func (q *request) sendExchanges(vhosts []string) error {
	var all []vhostExchange
	for _, v := range vhosts {
		for _, x := range q.api.Topology.Exchanges(v) {
			all = append(all, vhostExchange{x, v})
		}
	}
	return list[vhostExchange]{
		things: all, paging: true, name: func(x vhostExchange) string { return x.Name },
		before: func(a, b vhostExchange) int {
			return cmp.Or(strings.Compare(a.vhost, b.vhost), strings.Compare(a.Name, b.Name))
		},
		row: exchangeRow,
	}.send(q)
}

func exchangeRow(x vhostExchange) object {
	return object{
		{"name", x.Name}, {"vhost", x.vhost}, {"type", string(x.Type)}, {"durable", x.Durable}, {"auto_delete", x.AutoDelete},
		{"internal", x.Internal}, {"arguments", table(x.Args)},
	}
}

func (q *request) getExchange() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	x := q.api.Topology.Exchange(vhost, exchangeName(q.params[1]))
	if x == nil {
		return errNotFound()
	}
	return q.reply(append(exchangeRow(vhostExchange{x, vhost}), member{"incoming", []any{}}, member{"outgoing", []any{}}))
}

// exchangeSource lists the bindings that an exchange is the source of. An exchange
// that is not there has none, as in RabbitMQ.
func (q *request) exchangeSource() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendBindings([]string{vhost}, status.Bindings{From: exchangeName(q.params[1]), ToAll: true})
}

// exchangeDestination lists the bindings that an exchange is the destination of.
func (q *request) exchangeDestination() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	return q.sendBindings([]string{vhost}, status.Bindings{FromAll: true, To: exchangeName(q.params[1]), ToKind: exchange.Exchange})
}
