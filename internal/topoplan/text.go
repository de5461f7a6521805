package topoplan

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

// Text explains the plan part by part, with every declaration in full.
func (p *Plan) Text(w io.Writer) error {
	t := &text{plan: p}
	t.line("For %s, with %s queues: %d exchanges, %d queues, %d bindings. All are durable.",
		p.Server, p.Type, len(p.Topology.Exchanges), len(p.Topology.Queues), len(p.Topology.Bindings))
	for _, q := range p.Queues {
		t.workQueue(q)
	}
	t.shared()
	t.schedule()
	_, err := io.WriteString(w, t.b.String())
	return err
}

type text struct {
	plan *Plan
	b    strings.Builder
}

func (t *text) line(format string, args ...any) { fmt.Fprintf(&t.b, format+"\n", args...) }

func (t *text) workQueue(q reliable.Queue) {
	t.line("\nWork queue %s", q.Name)
	if t.plan.Type == reliable.Quorum {
		t.line("  Consumers take their messages from it. What the broker itself gives up (delivered too often without")
		t.line("  an answer, expired, over a limit) goes to %s, and stays until it has arrived there", q.DeadLetterQueue())
		t.line("  (at-least-once, which needs reject-publish). A retry is a copy that comes back through the delay network.")
	} else {
		t.line("  Consumers take their messages from it. What the broker itself gives up (expired, over a limit, rejected)")
		t.line("  goes to %s, without a guarantee: classic queues dead-letter at most once, and count no deliveries.", q.DeadLetterQueue())
	}
	t.queue(q.Name)
	t.bindingsTo(q.Name, "queue")
	t.line("\nDead letters of %s", q.Name)
	t.line("  What has failed for good: after the last attempt, at once if permanent, or given up by the broker.")
	t.line("  They stay until somebody takes them out.")
	t.queue(q.DeadLetterQueue())
	t.bindingsTo(q.DeadLetterQueue(), "queue")
}

// shared is what all work queues of the virtual host have in common.
func (t *text) shared() {
	topo := &t.plan.Topology
	for _, e := range topo.Exchanges {
		switch part := part(e.Name); {
		case part == "lost":
			t.line("\nLost and found, for all work queues")
			t.line("  Messages whose queue has been deleted end here instead of nowhere, and instead of stopping a delay level.")
			t.exchange(e)
			t.queue(e.Name)
			t.bindingsTo(e.Name, "queue")
		case part == "dlx":
			t.line("\nExchange for dead letters, for all work queues")
			t.exchange(e)
		case part == "out":
			t.line("\nDelay network, for all work queues")
			t.line("  Level i holds a message for %v x 2^i (x-message-ttl), and passes it on to the next lower level. The", reliable.DelayUnit)
			t.line("  routing key has a digit for each level, highest first: 1 waits in the level, 0 passes it. What leaves the")
			t.line("  last one has the key *.….*.QUEUE, and %s hands it to that queue. No plugin, no message in", e.Name)
			t.line("  front of a longer one, and no further queue for a further delay or work queue.")
			t.exchange(e)
		}
	}
	for _, e := range topo.Exchanges {
		if strings.HasPrefix(part(e.Name), "L") {
			t.exchange(e)
			t.queue(e.Name)
			for _, b := range topo.Bindings {
				if b.Source == e.Name {
					t.binding(b)
				}
			}
		}
	}
}

// part is the last word of a name of the network.
func part(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

func (t *text) exchange(e reliable.ExchangeSpec) {
	t.line("    exchange %s  %s%s", e.Name, e.Type, arguments(e.Arguments))
}

func (t *text) queue(name string) {
	for _, q := range t.plan.Topology.Queues {
		if q.Name == name {
			t.line("    queue    %s%s", q.Name, arguments(q.Arguments))
		}
	}
}

func (t *text) bindingsTo(name, kind string) {
	for _, b := range t.plan.Topology.Bindings {
		if b.Destination == name && b.DestinationType == kind {
			t.binding(b)
		}
	}
}

func (t *text) binding(b reliable.BindingSpec) {
	t.line("    binding  %s -> %s %s  key %q%s", b.Source, b.DestinationType, b.Destination, b.RoutingKey, arguments(b.Arguments))
}

// arguments are a table in the order of its keys, with two blanks in front.
func arguments(table amqp.Table) string {
	var list []string
	for k, v := range table {
		list = append(list, fmt.Sprintf("%s=%v", k, v))
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return "  " + strings.Join(list, " ")
}

// schedule is the way of a message that fails every time.
func (t *text) schedule() {
	p := &t.plan.Policy
	q := t.plan.Queues[0]
	steps := p.Steps(t.plan.Type, q.Name)
	t.line("\nSchedule of a message of %s that fails every time: %d attempts", q.Name, p.Attempts)
	var total time.Duration
	for i := 0; i < len(steps); {
		s, same := steps[i], 1
		for i+same < len(steps) && steps[i+same].Delay == s.Delay && steps[i+same].Min == s.Min {
			same++
		}
		total += s.Delay * time.Duration(same)
		after := fmt.Sprintf("after attempt %d", s.Attempt)
		if same > 1 {
			after = fmt.Sprintf("after attempts %d to %d", s.Attempt, s.Attempt+same-1)
		}
		wait := "no delay"
		if s.Delay > 0 {
			wait = fmt.Sprintf("%v", s.Delay)
			if s.Min != s.Max {
				wait += fmt.Sprintf(" (%v to %v)", s.Min, s.Max)
			}
			wait += ", in " + levelNames(s.Levels)
		}
		t.line("  %s: %s", after, wait)
		t.line("    publish to %s  key %q", orDefault(s.Exchange), s.Key)
		i += same
	}
	t.line("  after attempt %d: to %s; %v after the first, without handling and jitter", p.Attempts, q.DeadLetterQueue(), total)
	t.line("\nIn Go: %s", p.Code())
}

func levelNames(levels []int) string {
	names := make([]string, len(levels))
	for i, n := range levels {
		names[i] = fmt.Sprintf("L%02d", n)
	}
	return strings.Join(names, ", ")
}

func orDefault(exchange string) string {
	if exchange == "" {
		return "the default exchange"
	}
	return exchange
}
