package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/internal/doctor"
	"github.com/warrenmq/warren/internal/topoplan"
	"github.com/warrenmq/warren/reliable"
)

// interval is one in which the figures of the broker renew themselves.
func (m *managed) interval() string {
	if os.Getenv(peerEnv) == "" {
		return "300ms"
	}
	return "6s"
}

// doctor runs the command and reads its report.
func (m *managed) doctor(args ...string) (doctor.Report, result) {
	m.t.Helper()
	args = append([]string{"doctor", "--api", m.api, "--vhost", m.vhost, "--interval", m.interval(), "--json"}, args...)
	got := run(m.t, "", args...)
	var report doctor.Report
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
		m.t.Fatalf("%v: %+v", err, got)
	}
	if (got.code == exitFailed) != (len(report.Findings) > 0) || got.stderr != "" {
		m.t.Errorf("status %d with %d findings: %s", got.code, len(report.Findings), got.stderr)
	}
	return report, got
}

// with returns arguments for a queue without mistakes, and those given.
func (m *managed) with(more amqp.Table) amqp.Table {
	args := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": m.own("dead")}
	for k, v := range more {
		args[k] = v
	}
	return args
}

// publish publishes confirmed messages without mistakes, but for what change does.
func (m *managed) publish(exchange, key string, n int, change ...func(*amqp.Publishing)) {
	m.t.Helper()
	if err := m.ch.Confirm(false); err != nil {
		m.t.Fatal(err)
	}
	for range n {
		p := amqp.Publishing{MessageId: "an id", DeliveryMode: amqp.Persistent, Body: []byte("x")}
		for _, f := range change {
			f(&p)
		}
		confirm, err := m.ch.PublishWithDeferredConfirm(exchange, key, false, false, p)
		if err != nil || !confirm.Wait() {
			m.t.Fatal("not confirmed", err)
		}
	}
}

// idle subscribes a consumer that acknowledges nothing.
func (m *managed) idle(queue string, prefetch int, autoAck bool) <-chan amqp.Delivery {
	m.t.Helper()
	ch := m.channel()
	if prefetch > 0 {
		if err := ch.Qos(prefetch, 0, false); err != nil {
			m.t.Fatal(err)
		}
	}
	d, err := ch.Consume(queue, "", autoAck, false, false, false, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return d
}

// planted is one mistake and where it is to be found.
type planted struct{ check, object string }

// plant makes every mistake that a broker can have, each at a place of its own.
func (m *managed) plant() (want []planted) {
	m.t.Helper()
	expect := func(check, object string) { want = append(want, planted{check, object}) }
	queue := func(check, name string, args amqp.Table) string {
		m.t.Helper()
		name = m.queue(name, args)
		expect(check, "queue "+name)
		return name
	}
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	dead := m.queue("dead", nil)

	// Consumers.
	m.idle(queue(doctor.AutoAck, "autoack", m.with(nil)), 10, true)
	m.idle(queue(doctor.UnlimitedPrefetch, "unlimited", m.with(nil)), 0, false)

	// Publishers. Their channels stay open, or the broker forgets what they did.
	expect(doctor.Unconfirmed, "publisher of user guest")
	ok := m.queue("ok", m.with(nil))
	m.idle(ok, 10, false)
	must(m.channel().PublishWithContext(m.t.Context(), "", ok, false, false, amqp.Publishing{MessageId: "1", DeliveryMode: amqp.Persistent}))
	expect(doctor.Unroutable, "publisher of user guest")
	m.publish("", m.own("nowhere"), 1)

	// Dead letters.
	queue(doctor.NoDeadLetters, "nodlx", nil)
	queue(doctor.DeadLettersLost, "nodlx1", amqp.Table{"x-dead-letter-exchange": m.own("missing")})
	must(m.ch.ExchangeDeclare(m.own("unbound"), "fanout", true, false, false, false, nil))
	queue(doctor.DeadLettersLost, "nodlx2", amqp.Table{"x-dead-letter-exchange": m.own("unbound")})
	queue(doctor.DeadLettersLost, "nodlx3", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": m.own("missing")})
	queue(doctor.AtMostOnce, "alo", m.with(amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 5, "x-dead-letter-strategy": "at-least-once"}))
	expect(doctor.DeadLettersWait, "queue "+dead)
	m.publish("", dead, 1)

	// Dead letters whose key no binding has.
	must(m.ch.ExchangeDeclare(m.own("elsewhere"), "direct", true, false, false, false, nil))
	must(m.ch.QueueBind(dead, "other", m.own("elsewhere"), false, nil))
	stuck := queue(doctor.DeadLettersStuck, "stuck", amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 5, "x-overflow": "reject-publish",
		"x-dead-letter-strategy": "at-least-once", "x-dead-letter-exchange": m.own("elsewhere")})
	m.publish("", stuck, 2, func(p *amqp.Publishing) { p.Expiration = "1" })

	// Redeliveries.
	endless := amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": -1}
	if m.serverBefore4() {
		delete(endless, "x-delivery-limit")
	}
	queue(doctor.NoDeliveryLimit, "endless", m.with(endless))
	loop := queue(doctor.RedeliveryLoop, "loop", m.with(nil))
	m.publish("", loop, 1)
	m.paced(m.idle(loop, 1, false))

	// Messages.
	m.publish("", queue(doctor.NoConsumer, "unused", m.with(nil)), 1)
	transient := queue(doctor.TransientMessages, "transient", m.with(nil))
	m.idle(transient, 1, false)
	m.publish("", transient, 3, func(p *amqp.Publishing) { p.DeliveryMode = amqp.Transient })
	anonymous := queue(doctor.NoMessageID, "anonymous", m.with(nil))
	m.idle(anonymous, 1, false)
	m.publish("", anonymous, 3, func(p *amqp.Publishing) { p.MessageId = "" })
	growing := queue(doctor.GrowingBacklog, "growing", m.with(nil))
	m.idle(growing, 1, false)
	m.publish("", growing, 20)
	m.grow(growing)

	// The delay networks of the toolkit.
	for _, kind := range []string{"quorum", "classic"} {
		if got := run(m.t, "", "topology", "apply", m.own(kind), "--type", kind); got.code != exitOK {
			m.t.Fatalf("%+v", got)
		}
	}
	expect(doctor.NetworkDamaged, "delay network of quorum queues")
	must(m.ch.QueueUnbind("wrn.v1.d250.L03", strings.Repeat("*.", 16)+"1.#", "wrn.v1.d250.L03", nil))
	expect(doctor.ClassicNetwork, "delay network of classic queues")
	expect(doctor.LostAndFound, "queue wrn.v1.lost")
	m.publish("wrn.v1.lost", "k", 1)
	return want
}

// paced gives every delivery back, some hundred a second.
func (m *managed) paced(deliveries <-chan amqp.Delivery) {
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for d := range deliveries {
			<-tick.C
			d.Nack(false, true) // an error ends the deliveries too
		}
	}()
}

// grow publishes to a queue until the test ends.
func (m *managed) grow(queue string) {
	ch := m.channel()
	if err := ch.Confirm(false); err != nil {
		m.t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, stop := context.WithCancel(m.t.Context())
	m.t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if ch.PublishWithContext(ctx, "", queue, false, false, amqp.Publishing{MessageId: "1", DeliveryMode: amqp.Persistent}) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (m *managed) serverBefore4() bool {
	m.t.Helper()
	conn, err := amqp.Dial(m.url)
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	s := topoplan.ServerOf(conn.Properties)
	return s.Product == "RabbitMQ" && strings.HasPrefix(s.Version, "3.")
}

// TestDoctorFindsWhatIsPlanted wants exactly what was planted. RabbitMQ's figures
// take some seconds until they are all there.
func TestDoctorFindsWhatIsPlanted(t *testing.T) {
	m := newManaged(t)
	want := m.plant()
	var missing, surplus []string
	for deadline := time.Now().Add(90 * time.Second); ; {
		report, _ := m.doctor("--sample", "3", "--backlog", "10")
		missing, surplus = nil, nil
		for _, w := range want {
			if !slices.ContainsFunc(report.Findings, func(f doctor.Finding) bool { return f.Check == w.check && f.Object == w.object }) {
				missing = append(missing, fmt.Sprint(w))
			}
		}
		for _, f := range report.Findings {
			if f.VHost != m.vhost || f.Seen == "" || f.Lost == "" || f.Mend == "" || !slices.Contains(want, planted{f.Check, f.Object}) {
				surplus = append(surplus, fmt.Sprintf("%+v", f))
			}
		}
		if len(missing)+len(surplus) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not found: %s\nfound besides: %s", strings.Join(missing, "\n"), strings.Join(surplus, "\n"))
		}
	}
	for _, c := range doctor.Checks() {
		if c.Name != doctor.ConsumerTimeout && !slices.ContainsFunc(want, func(p planted) bool { return p.check == c.Name }) {
			t.Errorf("%s has not been planted", c.Name)
		}
	}
}

// TestDoctorOnHandlersThatTakeLong: RabbitMQ waits 30 minutes, this broker for as
// long as it takes.
func TestDoctorOnHandlersThatTakeLong(t *testing.T) {
	m := newManaged(t)
	m.queue("dead", nil)
	work := m.queue("work", m.with(nil))
	m.idle(work, 10, false)
	eventually(t, func() bool {
		report, got := m.doctor("--handler-timeout", "45m")
		if os.Getenv(peerEnv) == "" {
			return got.code == exitOK
		}
		return len(report.Findings) == 1 && report.Findings[0].Check == doctor.ConsumerTimeout && report.Findings[0].Object == "queue "+work
	}, func() string { return "the finding is not as it should be" })
	if report, got := m.doctor("--handler-timeout", "10m"); got.code != exitOK {
		t.Errorf("%+v", report)
	}
}

// TestDoctorFindsNothingOnACleanBroker: programs that do it right, one with the
// toolkit and one with the official client.
func TestDoctorFindsNothingOnACleanBroker(t *testing.T) {
	m := newManaged(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	client, err := reliable.Open(ctx, reliable.ToURL(m.url), reliable.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(ctx)
	orders := reliable.Queue{Name: m.own("orders")}
	handled := make(chan string, 100)
	if _, err := reliable.Consume(ctx, client, orders, func(_ context.Context, msg *reliable.Message[string]) error {
		handled <- msg.Body
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p, err := reliable.NewPublisher[string](ctx, client, reliable.ToQueue(orders))
	if err != nil {
		t.Fatal(err)
	}
	m.queue("dead", nil)
	plain := m.queue("plain", m.with(nil))
	deliveries := m.idle(plain, 10, false)
	for range 10 {
		if err := p.Publish(ctx, "hello"); err != nil {
			t.Fatal(err)
		}
		m.publish("", plain, 1)
		<-handled
		d := <-deliveries
		if err := d.Ack(false); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if report, got := m.doctor("--sample", "10", "--backlog", "1"); got.code != exitOK {
			t.Errorf("%+v", report.Findings)
		}
	}
}

func TestDoctorOverAMQP(t *testing.T) {
	m := newManaged(t)
	m.queue("dead", nil)
	unused := m.queue("unused", m.with(nil))
	m.publish("", unused, 2, func(p *amqp.Publishing) { p.MessageId, p.DeliveryMode = "", amqp.Transient })
	got := run(t, "", "doctor", unused, "--interval", "0", "--sample", "5")
	for _, want := range []string{"LOSS: transient-messages", "RISK: no-consumer", "SUSPICION: no-message-id",
		"  where  queue " + unused + " in virtual host " + m.vhost + "\n", "3 findings in 1 queue over AMQP\n",
		"not examined: consumers, publishers,", "not examined: growing-backlog: it takes two looks"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is missing in\n%s", want, got.stdout)
		}
	}
	if got.code != exitFailed {
		t.Errorf("%+v", got)
	}
	d, ok, err := m.ch.Get(unused, true)
	if err != nil || !ok || !d.Redelivered {
		t.Errorf("sampling is said to mark messages redelivered: %v %v %v", ok, d.Redelivered, err)
	}
	if got := run(t, "", "doctor", m.own("dead"), "--interval", "0"); got.code != exitOK {
		t.Errorf("%+v", got)
	}
}

func TestDoctorCannotLook(t *testing.T) {
	t.Setenv(urlEnv, "amqp://guest:s3cret@127.0.0.1:1/")
	for args, want := range map[string]string{
		"":                            "warren: AMQP cannot list queues: give --api,",
		"q":                           "warren: cannot connect to amqp://guest@127.0.0.1:1/: ",
		"q --vhost x":                 "warren: --vhost goes with --api",
		"--sample 1000 q":             "warren: --sample must be from 0 to 100",
		"--interval 2h q":             "warren: --interval must be from 0 to 1h",
		"--backlog 0 q":               "warren: --backlog must be at least 1",
		"--api http://127.0.0.1:1":    "warren: cannot connect to http://127.0.0.1:1: connection refused",
		"--api amqp://127.0.0.1:5672": "warren: --api is not the URL of a management API",
	} {
		got := run(t, "", append([]string{"doctor"}, strings.Fields(args)...)...)
		if got.code != exitUsage || !strings.HasPrefix(got.stderr, want) || strings.Contains(got.stderr, "s3cret") {
			t.Errorf("%q: %+v, want %q", args, got, want)
		}
	}
	m := newManaged(t)
	got := run(t, "", "doctor", "--api", strings.Replace(m.api, "http://", "http://guest:s3cret@", 1))
	if got.code != exitUsage || !strings.Contains(got.stderr, `refuses the login of user "guest"`) || strings.Contains(got.stderr, "s3cret") {
		t.Errorf("%+v", got)
	}
	got = run(t, "", "doctor", m.own("missing"), "--api", m.api)
	if got.code != exitUsage || !strings.Contains(got.stderr, "there is no queue "+m.own("missing")) {
		t.Errorf("%+v", got)
	}
}

// TestDoctorsCommandsMend carries out what the findings say. On RabbitMQ some of it
// is rabbitmqctl's.
func TestDoctorsCommandsMend(t *testing.T) {
	m := newManaged(t)
	m.queue("nodlx", nil)
	m.queue("endless", amqp.Table{"x-queue-type": "quorum", "x-max-length": 500})
	if !m.serverBefore4() {
		m.queue("endless2", amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": -1, "x-overflow": "reject-publish"})
	}
	m.queue("alo", amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 5, "x-dead-letter-strategy": "at-least-once"})
	m.queue("nowhere", amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": m.own("missing")})
	if err := m.ch.ExchangeDeclare(m.own("unbound"), "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	m.queue("nowhere2", amqp.Table{"x-dead-letter-exchange": m.own("unbound")})
	report, _ := m.doctor()
	if len(report.Findings) < 6 {
		t.Errorf("%+v", report.Findings)
	}
	done := map[string]bool{}
	for _, f := range report.Findings {
		mend, _, _ := strings.Cut(f.Mend, " (")
		for command := range strings.SplitSeq(mend, " && ") {
			words := strings.Fields(strings.ReplaceAll(command, "'", ""))
			if words[0] != "warren" || done[command] {
				continue
			}
			done[command] = true
			if got := run(t, "", words[1:]...); got.code != exitOK {
				t.Errorf("%s: %+v", command, got)
			}
		}
	}
	if os.Getenv(peerEnv) != "" {
		return
	}
	if report, _ := m.doctor(); len(report.Findings) > 0 {
		t.Errorf("after mending: %+v", report.Findings)
	}
}
