package dedup

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Clock is the time by which [Hold] renews. Nil stands for the real one.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in a goroutine of its own after d. The returned function keeps it from being called
	// and reports whether it did, as time.Timer.Stop does.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }
func (realClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}

// Hold renews an Acquired claim while its handler runs, each time a third of the lease has passed. The returned
// context ends with the cause ErrLost when another took the lease, or when nine tenths of it have passed and it
// could not be renewed: the last tenth is for the handler to notice. The cause then wraps the store's error, too.
//
// Call release when the handler has returned and before Complete or Release: it ends the context and waits for
// a renewal that is under way. A handler that is faster than a third of the lease costs two timers and no
// round trip.
func Hold(ctx context.Context, s Store, c Claim, clock Clock) (held context.Context, release func()) {
	if clock == nil {
		clock = realClock{}
	}
	held, cancel := context.WithCancelCause(ctx)
	h := &holder{store: s, claim: c, clock: clock, ctx: held, cancel: cancel}
	// A part of the lease may have passed while Begin waited for its answer.
	h.mu.Lock()
	h.lease(clock.Now().Add(c.Left - c.Life.Lease))
	h.mu.Unlock()
	return held, h.release
}

// holder is one Hold. Its timers' goroutines and the caller of release share it.
type holder struct {
	store  Store
	claim  Claim
	clock  Clock
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu         sync.Mutex
	over       bool
	round      int           // counts renewals, so that a timer that was too late to stop is known
	trouble    error         // why the last renewal failed
	stopRenew  func() bool   // guarded by mu, as all below
	stopExpiry func() bool   //
	busy       chan struct{} // closed when the renewal that is under way has ended; nil if there is none
}

// lease starts both timers for a lease that was given, at the latest, at from. mu is held.
func (h *holder) lease(from time.Time) {
	h.round++
	round := h.round
	lease := h.claim.Life.Lease
	passed := h.clock.Now().Sub(from)
	h.stopExpiry = h.clock.AfterFunc(lease-lease/10-passed, func() { h.expire(round) })
	h.stopRenew = h.clock.AfterFunc(lease/3-passed, h.renew)
}

// expire ends the context unless the lease was renewed since this timer was set.
func (h *holder) expire(round int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.round != round {
		return
	}
	h.over = true
	h.stopRenew()
	h.cancel(errors.Join(ErrLost, h.trouble))
}

func (h *holder) renew() {
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return
	}
	busy := make(chan struct{})
	h.busy = busy
	h.mu.Unlock()

	from := h.clock.Now()
	err := h.store.Renew(h.ctx, h.claim)

	h.mu.Lock()
	defer h.mu.Unlock()
	defer close(busy)
	h.busy = nil
	switch {
	case h.over:
	case err == nil:
		h.stopExpiry()
		h.trouble = nil
		h.lease(from)
	case errors.Is(err, ErrLost):
		h.over = true
		h.stopExpiry()
		h.cancel(err)
	default:
		// Try again soon; the expiry timer ends it.
		h.trouble = err
		h.stopRenew = h.clock.AfterFunc(h.claim.Life.Lease/10, h.renew)
	}
}

func (h *holder) release() {
	h.mu.Lock()
	if !h.over {
		h.over = true
		h.stopRenew()
		h.stopExpiry()
	}
	busy := h.busy
	h.mu.Unlock()
	h.cancel(context.Canceled)
	if busy != nil {
		<-busy
	}
}
