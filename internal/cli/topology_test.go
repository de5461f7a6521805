package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/broker"
)

// peerAPIEnv names the management API of the broker that peerEnv names.
const peerAPIEnv = "WARREN_TEST_API_URL"

// managed is a broker with a management API, and the names of a test.
type managed struct {
	t        *testing.T
	url, api string
	ch       *amqp.Channel
	vhost    string
	prefix   string // of names
}

func newManaged(t *testing.T) *managed {
	t.Helper()
	m := &managed{t: t, url: os.Getenv(peerEnv), api: os.Getenv(peerAPIEnv), vhost: "/", prefix: "cli" + strings.ToLower(rand.Text()[:10])}
	switch {
	case m.url == "":
		m.embed()
	case m.api == "":
		t.Skipf("%s is not set: the broker of %s has no management API for this test", peerAPIEnv, peerEnv)
	default:
		m.ownVHost()
	}
	t.Setenv(urlEnv, m.url)
	m.ch = m.channel()
	return m
}

func (m *managed) embed() {
	b, err := broker.Open(broker.Config{})
	if err != nil {
		m.t.Fatal(err)
	}
	var addresses []string
	for _, serve := range []func(net.Listener) error{b.Serve, b.ServeManagement} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			m.t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		go serve(l) // ends with Shutdown
	}
	m.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		b.Shutdown(ctx) // an error only says that clients were cut
	})
	m.url, m.api = "amqp://guest:guest@"+addresses[0]+"/", "http://"+addresses[1]
}

// ownVHost makes a virtual host for the test on RabbitMQ, and deletes it with all
// that is in it.
func (m *managed) ownVHost() {
	ask := func(method, path, body string) {
		m.t.Helper()
		r, err := http.NewRequest(method, m.api+"/api/"+path, strings.NewReader(body))
		if err != nil {
			m.t.Fatal(err)
		}
		r.SetBasicAuth("guest", "guest")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			m.t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode/100 != 2 {
			m.t.Fatalf("%s %s: %s", method, path, answer.Status)
		}
		http.DefaultClient.CloseIdleConnections()
	}
	m.vhost = m.prefix
	ask(http.MethodPut, "vhosts/"+m.vhost, "{}")
	m.t.Cleanup(func() { ask(http.MethodDelete, "vhosts/"+m.vhost, "") })
	ask(http.MethodPut, "permissions/"+m.vhost+"/guest", `{"configure":".*","write":".*","read":".*"}`)
	m.url = strings.TrimSuffix(m.url, "/") + "/" + m.vhost
}

// channel is one on a connection of its own.
func (m *managed) channel() *amqp.Channel {
	m.t.Helper()
	conn, err := amqp.Dial(m.url)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		m.t.Fatal(err)
	}
	return ch
}

// queue declares a durable queue of the test.
func (m *managed) queue(name string, args amqp.Table) string {
	m.t.Helper()
	name = m.own(name)
	if _, err := m.ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		m.t.Fatal(err)
	}
	return name
}

// own is a name of the test.
func (m *managed) own(name string) string { return m.prefix + "." + name }

func TestTopologyApplyAndVerify(t *testing.T) {
	m := newManaged(t)
	orders := m.own("orders")
	got := run(t, "", "topology", "verify", orders)
	if got.code != exitFailed || !strings.Contains(got.stdout, "queue "+orders+": missing\n") {
		t.Errorf("before: %+v", got)
	}
	got = run(t, "", "topology", "apply", orders)
	if got.code != exitOK || !strings.Contains(got.stdout, "queue "+orders+": made\n") {
		t.Fatalf("apply: %+v", got)
	}
	got = run(t, "", "topology", "apply", orders)
	if got.code != exitOK || strings.Contains(got.stdout, ": made\n") || !strings.Contains(got.stdout, "queue "+orders+": was there\n") {
		t.Errorf("apply again: %+v", got)
	}
	got = run(t, "", "topology", "verify", orders)
	if got.code != exitOK || !strings.Contains(got.stdout, "as planned, 46 things compared\n43 bindings were not compared") {
		t.Errorf("over AMQP: %+v", got)
	}
	got = run(t, "", "topology", "verify", orders, "--api", m.api)
	if got.code != exitOK || !strings.Contains(got.stdout, "as planned, 89 things compared\n") || strings.Contains(got.stdout, "not compared") {
		t.Errorf("through the API: %+v", got)
	}
	if err := m.ch.QueueUnbind(orders+".dlq", orders, "wrn.v1.dlx", nil); err != nil {
		t.Fatal(err)
	}
	run(t, "", "topology", "verify", orders).want(t, exitOK, got.stdout[:strings.Index(got.stdout, ":")]+
		": as planned, 46 things compared\n43 bindings were not compared: AMQP does not show them, --api does\n", "")
	got = run(t, "", "topology", "verify", orders, "--api", m.api, "--json")
	var v verification
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || got.code != exitFailed || !v.Complete {
		t.Fatalf("%v: %+v", err, got)
	}
	differs := 0
	for _, f := range v.Findings {
		if f.Differs() {
			differs++
			if f.State != "missing" || f.Name != "wrn.v1.dlx -> queue "+orders+`.dlq, key "`+orders+`"` {
				t.Errorf("%+v", f)
			}
		}
	}
	if differs != 1 {
		t.Errorf("%d differences", differs)
	}
}

func TestTopologyApplyRefusesWhatIsInTheWay(t *testing.T) {
	m := newManaged(t)
	orders := m.queue("orders", nil)
	got := run(t, "", "topology", "apply", orders)
	if got.code != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "warren: queue "+orders+": inequivalent arg ") ||
		!strings.HasSuffix(got.stderr, "warren: 1 thing there already with other properties: nothing was made. Delete what is in the way (messages go with a queue), or choose another name\n") {
		t.Errorf("%+v", got)
	}
	if got := run(t, "", "declare", "queue", orders+".dlq", "--passive"); got.code != exitFailed {
		t.Errorf("something was made: %+v", got)
	}
}

func TestTopologyPlan(t *testing.T) {
	t.Setenv(urlEnv, "amqp://127.0.0.1:1/") // no broker is needed
	got := run(t, "", "topology", "plan", "orders", "--attempts", "3")
	for _, want := range []string{
		"For RabbitMQ 4.3, with quorum queues: 23 exchanges, 23 queues, 43 bindings.",
		"\n    queue    orders  x-dead-letter-exchange=wrn.v1.dlx x-dead-letter-routing-key=orders x-dead-letter-strategy=at-least-once x-delivery-limit=20 x-overflow=reject-publish x-queue-type=quorum\n",
		"\n    binding  wrn.v1.dlx -> queue orders.dlq  key \"orders\"\n",
		"\n  after attempt 1: 1s (750ms to 1.25s), in L02\n    publish to wrn.v1.d250.L02  key \"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.orders\"\n",
		"\n  after attempt 3: to orders.dlq; 3s after the first,",
		"\nIn Go: reliable.Retry(reliable.RetryPolicy{MaxAttempts: 3, Backoff: reliable.Exponential(time.Second, time.Hour)})\n",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is missing in\n%s", want, got.stdout)
		}
	}
	got = run(t, "", "topology", "plan", "orders", "--delays", "0s,5m,5m,5m", "--type", "classic")
	for _, want := range []string{"after attempt 1: no delay\n    publish to the default exchange  key \"orders\"", "after attempts 2 to 4: 5m0s, in L10, L07, L05, L04", "goes to orders.dlq, without a guarantee"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is missing in\n%s", want, got.stdout)
		}
	}
	for args, want := range map[string]string{
		"":                                 "warren: warren topology plan wants the names of work queues (see warren topology plan --help)\n",
		"a.#":                              `warren: reliable: queue "a.#": "#" between dots is a wildcard`,
		"q --type lazy":                    `warren: --type: "lazy" is not auto, quorum or classic`,
		"q --server rabbitmq":              `warren: --server: "rabbitmq" is neither`,
		"q --delays 1s --base 2s":          "warren: --delays is the whole schedule",
		"q --delays 1s,soon":               "warren: --delays: ",
		"q --attempts 0":                   "warren: --attempts is 0, it has to be 1 to 1000",
		"q --json --definitions":           "warren: --json and --definitions are two forms",
		"q --max 100h":                     "warren: --max is 100h0m0s, the longest delay is ",
		"q --base 1h --factor 2 --max 10m": "warren: --base is 1h0m0s, more than --max, 10m0s",
	} {
		got := run(t, "", append([]string{"topology", "plan"}, strings.Fields(args)...)...)
		if got.code != exitUsage || !strings.HasPrefix(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%q: %+v, want %q", args, got, want)
		}
	}
}

func TestTopologyVerifyWithoutABroker(t *testing.T) {
	for args, want := range map[string]string{
		"--url amqp://guest:s3cret@127.0.0.1:1/": "warren: cannot connect to amqp://guest@127.0.0.1:1/: ",
		"--api http://u:s3cret@127.0.0.1:1":      "warren: cannot connect to http://127.0.0.1:1: connection refused. On RabbitMQ",
		"--api nonsense":                         "warren: --api is not the URL of a management API",
		"--api=":                                 "warren: --api is empty",
		"--api http://127.0.0.1:1 --tls-insecure --url amqp://guest@host/x": "warren: the --tls flags need an https:// URL with --api",
	} {
		got := run(t, "", append([]string{"topology", "verify", "q"}, strings.Fields(args)...)...)
		if got.code != exitUsage || !strings.HasPrefix(got.stderr, want) || strings.Contains(got.stderr, "s3cret") {
			t.Errorf("%q: %+v, want %q", args, got, want)
		}
	}
}
