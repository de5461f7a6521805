package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

// What brokers really show is tested by internal/cli, where the mistakes are
// planted on one. Here is what a broker at hand does not have.

func look(version string, queues ...mgmtclient.Queue) *Look {
	l := &Look{Overview: mgmtclient.Overview{Product: "RabbitMQ", Version: version}, Monitors: true,
		Exchanges: []mgmtclient.Exchange{{VHost: "/", Name: "amq.direct", Type: "direct"}}}
	for _, q := range queues {
		q.VHost, q.Durable = "/", true
		l.Queues = append(l.Queues, q)
	}
	return l
}

func found(r *Report) (list []string) {
	for _, f := range r.Findings {
		list = append(list, f.Check+" "+f.Object)
	}
	return list
}

func TestPoliciesCountAsArguments(t *testing.T) {
	l := look("4.3.1",
		mgmtclient.Queue{Name: "a", Type: "quorum", Policy: mgmtclient.Table{"dead-letter-exchange": "", "dead-letter-routing-key": "dead",
			"dead-letter-strategy": "at-least-once", "overflow": "reject-publish", "delivery-limit": 5.0}},
		mgmtclient.Queue{Name: "dead", Type: "classic"})
	if r := Examine(l, nil, Options{}); len(r.Findings) > 0 {
		t.Errorf("%+v", r.Findings)
	}
}

// TestARetryLadderIsNoDeadEnd: work -> wait (time to live) -> work. What comes back
// from waiting does not make the work queue one for dead letters.
func TestARetryLadderIsNoDeadEnd(t *testing.T) {
	l := look("4.3.1",
		mgmtclient.Queue{Name: "work", Type: "classic", Messages: 1, Ready: 1, Arguments: mgmtclient.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"}},
		mgmtclient.Queue{Name: "wait", Type: "classic", Messages: 1, Ready: 1, Arguments: mgmtclient.Table{"x-message-ttl": 1000.0,
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"}})
	r := Examine(l, nil, Options{})
	if got := found(r); !slices.Contains(got, "no-consumer queue work") {
		t.Errorf("%q", got)
	}
}

func TestConsumerTimeouts(t *testing.T) {
	for _, c := range []struct {
		name     string
		version  string
		consumer mgmtclient.Consumer
		queue    mgmtclient.Queue
		want     string // in Mend, "" for no finding
	}{
		{"the usual one", "3.10.8", mgmtclient.Consumer{}, mgmtclient.Queue{}, "consumer_timeout = 5400000 in rabbitmq.conf"},
		{"as shown", "4.3.1", mgmtclient.Consumer{TimeoutMillis: 600_000}, mgmtclient.Queue{}, `'{"consumer-timeout":5400000`},
		{"shown and long enough", "4.3.1", mgmtclient.Consumer{TimeoutMillis: 6_000_000}, mgmtclient.Queue{}, ""},
		{"by argument", "3.13.1", mgmtclient.Consumer{}, mgmtclient.Queue{Arguments: mgmtclient.Table{"x-consumer-timeout": 6_000_000.0}}, ""},
		{"by policy", "4.1.0", mgmtclient.Consumer{}, mgmtclient.Queue{Policy: mgmtclient.Table{"consumer-timeout": 1000.0}}, `"consumer-timeout":5400000`},
	} {
		q, consumer := c.queue, c.consumer
		q.Name, q.Type = "q", "classic"
		consumer.AckRequired, consumer.Prefetch = true, 10
		consumer.Queue.VHost, consumer.Queue.Name = "/", "q"
		l := look(c.version, q)
		l.Consumers = []mgmtclient.Consumer{consumer}
		r := Examine(l, nil, Options{HandlerTimeout: 45 * time.Minute})
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == ConsumerTimeout })
		if (i >= 0) != (c.want != "") || i >= 0 && !strings.Contains(r.Findings[i].Mend, c.want) {
			t.Errorf("%s: %+v", c.name, r.Findings)
		}
	}
}

func TestMendingCommands(t *testing.T) {
	l := look("3.10.8", mgmtclient.Queue{Name: "it's (new)", Type: "quorum", Arguments: mgmtclient.Table{"x-dead-letter-exchange": ""}})
	r := Examine(l, nil, Options{})
	want := `rabbitmqctl set_policy --vhost / --priority 100 --apply-to queues 'mend-it'\''s (new)' '^it'\''s \(new\)$' '{"delivery-limit":20}'`
	if len(r.Findings) != 1 || r.Findings[0].Mend != want {
		t.Errorf("%+v, want %s", r.Findings, want)
	}
}

func TestWhatIsNotExaminedIsSaid(t *testing.T) {
	l := look("4.3.1")
	l.Monitors = false
	text := Examine(l, nil, Options{}).Text()
	for _, want := range []string{"RabbitMQ 4.3.1: no findings in 0 queues", "not examined: other users' connections", GrowingBacklog, ConsumerTimeout, NoMessageID} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	l.Monitors = true
	if r := Examine(l, l, Options{HandlerTimeout: time.Minute, Sampled: true}); len(r.Unexamined) > 0 {
		t.Errorf("%q", r.Unexamined)
	}
}

func TestWorstFirst(t *testing.T) {
	l := look("4.3.1", mgmtclient.Queue{Name: "b", Type: "classic", Messages: 1, Ready: 1, Transient: 1})
	r := Examine(l, nil, Options{})
	if got := strings.Join(found(r), ", "); got != "transient-messages queue b, no-consumer queue b, no-dead-letter-exchange queue b" {
		t.Error(got)
	}
}

// TestNamesCannotSteerATerminal: a queue's name may be any bytes.
func TestNamesCannotSteerATerminal(t *testing.T) {
	text := Examine(look("4.3.1", mgmtclient.Queue{Name: "a\x1b[2J\nLOSS: b", Type: "classic"}), nil, Options{}).Text()
	if strings.Contains(text, "\x1b") || !strings.Contains(text, `where  queue a\u001b[2J\u000aLOSS: b in virtual host /`) {
		t.Error(text)
	}
}
