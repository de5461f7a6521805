package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/warrenmq/warren/reliable"
)

const (
	attempts   = 4
	firstDelay = reliable.DelayUnit
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
		why: "What fails now may work later, but hammering makes an outage worse. So a copy goes " +
			"to a delay queue, which has no consumer: its messages expire (TTL) and the broker " +
			"moves them back to work. Each failure leads to a longer wait; after the last " +
			"attempt, to the dead letters.",
		run: runRetry,
	}
}

// mail is the body of this step's messages.
type mail struct {
	To string `json:"to"`
}

// errMailServer is why mails fail.
var errMailServer = errors.New("the mail server does not answer")

// policy is how mails are tried again.
func (s *stage) policy() reliable.RetryPolicy {
	var delays []time.Duration
	for n := 1; n < attempts; n++ {
		delays = append(delays, plannedDelay(n))
	}
	policy := reliable.RetryPolicy{MaxAttempts: attempts, Backoff: reliable.Schedule(delays...)}
	if s.sabotage.flatRetry {
		policy.Backoff = reliable.Schedule(firstDelay)
	}
	if s.sabotage.noLimit {
		policy.MaxAttempts = 1000
	}
	return policy
}

func runRetry(ctx context.Context, s *stage) error {
	p, err := s.connect(ctx)
	if err != nil {
		return err
	}
	queue, err := s.workQueue(p, "mails")
	if err != nil {
		return err
	}
	out, err := publish[mail](ctx, s, p, reliable.ToQueue(queue))
	if err != nil {
		return err
	}
	s.doing = "publishing mails"
	for _, id := range []string{flakyID, hopelessID} {
		if err := out.publish(ctx, id, mail{"ada@example.org"}, 1); err != nil {
			return err
		}
	}
	c, err := consume[mail](ctx, s, p, queue, reliable.Retry(s.policy()))
	if err != nil {
		return err
	}
	m := mailer{stage: s, c: c, failedAt: map[string]time.Time{}, delays: map[string][]time.Duration{}}
	if err := m.run(ctx); err != nil {
		return err
	}
	m.checkDelays(flakyID, flakySucceeds-1)
	m.checkDelays(hopelessID, attempts-1)
	return m.checkGrave(ctx, p.client.DeadLetters(queue))
}

// mailer is the consumer of the retry step: it fails on purpose and measures how
// long each message stays away.
type mailer struct {
	*stage
	c        *consumer[mail]
	failedAt map[string]time.Time
	delays   map[string][]time.Duration
}

// run handles the deliveries that the plan foresees: three of the flaky message
// and one per attempt of the hopeless one.
func (m *mailer) run(ctx context.Context) error {
	for range flakySucceeds + attempts {
		a, err := m.c.awaitDelayed(ctx, m.stage, "the next attempt", plannedDelay(attempts-1))
		if err != nil {
			return err
		}
		m.attempt(a)
	}
	return nil
}

// attempt handles one delivery. Which attempt it is stands on the message, so no
// consumer has to remember it.
func (m *mailer) attempt(a *arrival[mail]) {
	n := a.Attempt
	after := ""
	data := map[string]any{"id": a.ID, "attempt": n}
	if failed, ok := m.failedAt[a.ID]; ok {
		measured := a.at.Sub(failed)
		m.delays[a.ID] = append(m.delays[a.ID], measured)
		planned := plannedDelay(n - 1)
		after = fmt.Sprintf(" after %d ms (planned %d)", measured.Milliseconds(), planned.Milliseconds())
		data["plannedMs"], data["measuredMs"] = planned.Milliseconds(), milliseconds(measured)
	}
	if a.ID == flakyID && n == flakySucceeds {
		data["ok"] = true
		m.note("attempt", data, "%-13s attempt %d%s: works", a.ID, n, after)
		m.c.finish(a)
		return
	}
	data["ok"] = false
	m.note("attempt", data, "%-13s attempt %d%s: fails", a.ID, n, after)
	if m.sabotage.giveUpEarly && n == attempts {
		m.c.decide(a, nil)
		return
	}
	m.failedAt[a.ID] = time.Now() // before the decision, so that the delay cannot seem too short
	m.c.decide(a, errMailServer)
}

// checkDelays compares the measured delays with the plan: as many, none shorter
// than planned, each longer than the one before.
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
	m.check(ok, "%s stayed away %s ms, each time longer and at least as planned (%s ms)", id, strings.Join(shown, ", "), strings.Join(planned, ", "))
}

// checkGrave looks at the hopeless message among the dead letters: it must tell its
// whole life.
func (m *mailer) checkGrave(ctx context.Context, dead *reliable.DeadLetters) error {
	d, err := m.scan(ctx, dead, "the hopeless message")
	if err != nil {
		return err
	}
	m.note("dead-lettered", map[string]any{"id": d.ID, "reason": d.Reason, "error": d.Error, "attempts": d.Attempts, "history": d.History},
		"among the dead letters is %s; its history:", d.ID)
	for _, f := range d.History {
		m.note("history", nil, "  attempt %d: %s", f.Number, f.Error)
	}
	waits := len(m.delays[hopelessID])
	m.check(d.ID == hopelessID && d.Reason == reliable.ReasonAttempts && d.Attempts == attempts && len(d.History) == attempts && waits == attempts-1,
		"%s: %d failures in %d attempts, %d waits, and then an end", d.ID, len(d.History), d.Attempts, waits)
	m.doing = "removing a dead letter"
	_, err = dead.Purge(ctx, reliable.Filter{IDs: []string{hopelessID}}, reliable.PurgeOptions{})
	return err
}
