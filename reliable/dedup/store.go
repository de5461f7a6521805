package dedup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of a [Store], to be recognised with errors.Is.
var (
	// ErrLost is what Renew, Complete and Release return when the claim is no longer the holder of the lease:
	// another has it, or it was released. The handler's work must stop and its outcome must not be reported:
	// do not ack, because the next delivery finds out what became of the message.
	ErrLost = errors.New("the lease on the message is lost")
	// ErrFull is what Begin of a bounded store returns when all its room is taken by leases.
	ErrFull = errors.New("the store is full of leases")
	// ErrInvalid is what Begin and Release return for an argument that no store accepts.
	ErrInvalid = errors.New("invalid argument")
)

// Bounds that every store accepts.
const (
	// MaxKeyBytes bounds the consumer's name and the message id, each.
	MaxKeyBytes = 512
	// MinLease is the shortest lease. Shorter ones would end between two round trips to a store.
	MinLease = 10 * time.Millisecond
	// MaxKeep is the longest time for which a record is kept.
	MaxKeep = 10 * 365 * 24 * time.Hour
)

// Key names what must happen once: a message, as one consumer sees it. Two consumers handle the same message
// independently of each other.
type Key struct {
	Consumer string // name of the consumer, the same in all its processes and after a restart
	ID       string // message id, or a key of the business that is the same in all copies
}

// Attempt says which of several copies of a message is meant. A retry is a copy with the next Number; a redrive
// from a dead-letter queue begins a new Generation, so that it may count from 1 again.
type Attempt struct {
	Generation int // 0 until the first redrive
	Number     int // 1 for the first delivery
}

// Compare orders attempts by generation and then by number, as cmp.Compare does.
func (a Attempt) Compare(b Attempt) int {
	return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Number, b.Number))
}

// Next is the attempt of the copy that follows a failure.
func (a Attempt) Next() Attempt { return Attempt{a.Generation, a.Number + 1} }

// Redriven is the first attempt after a redrive.
func (a Attempt) Redriven() Attempt { return Attempt{a.Generation + 1, 1} }

func (a Attempt) String() string { return fmt.Sprintf("%d.%d", a.Generation, a.Number) }

// Lifetimes says how long a record counts.
type Lifetimes struct {
	// Lease is how long a claim blocks others without being renewed, at least MinLease. Keep it short (seconds)
	// and renew it ([Hold]): after a crash nobody handles the message before the lease is over.
	Lease time.Duration
	// Keep is how long a record is remembered after it was last written, at least Lease, at most MaxKeep. It
	// should be longer than the whole schedule of retries and the time that messages stay in a dead-letter
	// queue: who comes later is handled again.
	Keep time.Duration
}

// Status is what Begin found.
type Status uint8

const (
	// Acquired: the caller holds the lease and handles the message.
	Acquired Status = iota + 1
	// InProgress: another holds the lease. Neither ack nor give back at once: look again after Claim.Left.
	InProgress
	// Done: the message was handled before. Ack.
	Done
	// Superseded: a confirmed copy with a later attempt exists. Ack.
	Superseded
)

func (s Status) String() string {
	switch s {
	case Acquired:
		return "acquired"
	case InProgress:
		return "in progress"
	case Done:
		return "done"
	case Superseded:
		return "superseded"
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// Claim is the answer of Begin, and what the other methods act on when its Status is Acquired.
type Claim struct {
	Key     Key
	Attempt Attempt // the attempt that Begin was called with
	Status  Status
	Token   string        // of this lease alone; empty unless Acquired
	Left    time.Duration // until the lease is over, by the store's clock: the caller's own, or the other's if InProgress
	Life    Lifetimes
}

// Store keeps the records. Each method is atomic. An error other than ErrLost, ErrFull and ErrInvalid means
// that the outcome is unknown: Complete and Release may be called again with the same arguments, and after a
// failed Begin the record may be leased until its time is over.
type Store interface {
	// Begin asks for the message. It waits for nobody: who cannot have it learns why from the claim's Status.
	Begin(ctx context.Context, key Key, attempt Attempt, life Lifetimes) (Claim, error)
	// Renew lets the lease last for its full length again, from now. A lease whose time is over can be renewed
	// as long as nobody else took it.
	Renew(ctx context.Context, c Claim) error
	// Complete marks the message done. Call it after the handler's effect and before the ack.
	Complete(ctx context.Context, c Claim) error
	// Release gives the lease up and raises the fence to next, which is not below the claim's attempt. Raise it
	// (to Attempt.Next) only after the broker has confirmed the copy that replaces the message: the retry, or
	// the dead letter. When the same attempt comes again (snoozed, given back, rejected without a copy), next
	// is the claim's attempt.
	Release(ctx context.Context, c Claim, next Attempt) error
}

// CheckBegin returns an ErrInvalid that says what is wrong with the arguments of Begin. Every store calls it.
func CheckBegin(key Key, attempt Attempt, life Lifetimes) error {
	switch {
	case key.Consumer == "":
		return fmt.Errorf("%w: the consumer has no name: name it, the same in all its processes", ErrInvalid)
	case key.ID == "":
		return fmt.Errorf("%w: the message has no id: set message_id when publishing, or derive a key from the message", ErrInvalid)
	case len(key.Consumer) > MaxKeyBytes || len(key.ID) > MaxKeyBytes:
		return fmt.Errorf("%w: consumer name of %d bytes, message id of %d bytes: at most %d each",
			ErrInvalid, len(key.Consumer), len(key.ID), MaxKeyBytes)
	case attempt.Generation < 0 || attempt.Number < 1 || attempt.Generation > maxCount || attempt.Number > maxCount:
		return fmt.Errorf("%w: attempt %v: generations count from 0 and attempts from 1, both up to %d", ErrInvalid, attempt, maxCount)
	case life.Lease < MinLease:
		return fmt.Errorf("%w: a lease of %v: at least %v", ErrInvalid, life.Lease, MinLease)
	case life.Keep < life.Lease || life.Keep > MaxKeep:
		return fmt.Errorf("%w: a record kept for %v: at least as long as the lease (%v), at most %v", ErrInvalid, life.Keep, life.Lease, MaxKeep)
	}
	return nil
}

// maxCount bounds generations and attempts, so that all stores can compare them as 32-bit numbers.
const maxCount = 1<<31 - 2

// CheckRelease returns an ErrInvalid that says what is wrong with the arguments of Release. Every store calls it.
func CheckRelease(c Claim, next Attempt) error {
	if next.Compare(c.Attempt) < 0 || next.Generation > maxCount+1 || next.Number > maxCount+1 {
		return fmt.Errorf("%w: release of attempt %v to %v: the fence never falls", ErrInvalid, c.Attempt, next)
	}
	return nil
}

// Raise sets the fence of a message that the caller does not hold to next, for those who handle messages in a
// transaction of their own (BeginTx): after its rollback the record is as it was, and once the copy for the
// retry is confirmed the fence has to be raised before the ack. It does nothing when another is further already.
func Raise(ctx context.Context, s Store, key Key, attempt, next Attempt, life Lifetimes) error {
	c, err := s.Begin(ctx, key, attempt, life)
	if err != nil || c.Status != Acquired {
		return err
	}
	return s.Release(ctx, c, next)
}
