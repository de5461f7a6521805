package topoplan_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/mgmtclient"
	"github.com/warrenmq/warren/internal/topoplan"
	"github.com/warrenmq/warren/reliable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func defaultPolicy() topoplan.Policy {
	return topoplan.Policy{Attempts: 10, Base: time.Second, Factor: 2, Max: time.Hour, Jitter: 0.25}
}

// site is an embedded broker with its management API.
type site struct {
	b   *broker.Broker
	api *mgmtclient.Client
}

func newSite(t *testing.T) *site {
	t.Helper()
	b, err := broker.Open(broker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.ManagementHandler())
	api, err := mgmtclient.New(mgmtclient.Config{URL: server.URL, User: "guest", Password: "guest"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		api.Close()
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.Shutdown(ctx) // an error only says that clients were cut
	})
	return &site{b, api}
}

func (s *site) connect(t *testing.T) *amqp.Connection {
	t.Helper()
	conn, err := amqp.DialConfig("amqp://guest:guest@embedded/", amqp.Config{Dial: func(network, addr string) (net.Conn, error) {
		return s.b.Dial(network, addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// live is everything there, the server's own exchanges and default bindings apart.
func (s *site) live(t *testing.T) *topoplan.Live {
	t.Helper()
	var live topoplan.Live
	var err error
	ctx := within(t)
	if live.Exchanges, err = s.api.Exchanges(ctx, "/"); err == nil {
		if live.Queues, err = s.api.Queues(ctx, "/"); err == nil {
			live.Bindings, err = s.api.Bindings(ctx, "/")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return &live
}

// text is live in a comparable form without counts.
func text(t *testing.T, live *topoplan.Live) string {
	t.Helper()
	for i := range live.Queues {
		q := &live.Queues[i]
		*q = mgmtclient.Queue{VHost: q.VHost, Name: q.Name, Type: q.Type, Durable: q.Durable, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive, Arguments: q.Arguments}
	}
	b, err := json.MarshalIndent(live, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPlanIsWhatAClientDeclares compares all that apply makes with all that a
// publisher and a consumer make.
func TestPlanIsWhatAClientDeclares(t *testing.T) {
	for _, kind := range []reliable.QueueType{reliable.Auto, reliable.Quorum, reliable.Classic} {
		t.Run(kind.String(), func(t *testing.T) {
			queue := reliable.Queue{Name: "orders.eu", Type: kind, DeliveryLimit: 7, Arguments: amqp.Table{"x-max-length": 1000}}
			running := newSite(t)
			client, err := reliable.Open(within(t), reliable.Via(running.b), reliable.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close(within(t))
			handle := func(context.Context, *reliable.Message[string]) error { return nil }
			if _, err := reliable.Consume(within(t), client, queue, handle); err != nil {
				t.Fatal(err)
			}

			planned := newSite(t)
			conn := planned.connect(t)
			plan, err := topoplan.New(topoplan.ServerOf(conn.Properties), kind, []reliable.Queue{queue}, defaultPolicy())
			if err != nil {
				t.Fatal(err)
			}
			other, err := reliable.Open(within(t), reliable.Via(planned.b), reliable.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close(within(t))
			if err := other.Declare(within(t), plan.Topology); err != nil {
				t.Fatal(err)
			}
			want, got := text(t, running.live(t)), text(t, planned.live(t))
			if want != got {
				t.Errorf("a client makes\n%s\nthe plan\n%s", want, got)
			}
			for _, f := range topoplan.Compare(&plan.Topology, running.live(t)) {
				if f.Differs() {
					t.Errorf("%+v", f)
				}
			}
			found, err := topoplan.Survey(running.connect(t), &plan.Topology)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if f.Differs() || (f.State == topoplan.Unseen) != (f.Kind == "binding") {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestDifferencesAreFound damages a topology in each way, and asks both ways.
func TestDifferencesAreFound(t *testing.T) {
	s := newSite(t)
	conn := s.connect(t)
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	plan, err := topoplan.New(topoplan.ServerOf(conn.Properties), reliable.Auto, []reliable.Queue{{Name: "orders"}}, defaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	client, err := reliable.Open(within(t), reliable.Via(s.b), reliable.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(within(t))
	if err := client.Declare(within(t), plan.Topology); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = ch.QueueDelete("orders", false, false, false)
	must(err)
	_, err = ch.QueueDelete("orders.dlq", false, false, false)
	must(err)
	_, err = ch.QueueDeclare("orders.dlq", true, false, false, false, amqp.Table{"x-max-length": 5})
	must(err)
	must(ch.ExchangeDelete("wrn.v1.dlx", false, false))
	must(ch.ExchangeDeclare("wrn.v1.dlx", "direct", true, false, false, false, nil))
	must(ch.QueueUnbind("wrn.v1.d250.L03", strings.Repeat("*.", 16)+"1.#", "wrn.v1.d250.L03", nil))
	must(ch.QueueBind("wrn.v1.lost", "#", "wrn.v1.d250.L01", false, nil))

	found, err := topoplan.Survey(conn, &plan.Topology)
	must(err)
	compared := topoplan.Compare(&plan.Topology, s.live(t))
	for _, c := range []struct {
		name     string
		state    topoplan.State
		overAMQP bool
		note     string
	}{
		{"orders", topoplan.Missing, true, ""},
		{"orders.dlq", topoplan.Different, true, "x-max-length is 5, planned is not set"},
		{"wrn.v1.dlx", topoplan.Different, true, "alternate-exchange is not set, planned is wrn.v1.lost"},
		{`wrn.v1.d250.L03 -> queue wrn.v1.d250.L03, key "` + strings.Repeat("*.", 16) + `1.#"`, topoplan.Missing, false, ""},
		{`wrn.v1.d250.L01 -> queue wrn.v1.lost, key "#"`, topoplan.Extra, false, "wrong place"},
		{"wrn.v1.d250.L03", topoplan.Same, true, ""},
	} {
		is := func(f topoplan.Finding) bool { return f.Name == c.name && f.State == c.state }
		if c.overAMQP && !slices.ContainsFunc(found, is) {
			t.Errorf("over AMQP %q is not found to be %s", c.name, c.state)
		}
		i := slices.IndexFunc(compared, is)
		if i < 0 || !strings.Contains(compared[i].Note, c.note) {
			t.Errorf("through the API %q is not found to be %s with %q: %+v", c.name, c.state, c.note, compared)
		}
	}
}

// TestStepsAreWhatAPolicyDoes compares the planned bounds with what the toolkit's
// own backoffs return.
func TestStepsAreWhatAPolicyDoes(t *testing.T) {
	schedule := []time.Duration{time.Second, 10 * time.Second, 0, 5 * time.Minute}
	for _, c := range []struct {
		name    string
		policy  topoplan.Policy
		backoff reliable.Backoff
	}{
		{"default", defaultPolicy(), reliable.Exponential(time.Second, time.Hour)},
		{"short", topoplan.Policy{Attempts: 30, Base: 100 * time.Millisecond, Factor: 2, Max: 3 * time.Second, Jitter: 0.25}, reliable.Exponential(100*time.Millisecond, 3*time.Second)},
		{"explicit", topoplan.Policy{Attempts: 8, Delays: schedule}, reliable.Schedule(schedule...)},
		{"with jitter", topoplan.Policy{Attempts: 8, Delays: schedule, Jitter: 1}, reliable.Jitter(1, reliable.Schedule(schedule...))},
		{"longest", topoplan.Policy{Attempts: 3, Delays: []time.Duration{reliable.MaxDelay}, Jitter: 0.5}, reliable.Jitter(0.5, reliable.Schedule(reliable.MaxDelay))},
	} {
		if err := c.policy.Check(); err != nil {
			t.Fatal(err)
		}
		steps := c.policy.Steps(reliable.Quorum, "q")
		if len(steps) != c.policy.Attempts-1 {
			t.Fatalf("%s: %d steps", c.name, len(steps))
		}
		for _, s := range steps {
			for range 200 {
				d := c.backoff(s.Attempt, nil)
				// The network rounds up to its unit.
				d = (min(d, reliable.MaxDelay) + reliable.DelayUnit - 1) / reliable.DelayUnit * reliable.DelayUnit
				if d < s.Min || d > s.Max {
					t.Fatalf("%s: attempt %d waits %v, planned is %v to %v", c.name, s.Attempt, d, s.Min, s.Max)
				}
			}
			var sum time.Duration
			for _, level := range s.Levels {
				sum += reliable.DelayUnit << level
			}
			if sum != s.Delay || s.Delay > 0 && strings.Count(s.Key, "1") != len(s.Levels) || !strings.HasSuffix(s.Key, "q") {
				t.Errorf("%s: %+v", c.name, s)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		change func(*topoplan.Policy)
		want   string
	}{
		{func(p *topoplan.Policy) { p.Attempts = 0 }, "--attempts"},
		{func(p *topoplan.Policy) { p.Attempts = 1001 }, "--attempts"},
		{func(p *topoplan.Policy) { p.Jitter = 1.5 }, "--jitter"},
		{func(p *topoplan.Policy) { p.Factor = 0.5 }, "--factor"},
		{func(p *topoplan.Policy) { p.Base = 0 }, "--base"},
		{func(p *topoplan.Policy) { p.Max = 100 * time.Hour }, "--max"},
		{func(p *topoplan.Policy) { p.Base = 2 * time.Hour }, "--base"},
		{func(p *topoplan.Policy) { p.Delays = []time.Duration{-1} }, "--delays"},
	} {
		p := defaultPolicy()
		c.change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", p, err, c.want)
		}
	}
}

func TestCode(t *testing.T) {
	for _, c := range []struct {
		policy topoplan.Policy
		want   string
	}{
		{defaultPolicy(), "MaxAttempts: 10, Backoff: reliable.Exponential(time.Second, time.Hour)"},
		{topoplan.Policy{Attempts: 3, Delays: []time.Duration{1500 * time.Millisecond, 2 * time.Minute}}, "reliable.Schedule(1500*time.Millisecond, 2*time.Minute)"},
		{topoplan.Policy{Attempts: 9, Base: time.Second, Factor: 3, Max: 10 * time.Second, Jitter: 0.1}, "reliable.Jitter(0.1, reliable.Schedule(time.Second, 3*time.Second, 9*time.Second, 10*time.Second))"},
	} {
		if got := c.policy.Code(); !strings.Contains(got, c.want) {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// TestServersDiffer: a delivery limit of -1 is an error on RabbitMQ 3.
func TestServersDiffer(t *testing.T) {
	for server, want := range map[topoplan.Server]bool{{Product: "RabbitMQ", Version: "3.10.8"}: false, {Product: "RabbitMQ", Version: "4.3.1"}: true} {
		plan, err := topoplan.New(server, reliable.Auto, []reliable.Queue{{Name: "q"}}, defaultPolicy())
		if err != nil {
			t.Fatal(err)
		}
		text, err := plan.Definitions("shop")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(`"x-delivery-limit": -1`)) != want || !bytes.Contains(text, []byte(`"vhost": "shop"`)) {
			t.Errorf("%v: %s", server, text)
		}
	}
	plan, err := topoplan.New(topoplan.Server{Product: "RabbitMQ", Version: "3.8.2"}, reliable.Auto, []reliable.Queue{{Name: "q"}}, defaultPolicy())
	if err != nil || plan.Type != reliable.Classic {
		t.Errorf("%v, %v", plan.Type, err)
	}
}
