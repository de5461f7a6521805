package reliable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
)

// Transactor is a store that keeps its record in the same transaction as the
// handler's effect. The stores of sqlstore and boltstore are.
type Transactor interface {
	dedup.Store
	// InTx begins a transaction and takes the message in it, as Begin and Complete
	// at once. If the claim is Acquired it calls handle, with a context from which
	// the store's TxFrom gets the transaction, and commits if handle returns nil;
	// in all other cases it rolls back. Its error is handle's, or its own.
	InTx(ctx context.Context, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes, handle func(context.Context) error) (dedup.Claim, error)
}

const (
	defaultLease = 30 * time.Second
	defaultKeep  = 14 * 24 * time.Hour
	// storePause is how long a consumer pauses when its store does not answer.
	storePause = 5 * time.Second
	// storeTries is how often the end of a claim is written before it is left to
	// its lease.
	storeTries = 3
)

// idempotence is how a consumer recognizes what it has handled.
type idempotence struct {
	name  string
	store dedup.Store
	tx    Transactor // nil unless InTx
	life  dedup.Lifetimes
	key   func(*Delivery) string
	noID  bool // messages without a key are handled
}

// IdempotentOption changes how duplicates are recognized.
type IdempotentOption func(*idempotence)

// DedupKey recognizes messages by a key of the business instead of their id, so
// that two messages for the same thing take effect once.
func DedupKey(key func(*Delivery) string) IdempotentOption {
	return func(i *idempotence) { i.key = key }
}

// Lease is how long a message stays taken by a consumer that has died. It is
// renewed while the handler runs. 30 s unless set, at least 1 s.
func Lease(d time.Duration) IdempotentOption { return func(i *idempotence) { i.life.Lease = d } }

// Keep is how long it is remembered that a message was handled. It should be
// longer than all retries and the time that dead letters wait. 14 days unless set.
func Keep(d time.Duration) IdempotentOption { return func(i *idempotence) { i.life.Keep = d } }

// AcceptNoID has messages without an id handled each time they come. Without it
// they become dead letters with ReasonNoID.
func AcceptNoID() IdempotentOption { return func(i *idempotence) { i.noID = true } }

// Idempotent has each message handled once, as far as the store can tell: a
// duplicate of one that was handled is acknowledged and not handled. name is the
// consumer's, the same in all its processes and after a restart.
//
// If the program dies between the handler's effect and the store's record, the
// message is handled again. Only InTx closes this gap.
func Idempotent(name string, store dedup.Store, options ...IdempotentOption) ConsumeOption {
	return func(c *consumeConfig) { c.once = newIdempotence(name, store, nil, options) }
}

// InTx is Idempotent with exact effects: the handler writes in a transaction that
// it gets by sqlstore.TxFrom or boltstore.TxFrom from its context, and the record
// that the message was handled is committed with it. What the handler does
// elsewhere can happen twice.
func InTx(name string, store Transactor, options ...IdempotentOption) ConsumeOption {
	return func(c *consumeConfig) { c.once = newIdempotence(name, store, store, options) }
}

func newIdempotence(name string, store dedup.Store, tx Transactor, options []IdempotentOption) *idempotence {
	i := &idempotence{name: name, store: store, tx: tx, life: dedup.Lifetimes{Lease: defaultLease, Keep: defaultKeep},
		key: func(d *Delivery) string { return d.ID }}
	for _, o := range options {
		o(i)
	}
	return i
}

func (i *idempotence) validate() error {
	if i.store == nil {
		return errors.New("reliable: Idempotent and InTx want a store, not nil")
	}
	if i.life.Lease < time.Second {
		return fmt.Errorf("reliable: a lease of %v: at least 1s", i.life.Lease)
	}
	if err := dedup.CheckBegin(dedup.Key{Consumer: i.name, ID: "x"}, dedup.Attempt{Number: 1}, i.life); err != nil {
		return fmt.Errorf("reliable: %w", err)
	}
	return nil
}

// attemptOf is the fence of a delivery.
func attemptOf(d *Delivery) dedup.Attempt {
	return dedup.Attempt{Generation: d.Generation, Number: d.Attempt}
}

// errNotOurs says that the message is settled otherwise than by its handler.
var errNotOurs = errors.New("the handler was not called")

// once calls the handler unless the message was handled before. If the error is
// errNotOurs, it has settled the message.
func (c *Consumer) once(t *task) error {
	once := c.config.once
	key := dedup.Key{Consumer: once.name, ID: keyOf(once.key, t.d)}
	switch {
	case key.ID == "" && once.noID:
		return c.try(c.work, t.d)
	case key.ID == "":
		return &decision{verdict: toDead, reason: ReasonNoID, err: errors.New("the message has no id to be recognized by: set message_id when publishing, or use DedupKey")}
	case len(key.ID) > dedup.MaxKeyBytes:
		return Permanent(fmt.Errorf("the key to recognize the message by has %d bytes, at most %d are possible", len(key.ID), dedup.MaxKeyBytes))
	}
	t.key = key
	if once.tx != nil {
		return c.inTx(t)
	}
	claim, err := once.store.Begin(c.work, key, t.at, once.life)
	if err != nil {
		return c.storeFailed(err)
	}
	if claim.Status != dedup.Acquired {
		return c.foreign(t, claim)
	}
	held, release := dedup.Hold(c.work, once.store, claim, c.client.config.Clock)
	err = c.try(held, t.d)
	lost := errors.Is(context.Cause(held), dedup.ErrLost)
	release()
	if lost {
		return c.foreign(t, dedup.Claim{Status: dedup.InProgress, Left: once.life.Lease})
	}
	t.claim, t.held = claim, true
	if err == nil {
		return c.complete(t)
	}
	return err
}

// inTx calls the handler in a transaction of the store's.
func (c *Consumer) inTx(t *task) error {
	once := c.config.once
	called := false
	var failed error
	claim, err := once.tx.InTx(c.work, t.key, t.at, once.life, func(ctx context.Context) error {
		called = true
		failed = c.try(ctx, t.d)
		return failed
	})
	switch {
	case failed != nil:
		t.fence = true
		return failed
	case err != nil && !called:
		return c.storeFailed(err)
	case err != nil: // the commit failed, or nobody knows: the next delivery finds out
		return Snooze(storePause)
	case claim.Status != dedup.Acquired:
		return c.foreign(t, claim)
	}
	return nil
}

// storeFailed pauses the consumer: without the store it can handle nothing.
func (c *Consumer) storeFailed(err error) error {
	if c.work.Err() != nil {
		return ErrDraining
	}
	return Pause(fmt.Errorf("the store of handled messages: %w", err), storePause)
}

// foreign settles a message that was handled before, or that another consumer
// handles now.
func (c *Consumer) foreign(t *task, claim dedup.Claim) error {
	if claim.Status == dedup.InProgress {
		// Most leases are given back long before their end: look earlier than that,
		// and not so often that looking costs more than handling.
		return Snooze(max(claim.Left/8, delayUnit))
	}
	c.client.config.Logger.Info("duplicate acknowledged", "queue", c.queue.Name, "id", t.d.ID, "because", claim.Status)
	t.ack()
	c.settled(t, OutcomeDuplicate)
	return errNotOurs
}

// complete records that the message was handled.
func (c *Consumer) complete(t *task) error {
	err := c.patiently(func() error { return c.config.once.store.Complete(c.step, t.claim) })
	t.held = false
	if err == nil {
		return nil
	}
	// It was handled, and nobody will know. Somebody else may be at it already, or
	// it is handled again when the lease is over.
	c.client.config.Logger.Error("a handled message could not be recorded; it comes again", "queue", c.queue.Name, "id", t.d.ID, "error", err)
	return Snooze(c.config.once.life.Lease)
}

// fenceTo raises the fence of a message after its copy is confirmed, and before
// it is acknowledged: whoever gets the original again then sees that it was
// replaced.
func (c *Consumer) fenceTo(t *task, next dedup.Attempt) {
	once := c.config.once
	var err error
	switch {
	case t.held:
		err = c.patiently(func() error { return once.store.Release(c.step, t.claim, next) })
		t.held = false
	case t.fence && next != t.at:
		err = c.patiently(func() error { return dedup.Raise(c.step, once.store, t.key, t.at, next, once.life) })
	}
	if err != nil && !errors.Is(err, dedup.ErrLost) {
		// The lease ends by itself; a second copy of the same attempt can come of it.
		c.client.config.Logger.Warn("the fence of a message could not be raised", "queue", c.queue.Name, "id", t.d.ID, "error", err)
	}
}

// patiently calls a store's method until it succeeds, says ErrLost or has failed
// too often.
func (c *Consumer) patiently(f func() error) error {
	pause := 50 * time.Millisecond
	for try := 1; ; try++ {
		err := f()
		if err == nil || errors.Is(err, dedup.ErrLost) || try == storeTries {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 4
		case <-c.step.Done():
			return err
		}
	}
}
