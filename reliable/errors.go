package reliable

import (
	"errors"
	"fmt"
	"strings"
)

// What can become of a publish. Test with errors.Is; a *PublishError around them
// has the details.
var (
	// ErrUnroutable: the broker took the message and no queue wanted it, or its
	// exchange does not exist. It is not stored anywhere.
	ErrUnroutable = errors.New("unroutable")
	// ErrNacked: the broker refused the message, for example because the queue is
	// full (basic.nack), or because it is larger than the broker allows.
	ErrNacked = errors.New("refused by the broker")
	// ErrUnconfirmed: the deadline came before the confirm. Unless
	// PublishError.Sent is false, the message may or may not be in its queue:
	// publish it again with the same id.
	ErrUnconfirmed = errors.New("unconfirmed")
	// ErrBlocked: nothing was sent, because the broker accepts no publishes
	// (connection.blocked: its memory or disk is low).
	ErrBlocked = errors.New("the broker blocks publishers")
	// ErrClosed: the publisher or client is closed. Unless PublishError.Sent is
	// true, nothing was sent.
	ErrClosed = errors.New("closed")
)

// PublishError says what became of a message that was not confirmed.
// errors.Is finds its kind, and the cause too: context.DeadlineExceeded, or the
// *amqp.Error that the broker closed the channel with.
type PublishError struct {
	Kind          error  // ErrUnroutable, ErrNacked, ErrUnconfirmed, ErrBlocked or ErrClosed
	ID            string // the message id: with it the message can be published again
	Exchange, Key string
	Sent          bool  // the message, or a part of it, may have reached the broker
	Cause         error // nil if Kind says it all
}

func (e *PublishError) Error() string {
	to := fmt.Sprintf("exchange %q with key %q", e.Exchange, e.Key)
	if e.Exchange == "" {
		to = fmt.Sprintf("queue %q", e.Key)
	}
	text := fmt.Sprintf("publish %s to %s: %v", e.ID, to, e.Kind)
	if e.Kind == ErrUnconfirmed && !e.Sent {
		text += " (not sent)"
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap lets errors.Is and errors.As see the kind and the cause.
func (e *PublishError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// BatchError says which of several messages failed. It is returned by PublishAll,
// and a batch handler returns one to decide message by message.
type BatchError struct {
	// Errs has the error of each message that failed, by its position in the
	// batch, counted from 0.
	Errs map[int]error
}

func (e *BatchError) Error() string {
	var first []string
	for i := 0; len(first) < min(3, len(e.Errs)); i++ {
		if err := e.Errs[i]; err != nil {
			first = append(first, fmt.Sprintf("message %d: %v", i, err))
		}
	}
	return fmt.Sprintf("%d messages of the batch failed: %s", len(e.Errs), strings.Join(first, "; "))
}

// Unwrap lets errors.Is and errors.As see every error.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, 0, len(e.Errs))
	for _, err := range e.Errs {
		errs = append(errs, err)
	}
	return errs
}
