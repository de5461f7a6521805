package demo

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sabotaged is a run with something broken, and what must come of it.
type sabotaged struct {
	name     string
	sabotage sabotage
	step     int
	text     string // of one of the mismatches

	options Options
	lesson  *lesson
	err     error
	out     bytes.Buffer
}

func (s *sabotaged) run(t *testing.T) {
	s.options.Out, s.options.sabotage = &s.out, s.sabotage
	s.options.limits.patience = time.Second
	s.lesson, s.err = tell(t, t.Context(), s.options)
}

func (s *sabotaged) check(t *testing.T) {
	var mismatch *MismatchError
	if !asError(s.err, &mismatch) {
		t.Fatalf("error %v, want a mismatch", s.err)
	}
	if !slices.ContainsFunc(mismatch.Mismatches, func(m Mismatch) bool {
		return m.Step == s.step && strings.Contains(m.Text, s.text)
	}) {
		t.Errorf("no mismatch of step %d says %q:\n%v", s.step, s.text, s.err)
	}
	for _, m := range mismatch.Mismatches {
		if m.Step != s.step {
			t.Errorf("step %d is blamed: %s", m.Step, m.Text)
		}
	}
	for _, r := range s.lesson.report.Steps {
		if r.OK != (r.Number != s.step) {
			t.Errorf("step %d: ok is %v", r.Number, r.OK)
		}
	}
	if !strings.Contains(s.out.String(), "FAIL ") {
		t.Error("the story shows no failure")
	}
	wantGone(t, s.options, s.lesson.names)
}

// TestSabotage breaks each step in several ways. The run must come to its end,
// return an error that names the step and what is wrong, blame no other step, and
// leave nothing behind.
func TestSabotage(t *testing.T) {
	cases := []sabotaged{
		{name: "a routed message is lost", sabotage: sabotage{loseBinding: true}, step: 1, text: "topic order.eu.created went to [audit], but its bindings say [audit, europe]"},
		{name: "a message is routed too far", sabotage: sabotage{leakBinding: true}, step: 1, text: "topic order.us.paid went to [audit, billing, europe]"},
		{name: "a confirm is ignored", sabotage: sabotage{ignoreConfirm: true}, step: 2, text: "50 confirmed != 51 published"},
		{name: "the slip of the pen is a queue", sabotage: sabotage{fixSlip: true}, step: 2, text: "was not returned before its confirm"},
		{name: "a consumer holds more than its prefetch", sabotage: sabotage{noPrefetch: true}, step: 3, text: "slow at most 60"},
		{name: "the fast consumer does not take the rest", sabotage: sabotage{everyoneSlow: true}, step: 3, text: "the fast consumer took the rest"},
		{name: "a consumer acks before it works", sabotage: sabotage{ackBeforeCrash: true}, step: 4, text: "it died holding "},
		{name: "an ack is lost", sabotage: sabotage{loseAck: true}, step: 4, text: "7 acked + 0 moved on + 4 cut off != 12 delivered"},
		{name: "a lost ack leaves its message behind", sabotage: sabotage{loseAck: true}, step: 4, text: "1 left in "},
		{name: "the malformed message is acked", sabotage: sabotage{hideMalformed: true}, step: 5, text: "the malformed message among the dead letters did not arrive"},
		{name: "the dead letter is thrown away", sabotage: sabotage{skipRepair: true}, step: 5, text: "0 of 1 dead letters repaired"},
		{name: "the delay does not grow", sabotage: sabotage{flatRetry: true}, step: 6, text: "each time longer"},
		{name: "the last failure is acked", sabotage: sabotage{giveUpEarly: true}, step: 6, text: "the hopeless message among the dead letters did not arrive"},
		{name: "the retries never end", sabotage: sabotage{noLimit: true}, step: 6, text: "the hopeless message among the dead letters did not arrive"},
		{name: "a duplicate is handled twice", sabotage: sabotage{handleDuplicates: true}, step: 7, text: "50.00, as it should be 40.00"},
	}
	// The runs mostly wait, for a slow consumer and for delays: all at once they
	// take hardly longer than one.
	var running sync.WaitGroup
	for i := range cases {
		cases[i].options = testBroker(t)
		running.Go(func() { cases[i].run(t) })
	}
	running.Wait()
	for i := range cases {
		t.Run(cases[i].name, cases[i].check)
	}
}
