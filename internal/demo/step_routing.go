package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

func routingStep() step {
	return step{
		name:  "routing",
		title: "Routing: the exchange decides which queues get a copy",
		why: "A publisher never writes to a queue. It gives a message with a routing key to " +
			"an exchange; the bindings say which queues get a copy. So publishers need not " +
			"know who listens, and a new listener changes nothing for them.",
		run: runRouting,
	}
}

// topic is the body of this step's messages.
type topic struct {
	Lesson string `json:"lesson"`
}

// routed is one message and the queues that its exchange owes it to.
type routed struct {
	key     string
	headers amqp.Table
	to      []string // short queue names, sorted
}

// routingCase is one exchange with its bindings and messages.
type routingCase struct {
	kind     string
	rule     string
	bindings []routingBinding
	messages []routed
}

type routingBinding struct {
	queue string
	key   string
	args  amqp.Table
}

func (b routingBinding) String() string {
	if b.args != nil {
		return fmt.Sprintf("%s <- type=%v", b.queue, b.args["type"])
	}
	if b.key == "" {
		return b.queue
	}
	return b.queue + " <- " + b.key
}

func routingCases() []routingCase {
	return []routingCase{
		{
			kind: "topic", rule: "keys match patterns, * is one word and # any number",
			bindings: []routingBinding{{"europe", "order.eu.*", nil}, {"billing", "order.*.paid", nil}, {"audit", "order.#", nil}},
			messages: []routed{
				{"order.eu.created", nil, []string{"audit", "europe"}},
				{"order.eu.paid", nil, []string{"audit", "billing", "europe"}},
				{"order.us.paid", nil, []string{"audit", "billing"}},
				{"order.us.refund.partial", nil, []string{"audit"}},
			},
		},
		{
			kind: "direct", rule: "the key must be equal",
			bindings: []routingBinding{{"alarms", "error", nil}, {"logbook", "error", nil}, {"logbook", "info", nil}},
			messages: []routed{
				{"error", nil, []string{"alarms", "logbook"}},
				{"info", nil, []string{"logbook"}},
			},
		},
		{
			kind: "fanout", rule: "every bound queue, whatever the key",
			bindings: []routingBinding{{"cache-a", "", nil}, {"cache-b", "", nil}, {"cache-c", "", nil}},
			messages: []routed{{"price.changed", nil, []string{"cache-a", "cache-b", "cache-c"}}},
		},
		{
			kind: "headers", rule: "headers are compared, the key is ignored",
			bindings: []routingBinding{
				{"reports", "", amqp.Table{"x-match": "all", "type": "report"}},
				{"invoices", "", amqp.Table{"x-match": "all", "type": "invoice"}},
			},
			messages: []routed{{"", amqp.Table{"type": "report"}, []string{"reports"}}},
		},
	}
}

func runRouting(ctx context.Context, s *stage) error {
	p, err := s.connect(ctx)
	if err != nil {
		return err
	}
	messages, copies := 0, 0
	for _, rc := range routingCases() {
		if err := s.playRouting(ctx, p, rc); err != nil {
			return err
		}
		messages += len(rc.messages)
		for _, m := range rc.messages {
			copies += len(m.to)
		}
	}
	got := s.ledger.snapshot().First
	s.check(got == copies, "%d messages must become %d copies; %d arrived", messages, copies, got)
	return nil
}

// playRouting declares one exchange, publishes to it and compares what lies in
// each queue with what the bindings promise.
func (s *stage) playRouting(ctx context.Context, p *program, rc routingCase) error {
	x, err := s.exchange(rc.kind, rc.kind)
	if err != nil {
		return err
	}
	queues, err := s.bindAll(x, rc)
	if err != nil {
		return err
	}
	s.note("exchange", map[string]any{"type": rc.kind, "exchange": x}, "%s: %s", rc.kind, rc.rule)
	out, err := publish[topic](ctx, s, p, reliable.ToExchange(reliable.Exchange{Name: x}, ""))
	if err != nil {
		return err
	}
	for i, m := range rc.messages {
		s.doing = "publishing to " + x
		options := []reliable.PublishOption{reliable.Key(m.key)}
		for name, value := range m.headers {
			options = append(options, reliable.Header(name, value))
		}
		if err := out.publish(ctx, fmt.Sprintf("%s-%d", rc.kind, i+1), topic{"routing"}, len(m.to), options...); err != nil {
			return err
		}
	}
	arrived, err := s.drain(queues)
	if err != nil {
		return err
	}
	for i, m := range rc.messages {
		got := arrived[fmt.Sprintf("%s-%d", rc.kind, i+1)]
		what := m.key
		if m.headers != nil {
			what = fmt.Sprintf("type=%v", m.headers["type"])
		}
		s.note("routed", map[string]any{"type": rc.kind, "key": m.key, "queues": got},
			"  %-24s -> %s", what, strings.Join(got, ", "))
		if !slices.Equal(got, m.to) {
			s.fail("%s %s went to [%s], but its bindings say [%s]", rc.kind, what,
				strings.Join(got, ", "), strings.Join(m.to, ", "))
		}
	}
	return nil
}

// bindAll declares and binds the queues of a case: short name -> full name.
func (s *stage) bindAll(exchange string, rc routingCase) (map[string]string, error) {
	queues := map[string]string{}
	for i, b := range rc.bindings {
		if _, known := queues[b.queue]; !known {
			full, err := s.queue(b.queue)
			if err != nil {
				return nil, err
			}
			queues[b.queue] = full
		}
		key := b.key
		if rc.kind == "topic" && i == 0 {
			switch {
			case s.sabotage.loseBinding:
				continue
			case s.sabotage.leakBinding:
				key = "#"
			}
		}
		if err := s.bind(queues[b.queue], key, exchange, b.args); err != nil {
			return nil, err
		}
	}
	return queues, nil
}

// drain takes everything out of the queues with basic.get, as somebody who looks at
// them from outside: message id -> sorted
// short names of the queues that had it. Every publish is confirmed by now, so
// an empty answer means that nothing more is coming.
func (s *stage) drain(queues map[string]string) (map[string][]string, error) {
	arrived := map[string][]string{}
	for short, full := range queues {
		s.doing = "getting messages from " + full
		for {
			d, ok, err := s.control.ch.Get(full, false)
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			s.ledger.arrived(&reliable.Delivery{Redelivered: d.Redelivered, Attempt: 1})
			arrived[d.MessageId] = append(arrived[d.MessageId], short)
			s.ledger.count(func(t *Tally) { t.Handled++; t.Acked++ })
			if err := d.Ack(false); err != nil {
				return nil, err
			}
		}
	}
	for _, queues := range arrived {
		slices.Sort(queues)
	}
	return arrived, nil
}
