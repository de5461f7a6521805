package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// step is one part of the lesson.
type step struct {
	name  string // one or two words, for tables and errors
	title string
	why   string // the point
	run   func(ctx context.Context, s *stage) error
}

// steps lists the lesson in order.
func (l *lesson) steps() []step {
	list := []step{
		routingStep(),
		confirmsStep(),
		backpressureStep(),
		crashStep(),
		deadLetterStep(),
		retryStep(),
		duplicateStep(),
	}
	if l.kill != nil {
		list = append(list, killStep())
	}
	return list
}

// stage is what a step plays on: its counts, its connections, its queues.
type stage struct {
	*lesson
	number     int
	step       step
	ledger     *ledger
	programs   []*program
	queues     []string
	mismatches []Mismatch
	doing      string // what is being waited for, for the text of a timeout
}

// errMissing ends a step whose story cannot go on; the mismatch says why.
var errMissing = errors.New("what the step waited for did not happen")

// play runs the step within its deadline, then checks that its numbers balance
// and that its queues are empty.
func (s *stage) play(parent context.Context) error {
	ctx, cancel := context.WithTimeout(parent, s.limits.step)
	defer cancel()
	// The client's calls know no context: cutting the line makes them return.
	stop := context.AfterFunc(ctx, s.control.close)
	defer stop()

	s.tell.step(s.number, len(s.steps()), s.step)
	err := s.step.run(ctx, s)
	if errors.Is(err, errMissing) {
		err = nil
	}
	if err == nil {
		err = s.checkConnections()
	}
	s.closePrograms(ctx)
	if err == nil {
		s.checkBalances()
		err = s.checkQueuesEmpty(ctx)
	}
	if err == nil {
		return nil
	}
	where := fmt.Sprintf("step %d (%s)", s.number, s.step.name)
	switch {
	case parent.Err() != nil:
		return fmt.Errorf("%s: interrupted: %w", where, context.Cause(parent))
	case ctx.Err() != nil:
		return fmt.Errorf("%s: no answer from the broker within %v while %s%s",
			where, s.limits.step, s.doing, s.blockedReason())
	}
	return fmt.Errorf("%s: %s: %w", where, s.doing, plain(err))
}

// blockedReason explains a silence that the broker announced itself.
func (s *stage) blockedReason() string {
	for _, p := range s.programs {
		if text := p.blocked(); text != "" {
			return text
		}
	}
	return ""
}

// checkConnections finds a program that has lost its connection against the plan.
func (s *stage) checkConnections() error {
	for _, p := range s.programs {
		if err := p.lost(); err != nil {
			return err
		}
	}
	return nil
}

// closePrograms ends all of them at the same time. If the step's time is over they
// have no reason to wait for the broker.
func (s *stage) closePrograms(ctx context.Context) {
	var closing sync.WaitGroup
	for _, p := range s.programs {
		if ctx.Err() != nil {
			p.die()
		}
		closing.Go(p.close)
	}
	closing.Wait()
}

// depth is the number of messages ready in a queue, as the broker counts them.
func (s *stage) depth(queue string) (int, error) {
	s.doing = "asking how many messages wait in " + queue
	q, err := s.control.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		return 0, err
	}
	return q.Messages, nil
}

// awaitDepth polls until exactly want messages are ready, and returns the last
// number seen. Counts follow settlements with a small delay on any broker.
func (s *stage) awaitDepth(ctx context.Context, queue string, want int) (int, error) {
	var got int
	_, err := eventually(ctx, s.limits.patience, func() (bool, error) {
		var err error
		got, err = s.depth(queue)
		return got == want, err
	})
	return got, err
}

// checkQueuesEmpty finds messages nobody settled: with every connection of the
// step closed, they are ready again.
func (s *stage) checkQueuesEmpty(ctx context.Context) error {
	for _, queue := range s.queues {
		left, err := s.awaitDepth(ctx, queue, 0)
		if err != nil {
			return err
		}
		if left != 0 {
			s.fail("%d left in %s that nobody settled", left, queue)
		}
	}
	return nil
}

func (s *stage) checkBalances() {
	t := s.ledger.snapshot()
	for _, b := range balances() {
		if !b.holds(t) {
			s.fail("%s", b.render(t))
		}
	}
}

// note tells one thing that happened; data is for machines.
func (s *stage) note(kind string, data map[string]any, format string, args ...any) {
	s.tell.note(s.number, kind, data, fmt.Sprintf(format, args...))
}

// check tells that something holds, or records that it does not. The text must
// carry the numbers, so that it explains either case.
func (s *stage) check(ok bool, format string, args ...any) {
	if !ok {
		s.fail(format, args...)
		return
	}
	s.tell.check(s.number, true, fmt.Sprintf(format, args...))
}

func (s *stage) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mismatches = append(s.mismatches, Mismatch{Step: s.number, Name: s.step.name, Text: text})
	s.tell.check(s.number, false, text)
}

// eventually polls cond every few milliseconds until it holds, fails, or the time
// is over; the last two are distinguished by the error.
func eventually(ctx context.Context, within time.Duration, cond func() (bool, error)) (bool, error) {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return ok, err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return cond()
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}
