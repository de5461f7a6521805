package reliable

import (
	"context"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Receipt is a message on its way to the broker.
type Receipt struct {
	exchange, key string
	message       amqp.Publishing

	mu      sync.Mutex
	done    chan struct{} // made when somebody wants to wait
	settled bool
	err     error // the outcome, once settled

	confirm   *amqp.DeferredConfirmation // of the latest try
	tries     int                        // how often it was written or begun; the lane's mutex guards it
	abandoned atomic.Bool                // nobody waits: it is not sent again
	observed  func(error)                // the observer's, nil if there is none
}

// ID is the message's id.
func (r *Receipt) ID() string { return r.message.MessageId }

// Done is closed when the outcome is known.
func (r *Receipt) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.settled {
			close(r.done)
		}
	}
	return r.done
}

// Err is the outcome once Done is closed: nil if the message is in a queue, else a
// *PublishError. Before that it is nil, too.
func (r *Receipt) Err() error {
	_, err := r.outcome()
	return err
}

func (r *Receipt) outcome() (settled bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled, r.err
}

// resolve sets the outcome. It is called once.
func (r *Receipt) resolve(err error) {
	if r.observed != nil {
		r.observed(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled, r.err = true, err
	if r.done != nil {
		close(r.done)
	}
}

// Wait waits for the outcome, or until ctx ends: then it is ErrUnconfirmed. The
// message goes on its way all the same, and Wait can be called again.
func (r *Receipt) Wait(ctx context.Context) error {
	if settled, err := r.outcome(); settled {
		return err
	}
	select {
	case <-r.Done():
		return r.Err()
	case <-ctx.Done():
		return r.failure(ErrUnconfirmed, true, context.Cause(ctx))
	}
}

func (r *Receipt) failure(kind error, sent bool, cause error) error {
	return &PublishError{Kind: kind, ID: r.message.MessageId, Exchange: r.exchange, Key: r.key, Sent: sent, Cause: cause}
}
