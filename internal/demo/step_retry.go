package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	attempts   = 4
	firstDelay = 200 * time.Millisecond
	// The two messages of the step: one works at last, the other never does.
	flakyID       = "mail-flaky"
	hopelessID    = "mail-hopeless"
	flakySucceeds = 3 // on this attempt
)

// plannedDelay is how long a message waits after failing the nth time, from 1.
func plannedDelay(failure int) time.Duration { return firstDelay << (failure - 1) }

func retryStep() step {
	return step{
		name:  "retries",
		title: "Retries with growing delays, and an end to them",
		why: "What fails now may work later, but hammering makes an outage worse. A delay queue " +
			"has no consumer: its messages expire (TTL) and the broker moves them back to work. " +
			"Each failure leads to a slower queue; after the last attempt, to the dead letters.",
		run: runRetry,
	}
}

// retryTopology is a work queue whose rejected messages the broker moves on by
// itself. The routing key carries the attempt: work's dead-letter exchange keeps
// the key and leads attempt.N to the Nth delay queue, whose own dead-lettering
// sets attempt.N+1. So no message is ever copied by a client, which could die in
// between, and x-death grows complete. The broker's cycle rule, which drops a
// message that goes round by itself, does not apply: every round has a rejection.
type retryTopology struct {
	exchange, work, dead string
	delays               []string // delay queues, by failure
}

func attemptKey(n int) string { return fmt.Sprintf("attempt.%d", n) }

func (s *stage) retryTopology() (retryTopology, error) {
	var t retryTopology
	var err error
	if t.exchange, err = s.exchange("mails", "direct"); err != nil {
		return t, err
	}
	failed, err := s.exchange("mails-failed", "direct")
	if err != nil {
		return t, err
	}
	if t.work, err = s.queue("mails", amqp.Table{"x-dead-letter-exchange": failed}); err != nil {
		return t, err
	}
	for n := 1; n <= attempts; n++ {
		if err := s.bind(t.work, attemptKey(n), t.exchange, nil); err != nil {
			return t, err
		}
		if n == attempts {
			break
		}
		delay := plannedDelay(n)
		if s.sabotage.flatRetry {
			delay = firstDelay
		}
		q, err := s.queue(fmt.Sprintf("mails-wait-%dms", plannedDelay(n).Milliseconds()), amqp.Table{
			"x-message-ttl":             delay.Milliseconds(),
			"x-dead-letter-exchange":    t.exchange,
			"x-dead-letter-routing-key": attemptKey(n + 1),
		})
		if err != nil {
			return t, err
		}
		t.delays = append(t.delays, q)
		if err := s.bind(q, attemptKey(n), failed, nil); err != nil {
			return t, err
		}
	}
	if t.dead, err = s.queue("mails-dead", nil); err != nil {
		return t, err
	}
	last := t.dead
	if s.sabotage.noLimit {
		last = t.delays[0]
	}
	return t, s.bind(last, attemptKey(attempts), failed, nil)
}

func runRetry(ctx context.Context, s *stage) error {
	t, err := s.retryTopology()
	if err != nil {
		return err
	}
	p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	s.doing = "publishing mails"
	for _, id := range []string{flakyID, hopelessID} {
		if err := p.publish(ctx, message{exchange: t.exchange, key: attemptKey(1), id: id, body: `{"to":"ada@example.org"}`, copies: 1}); err != nil {
			return err
		}
	}
	c, err := s.consumer(ctx, t.work, 10)
	if err != nil {
		return err
	}
	m := mailer{stage: s, c: c, topology: t, failedAt: map[string]time.Time{}, delays: map[string][]time.Duration{}}
	if err := m.run(ctx); err != nil {
		return err
	}
	m.checkDelays(flakyID, flakySucceeds-1)
	m.checkDelays(hopelessID, attempts-1)
	return s.checkGrave(ctx, t)
}

// mailer is the consumer of the retry step: it fails on purpose and measures how
// long each message stays away.
type mailer struct {
	*stage
	c        *consumer
	topology retryTopology
	failedAt map[string]time.Time
	delays   map[string][]time.Duration
}

// run handles the deliveries that the plan foresees: three of the flaky message
// and one per attempt of the hopeless one.
func (m *mailer) run(ctx context.Context) error {
	for range flakySucceeds + attempts {
		d, err := m.next(ctx, m.c, "the next attempt")
		if err != nil {
			return err
		}
		if err := m.attempt(d); err != nil {
			return err
		}
	}
	return nil
}

// attempt handles one delivery. Which attempt it is says the broker's own count of
// rejections, which no publisher can forge and no consumer has to keep.
func (m *mailer) attempt(d delivery) error {
	n := 1 + died(deaths(d.Headers), m.topology.work, "rejected")
	after := ""
	data := map[string]any{"id": d.MessageId, "attempt": n}
	if failed, ok := m.failedAt[d.MessageId]; ok {
		measured := d.at.Sub(failed)
		m.delays[d.MessageId] = append(m.delays[d.MessageId], measured)
		planned := plannedDelay(n - 1)
		after = fmt.Sprintf(" after %d ms (planned %d)", measured.Milliseconds(), planned.Milliseconds())
		data["plannedMs"], data["measuredMs"] = planned.Milliseconds(), milliseconds(measured)
	}
	if d.MessageId == flakyID && n == flakySucceeds {
		data["ok"] = true
		m.note("attempt", data, "%-13s attempt %d%s: works", d.MessageId, n, after)
		return m.c.finish(d)
	}
	data["ok"] = false
	m.note("attempt", data, "%-13s attempt %d%s: fails", d.MessageId, n, after)
	if m.sabotage.giveUpEarly && n == attempts {
		return m.c.ack(d)
	}
	m.failedAt[d.MessageId] = time.Now() // before the nack, so that the delay cannot seem too short
	return m.c.nack(d)
}

// checkDelays compares the measured delays with the plan: as many, none shorter
// than its TTL, each longer than the one before.
func (m *mailer) checkDelays(id string, want int) {
	got := m.delays[id]
	ok := len(got) == want
	shown := make([]string, len(got))
	for i, d := range got {
		shown[i] = fmt.Sprint(d.Milliseconds())
		ok = ok && d >= plannedDelay(i+1) && (i == 0 || d > got[i-1])
	}
	planned := make([]string, want)
	for i := range planned {
		planned[i] = fmt.Sprint(plannedDelay(i + 1).Milliseconds())
	}
	m.check(ok, "%s stayed away %s ms, each time longer and at least its TTL (%s ms)", id, strings.Join(shown, ", "), strings.Join(planned, ", "))
}

// checkGrave looks at the hopeless message in the dead-letter queue: x-death must
// tell its whole life.
func (s *stage) checkGrave(ctx context.Context, t retryTopology) error {
	morgue, err := s.consumer(ctx, t.dead, 10)
	if err != nil {
		return err
	}
	d, err := s.next(ctx, morgue, "the hopeless message in the dead-letter queue")
	if err != nil {
		return err
	}
	history := deaths(d.Headers)
	s.note("dead-lettered", map[string]any{"id": d.MessageId, "xDeath": history}, "in the dead-letter queue lies %s; its x-death:", d.MessageId)
	for _, e := range history {
		s.note("x-death", nil, "  %-8s %dx in %s", e.Reason, e.Count, s.short(e.Queue))
	}
	expired := 0
	for _, q := range t.delays {
		expired += died(history, q, "expired")
	}
	rejected := died(history, t.work, "rejected")
	newest := slices.IndexFunc(history, func(e death) bool { return e.Reason == "rejected" && e.Queue == t.work })
	s.check(d.MessageId == hopelessID && newest == 0 && rejected == attempts && expired == len(t.delays),
		"%s: %d rejections in %d attempts, %d waits, and then an end", d.MessageId, rejected, attempts, expired)
	return morgue.ack(d)
}
