package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
)

// cemetery is a work queue with its queue of dead letters, as package reliable
// declares them, and an exchange that leads to the work queue.
type cemetery struct {
	*bench
	dead, exchange string
}

func newCemetery(t *testing.T) *cemetery {
	t.Helper()
	url := brokerURL(t)
	t.Setenv(urlEnv, url)
	queue := "cli." + rand.Text()
	c := dialCemetery(t, url, cemetery{bench: &bench{queue: queue}, dead: queue + ".dlq", exchange: queue + ".events"})
	err := errors.Join(c.ch.ExchangeDeclare(c.exchange, "topic", true, false, false, false, nil), c.ch.QueueBind(c.queue, "a.#", c.exchange, false, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err1 := c.ch.QueueDelete(c.queue, false, false, false)
		_, err2 := c.ch.QueueDelete(c.dead, false, false, false)
		if err := errors.Join(err1, err2, c.ch.ExchangeDelete(c.exchange, false, false)); err != nil {
			t.Error(err)
		}
	})
	return c
}

// dialCemetery gives c its channel and makes its queues.
func dialCemetery(t *testing.T, url string, c cemetery) *cemetery {
	t.Helper()
	c.t, c.ch = t, confirmChannel(t, url)
	if got := run(t, "", "topology", "apply", c.queue); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	return &c
}

// bury makes dead letters of messages that are published to the exchange.
func (c *cemetery) bury(messages ...amqp.Publishing) {
	c.t.Helper()
	for _, m := range messages {
		confirm, err := c.ch.PublishWithDeferredConfirm(c.exchange, "a.b", true, false, m)
		if err != nil || !confirm.Wait() {
			c.t.Fatal("not published", err)
		}
	}
	c.die(len(messages))
}

// buryMany makes n dead letters with the ids m000, m001, …
func (c *cemetery) buryMany(n int) (ids []string) {
	c.t.Helper()
	var list []amqp.Publishing
	for i := range n {
		ids = append(ids, fmt.Sprintf("m%03d", i))
		list = append(list, amqp.Publishing{MessageId: ids[i], Body: []byte(ids[i]), DeliveryMode: amqp.Persistent})
	}
	c.bury(list...)
	return ids
}

// die rejects the next n messages of the work queue, and waits for the last.
func (c *cemetery) die(n int) {
	c.t.Helper()
	before := c.count(c.dead)
	for range n {
		var d amqp.Delivery
		eventually(c.t, func() (ok bool) {
			var err error
			if d, ok, err = c.ch.Get(c.queue, false); err != nil {
				c.t.Fatal(err)
			}
			return ok
		}, func() string { return "the work queue has too few messages" })
		if err := d.Reject(false); err != nil {
			c.t.Fatal(err)
		}
	}
	c.has(c.dead, before+n)
}

func (c *cemetery) count(queue string) int {
	c.t.Helper()
	q, err := c.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return q.Messages
}

// has waits until the queue has n messages.
func (c *cemetery) has(queue string, n int) {
	c.t.Helper()
	eventually(c.t, func() bool { return c.count(queue) == n }, func() string { return fmt.Sprintf("%s has %d messages, want %d", queue, c.count(queue), n) })
}

// dlq runs a command of dlq on the queue of dead letters, which has to succeed.
func (c *cemetery) dlq(command string, args ...string) result {
	c.t.Helper()
	got := run(c.t, "", append([]string{"dlq", command, c.dead}, args...)...)
	if got.code != exitOK {
		c.t.Errorf("dlq %s %q: %+v", command, args, got)
	}
	return got
}

// ids are those that ls finds.
func (c *cemetery) ids(args ...string) []string {
	c.t.Helper()
	return idsOf(c.t, c.dlq("ls", append([]string{"--json"}, args...)...).stdout)
}

func idsOf(t *testing.T, lines string) []string {
	t.Helper()
	ids := []string{}
	for l := range strings.Lines(lines) {
		var letter struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal([]byte(l), &letter); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, letter.ID)
	}
	return ids
}

// taken are the ids of what the work queue has, sorted.
func (c *cemetery) taken() (ids []string) {
	c.t.Helper()
	for {
		d, ok, err := c.ch.Get(c.queue, true)
		if err != nil {
			c.t.Fatal(err)
		}
		if !ok {
			slices.Sort(ids)
			return ids
		}
		ids = append(ids, d.MessageId)
	}
}

// Fifty looks leave the same ids in the same order.
func TestDeadLettersScans(t *testing.T) {
	c := newCemetery(t)
	want := c.buryMany(60)
	for i := range 50 {
		if got := c.ids(); !slices.Equal(got, want) {
			t.Fatalf("scan %d: %d ids %v", i, len(got), got)
		}
	}
	if n := c.count(c.dead); n != len(want) {
		t.Errorf("%d are left", n)
	}
}

// What is exported, purged, imported and sent back is what was published.
func TestDeadLettersRoundTrip(t *testing.T) {
	c := newCemetery(t)
	headers := amqp.Table{
		"bool": true, "int8": int8(-8), "int16": int16(-300), "int32": int32(-70000), "int64": int64(-1) << 62, "float32": float32(1.5),
		"float64": 0.1, "decimal": amqp.Decimal{Scale: 2, Value: 12345}, "string": "Grüße <&>", "binary": "\xff\x00", "void": nil,
		"time": time.Unix(1700000000, 0), "table": amqp.Table{"nested": []any{int32(1), "two", amqp.Table{"three": false}}},
	}
	all := []amqp.Publishing{
		{MessageId: "binary", Body: []byte{0, 255, 10, 1}, Headers: headers, ContentType: "application/x", ContentEncoding: "none", CorrelationId: "c",
			ReplyTo: "r", AppId: "app", Type: "order", Priority: 3, Timestamp: time.Unix(1700000000, 0), DeliveryMode: amqp.Persistent},
		{MessageId: "text", Body: []byte("line\nGrüße <&>\u2028"), DeliveryMode: amqp.Persistent},
		{MessageId: "empty", DeliveryMode: amqp.Persistent, Timestamp: time.UnixMilli(1700000000000 * 1000)},
	}
	c.bury(all...)
	file := filepath.Join(t.TempDir(), "letters.jsonl")
	c.dlq("export", "--output", file)
	first, err := os.ReadFile(file)
	if err != nil || strings.Count(string(first), "\n") != len(all) {
		t.Fatalf("%s %v", first, err)
	}
	if got := run(t, "", "dlq", "export", c.dead, "--output", file); got.code != exitFailed || !strings.Contains(got.stderr, "is not overwritten") {
		t.Errorf("over an existing file: %+v", got)
	}
	c.dlq("purge", "--all").want(t, exitOK, c.dead+": 3 dead letters removed, 3 looked at\n", "")
	c.has(c.dead, 0)
	c.dlq("import", "--file", file, "--dry-run").want(t, exitOK, c.dead+": 3 dead letters could be imported\n", "")
	c.dlq("import", "--file", file).want(t, exitOK, c.dead+": 3 dead letters imported\n", "")
	if again := c.dlq("export"); again.stdout != string(first) {
		t.Errorf("exported first\n%s\nand after the import\n%s", first, again.stdout)
	}
	c.dlq("redrive", "--to-origin").want(t, exitOK, c.dead+": 3 dead letters sent back, 3 looked at\n", "")
	back := map[string]amqp.Delivery{}
	eventually(t, func() bool { // RabbitMQ 4.3 takes 4 for no priority, and delivers by it
		d, ok, err := c.ch.Get(c.queue, true)
		if ok && err == nil {
			back[d.MessageId] = d
		}
		return len(back) == len(all)
	}, func() string { return fmt.Sprintf("%d were sent back", len(back)) })
	for _, want := range all {
		is := back[want.MessageId]
		for name := range is.Headers {
			if strings.HasPrefix(name, "wrn-") || name == "x-delivery-count" { // the server's
				delete(is.Headers, name)
			}
		}
		if want.Headers == nil {
			want.Headers = amqp.Table{}
		}
		if is.MessageId != want.MessageId || !bytes.Equal(is.Body, want.Body) || is.Exchange != c.exchange || is.RoutingKey != "a.b" ||
			is.ContentType != want.ContentType || is.ContentEncoding != want.ContentEncoding || is.CorrelationId != want.CorrelationId ||
			is.ReplyTo != want.ReplyTo || is.AppId != want.AppId || is.Type != want.Type || is.Priority != want.Priority ||
			!is.Timestamp.Equal(want.Timestamp) || !reflect.DeepEqual(is.Headers, want.Headers) {
			t.Errorf("was %+v\n is %+v", want, is)
		}
	}
}

func TestDeadLettersFilters(t *testing.T) {
	c := newCemetery(t)
	if got := c.dlq("ls"); got.stdout != "" || got.stderr != c.dead+": no dead letters\n" {
		t.Errorf("empty: %+v", got)
	}
	run(t, "", "dlq", "show", c.dead).want(t, exitEmpty, "", c.dead+": no dead letters\nwarren: the queue is empty: "+c.dead+"\n")
	c.bury(amqp.Publishing{MessageId: "a", Type: "order", Headers: amqp.Table{"tenant": "x", "n": int32(7)}, Body: []byte("\x1b[2Jbody")},
		amqp.Publishing{MessageId: "b", Headers: amqp.Table{"tenant": "y"}}, amqp.Publishing{MessageId: "c"})
	imported := `{"id":"d","queue":"other","exchange":"","key":"k","reason":"attempts","error":"timeout\nof 5s","attempts":4,"died":"2020-01-02T03:04:05Z","body":"x"}`
	if got := run(t, imported, "dlq", "import", c.dead); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	for _, f := range []struct{ args, want string }{
		{"", "a b c d"}, {"--id b --id c", "b c"}, {"--reason rejected", "a b c"}, {"--reason attempts --error timeout", "d"},
		{"--type order", "a"}, {"--from-queue other", "d"}, {"--from-queue " + c.queue, "a b c"}, {"--from-exchange " + c.exchange, "a b c"},
		{"--from-exchange=", "d"}, {"--from-key k", "d"}, {"--header tenant", "a b"}, {"--header tenant=y", "b"}, {"--header n=7 --header tenant=x", "a"},
		{"--header n=8", ""}, {"--min-attempts 4", "d"}, {"--min-attempts 5", ""}, {"--max-attempts 0", "a b c"}, {"--older-than 24h", "d"},
		{"--newer-than 24h", "a b c"}, {"--limit 2", "a b"}, {"--reason expired", ""},
	} {
		if got := c.ids(strings.Fields(f.args)...); strings.Join(got, " ") != f.want {
			t.Errorf("%q chooses %v", f.args, got)
		}
	}
	got := c.dlq("ls", "--id", "d")
	want := "d                                     2020-01-02T03:04:05Z  attempts           4  other                 timeout of 5s\n"
	if _, row, _ := strings.Cut(got.stdout, "\n"); row != want || !strings.Contains(got.stderr, "1 of 4 dead letters, which are marked redelivered now") {
		t.Errorf("%+v", got)
	}
	got = c.dlq("show", "a", "d")
	for _, want := range []string{"id             a\n", `"\x1b[2Jbody"`, "header         tenant: x\n", "published to   exchange \"" + c.exchange + "\", routing key \"a.b\"\n", "\n\nid             d\n", "tried          4\n"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("show lacks %q:\n%s", want, got.stdout)
		}
	}
	run(t, "", "dlq", "show", c.dead, "zz").want(t, exitEmpty, "", c.dead+": 0 of 4 …")
	if got := run(t, "", "dlq", "show", c.dead, "zz", "a"); got.code != exitFailed || !strings.Contains(got.stderr, "no dead letter with the id zz") {
		t.Errorf("%+v", got)
	}
	c.dlq("purge", "--id", "a", "--dry-run").want(t, exitOK, c.dead+": 1 dead letter would be removed, 4 looked at; nothing was changed, but they are marked redelivered now\n", "")
	c.dlq("purge", "--older-than", "24h").want(t, exitOK, c.dead+": 1 dead letter removed, 4 looked at\n", "")
	c.dlq("purge", "--all", "--limit", "1").want(t, exitOK, c.dead+": 1 dead letter removed, 1 looked at\n", "")
	if got := c.ids(); strings.Join(got, " ") != "b c" {
		t.Errorf("%v are left", got)
	}
}

func TestDeadLettersRedrive(t *testing.T) {
	c := newCemetery(t)
	c.buryMany(5)
	c.dlq("redrive", "--dry-run").want(t, exitOK, c.dead+": 5 dead letters would be sent back, 5 looked at; nothing was changed, but they are marked redelivered now\n  5 to queue "+c.queue+"\n", "")
	got := c.dlq("redrive", "--dry-run", "--to-exchange", "x", "--to-key", "y", "--limit", "2", "--json")
	var r report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || r.Done != 2 || !r.DryRun || r.Targets[`exchange "x" with key "y"`] != 2 {
		t.Errorf("%+v", got)
	}
	run(t, "", "dlq", "redrive", c.dead, "--to-queue", "cli.missing", "--id", "m001").want(t, exitFailed,
		c.dead+": 0 dead letters sent back, 5 looked at, 1 failed and stay\n", "warren: dead letter m001 to queue \"cli.missing\": unroutable: no queue is there for it\n")
	run(t, "", "dlq", "redrive", c.dead, "--to-exchange", "cli.missing", "--limit", "1", "--id", "m000").want(t, exitFailed,
		c.dead+": 0 dead letters sent back, 5 looked at, 1 failed and stay\n", "warren: dead letter m000 to exchange \"cli.missing\" with key \"a.b\": unroutable: NOT_FOUND - no exchange 'cli.missing' …")
	c.has(c.dead, 5)
	begun := time.Now()
	c.dlq("redrive", "--limit", "3", "--rate", "20", "--to-key", "a.c").want(t, exitOK, c.dead+": 3 dead letters sent back, 3 looked at\n", "")
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("3 at 20 a second took %v", took)
	}
	d, ok, err := c.ch.Get(c.queue, true)
	if err != nil || !ok || d.MessageId != "m000" || d.RoutingKey != "a.c" || d.Exchange != c.exchange {
		t.Errorf("%+v %v", d, err)
	}
	c.dlq("redrive", "--new-id", "--id", "m004")
	c.has(c.queue, 3)
	if got := c.taken(); len(got) != 3 || got[1] != "m001" || got[2] != "m002" || got[0] == "m004" {
		t.Errorf("%v", got)
	}
	if got := c.ids(); strings.Join(got, " ") != "m003" {
		t.Errorf("%v are left", got)
	}
}

func TestDeadLettersUsage(t *testing.T) {
	t.Setenv(urlEnv, "amqp://guest:s3cret@127.0.0.1:1/")
	for _, c := range []struct{ args, want string }{
		{"ls", "AMQP cannot list queues: name a QUEUE, or give --api, such as --api http://localhost:15672"},
		{"ls q --vhost v", "--vhost goes with --api; over AMQP the virtual host is that of --url"},
		{"ls q --api http://127.0.0.1:1", "--api finds queues; to look into one, name it without --api"},
		{"ls q --reason=", "--reason is empty"},
		{"ls q --header==x", `--header: "=x" is not NAME or NAME=VALUE`},
		{"ls q --limit -1", "--limit cannot be negative"},
		{"ls q --older-than -1h", "--older-than and --newer-than cannot be negative"},
		{"show", "warren dlq show wants QUEUE, and perhaps ids"},
		{"redrive q --to-queue q", "--to-queue is the queue that they are in"},
		{"redrive q --to-queue w --to-key k", "--to-queue is one place; --to-origin, --to-exchange and --to-key are another"},
		{"redrive q --rate 0", "--rate must be above 0"},
		{"redrive q --limit 0", "--limit must be at least 1; without it there is no limit"},
		{"purge q", "purge what? Give a filter such as --older-than, or --all"},
		{"purge q --all --id x", "--all and a filter contradict each other"},
	} {
		command, _, _ := strings.Cut(c.args, " ")
		run(t, "", append([]string{"dlq"}, strings.Fields(c.args)...)...).want(t, exitUsage, "", "warren: "+c.want+" (see warren dlq "+command+" --help)\n")
	}
	run(t, "", "dlq", "ls", "q").want(t, exitFailed, "", "warren: cannot connect to amqp://guest@127.0.0.1:1/: connection refused\n")
}

func TestDeadLettersRefusals(t *testing.T) {
	c := newCemetery(t)
	for _, command := range []string{"ls", "show", "redrive", "export"} {
		run(t, "", "dlq", command, "cli.missing").want(t, exitFailed, "", "warren: NOT_FOUND - no queue 'cli.missing' in vhost '/' (404)\n")
	}
	run(t, `{"id":"x","body":""}`, "dlq", "import", "cli.missing").want(t, exitFailed, "cli.missing: 0 dead letters imported; broken off\n",
		"warren: dead letter x to queue \"cli.missing\": unroutable: no queue is there for it\n")
	for _, args := range [][]string{nil, {"--dry-run"}} {
		got := run(t, `{"id":"x","body":""}`+"\n"+`{"routing_key":"q"}`, append([]string{"dlq", "import", c.dead}, args...)...)
		if got.code != exitFailed || !strings.Contains(got.stderr, `dead letter 2 of the import: json: unknown field "routing_key"`) {
			t.Errorf("%+v", got)
		}
	}
	c.has(c.dead, 1)
}

// cutOff runs a redrive of 60 dead letters that is hit when n are back, and checks
// that each message is in the work queue or a dead letter. It returns how many are
// in both. With hold the broker confirms nothing of what it gets.
func cutOff(t *testing.T, hold bool, n int, args []string, hit func(b *brokertest.Broker, interrupt func())) (both int, code int) {
	b := brokertest.New(t)
	t.Setenv(urlEnv, b.URL())
	c := newCemeteryAt(t, b)
	all := c.buryMany(60)
	if hold {
		b.HoldConfirms()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		done <- Run(ctx, append([]string{"dlq", "redrive", c.dead}, args...), strings.NewReader(""), &bytes.Buffer{}, &stderr)
	}()
	eventually(t, func() bool { return c.count(c.queue) >= n }, func() string { return "nothing comes back" })
	hit(b, cancel)
	code = <-done
	c = newCemeteryAt(t, b)
	eventually(t, func() bool { return c.count(c.queue)+c.count(c.dead) >= len(all) }, func() string {
		return fmt.Sprintf("%d and %d of %d are there: %s", c.count(c.queue), c.count(c.dead), len(all), stderr.String())
	})
	dead, back := c.ids(), c.taken()
	for _, id := range all {
		switch in := slices.Contains(dead, id); {
		case in && slices.Contains(back, id):
			both++
		case !in && !slices.Contains(back, id):
			t.Errorf("%s is lost", id)
		}
	}
	c.dlq("redrive")
	c.has(c.dead, 0)
	if rest := c.taken(); len(rest) != len(dead) {
		t.Errorf("%d of %d came back in the end", len(rest), len(dead))
	}
	return both, code
}

// newCemeteryAt is a connection to the queues of a test that survives cut ones.
func newCemeteryAt(t *testing.T, b *brokertest.Broker) *cemetery {
	t.Helper()
	c := dialCemetery(t, b.URL(), cemetery{bench: &bench{queue: "work"}, dead: "work.dlq", exchange: "amq.topic"})
	if err := c.ch.QueueBind(c.queue, "a.#", c.exchange, false, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// Ctrl-C in the middle: nothing is lost, nothing is twice.
func TestDeadLettersInterrupted(t *testing.T) {
	for _, n := range []int{1, 7, 30} {
		both, code := cutOff(t, false, n, []string{"--rate", "300"}, func(_ *brokertest.Broker, interrupt func()) { interrupt() })
		if both != 0 || code != exitFailed {
			t.Errorf("after %d: %d are twice, status %d", n, both, code)
		}
	}
	both, _ := cutOff(t, true, 60, nil, func(b *brokertest.Broker, interrupt func()) {
		interrupt()
		b.ReleaseConfirms()
	})
	if both != 0 {
		t.Errorf("%d are twice although the confirms came", both)
	}
}

// A connection that is lost in the middle: nothing is lost.
func TestDeadLettersCut(t *testing.T) {
	for _, n := range []int{1, 20, 45} {
		// How many are twice is how many acknowledgements were lost with the connection.
		cutOff(t, false, n, []string{"--rate", "300"}, func(b *brokertest.Broker, _ func()) { b.CutConnections() })
	}
	both, code := cutOff(t, true, 60, nil, func(b *brokertest.Broker, _ func()) {
		b.CutConnections()
		b.ReleaseConfirms()
	})
	if both == 0 || code != exitFailed {
		t.Errorf("%d are twice, status %d: the connection was not cut in the middle", both, code)
	}
}

// The queues of dead letters that a management API shows.
func TestDeadLettersFound(t *testing.T) {
	m := newManaged(t)
	work, dead := m.own("work"), m.own("work.dlq")
	if got := run(t, "", "topology", "apply", work); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	graves := m.queue("graves", nil)
	m.queue("plain", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graves})
	// A work queue and the queue that its retries wait in lead to each other.
	again := m.prefix + ".again"
	m.queue("again", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": m.prefix + ".wait"})
	m.queue("wait", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": again, "x-message-ttl": int32(1000)})
	m.queue("alone", nil)
	if err := m.ch.PublishWithContext(t.Context(), "", dead, false, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	uri, err := amqp.ParseURI(m.url)
	if err != nil {
		t.Fatal(err)
	}
	var rows []deadLetterQueue
	eventually(t, func() bool {
		got := run(t, "", "dlq", "ls", "--api", m.api, "--json")
		if got.code != exitOK {
			t.Fatalf("%+v", got)
		}
		rows = nil
		for l := range strings.Lines(got.stdout) {
			var q deadLetterQueue
			if err := json.Unmarshal([]byte(l), &q); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(q.Name, m.prefix) || q.Name == "wrn.v1.lost" && q.VHost == uri.Vhost {
				q.Ready = 0 // RabbitMQ counts it later
				rows = append(rows, q)
			}
		}
		return len(rows) == 3 && rows[1].Messages == 1
	}, func() string { return fmt.Sprintf("found %+v", rows) })
	want := []deadLetterQueue{
		{VHost: uri.Vhost, Name: graves, From: []string{m.prefix + ".plain"}}, {VHost: uri.Vhost, Name: dead, Messages: 1, From: []string{work}},
		{VHost: uri.Vhost, Name: "wrn.v1.lost", Messages: rows[2].Messages, From: []string{}},
	}
	if !reflect.DeepEqual(rows, want) {
		t.Errorf("found %+v, want %+v", rows, want)
	}
	got := run(t, "", "dlq", "ls", "--api", m.api, "--vhost", uri.Vhost)
	if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, dead) || !strings.Contains(got.stdout, "messages whose work queue is gone") {
		t.Errorf("%+v", got)
	}
}
