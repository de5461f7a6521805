package reliable

import (
	"errors"
	"fmt"
	"time"
)

// verdict is what becomes of a delivered message.
type verdict int

const (
	toAck    verdict = iota
	toRetry          // a copy later, attempt + 1
	toDead           // a copy in the dead-letter queue
	toDrop           // acknowledged although it failed
	toSnooze         // a copy later, same attempt
	toPause          // as toSnooze, and the consumer stops
)

// decision is an error that says what is to become of the message.
type decision struct {
	verdict verdict
	err     error // nil for Snooze
	delay   time.Duration
	exact   bool   // the delay is the handler's wish, even if it is zero
	reason  string // for toDead
}

func (d *decision) Error() string {
	switch d.verdict {
	case toRetry:
		return fmt.Sprintf("retry after %v: %v", d.delay, d.err)
	case toDead:
		return "permanent: " + d.err.Error()
	case toDrop:
		return "drop: " + d.err.Error()
	case toSnooze:
		return fmt.Sprintf("snooze for %v", d.delay)
	}
	return fmt.Sprintf("pause for %v: %v", d.delay, d.err)
}

func (d *decision) Unwrap() error { return d.err }

// given replaces an error that is nil, which says that somebody has wrapped
// nothing: the message failed all the same.
func given(err error) error {
	if err == nil {
		return errors.New("no error was given")
	}
	return err
}

// Permanent says that trying again is of no use: the message becomes a dead letter
// now.
func Permanent(err error) error {
	return &decision{verdict: toDead, err: given(err), reason: ReasonPermanent}
}

// RetryAfter is a failure whose next attempt is due after d, whatever the policy
// says, for example what an HTTP server asked for by Retry-After. It counts as an
// attempt. At most MaxDelay.
func RetryAfter(err error, d time.Duration) error {
	return &decision{verdict: toRetry, err: given(err), delay: d, exact: true}
}

// Snooze says that it is too early: the message comes again after d, which does
// not count as an attempt. At most MaxDelay.
func Snooze(d time.Duration) error { return &decision{verdict: toSnooze, delay: d} }

// Drop gives the message up: it is acknowledged, and the error logged.
func Drop(err error) error { return &decision{verdict: toDrop, err: given(err)} }

// Pause says that nothing can be done for now, for example because a database is
// away: the message is given back without counting an attempt, and the consumer
// takes no messages for d. At most MaxDelay.
func Pause(err error, d time.Duration) error {
	return &decision{verdict: toPause, err: given(err), delay: d}
}

// PanicError is a panic of a handler. It counts as any other error.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // where
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
