package dedup

import "time"

// Record is what a store keeps for a key, with the rules of all transitions. The zero Record is absent. A store
// that can read and write a record atomically needs nothing else; see boltstore.
//
// Times are microseconds since 1970 by the store's clock, which its users share.
type Record struct {
	Attempt          Attempt // the fence: deliveries below it are superseded
	Token            string  // of the last lease, also when it is over
	Done             bool
	LeaseUntilMicros int64 // 0: released or done
	KeepUntilMicros  int64 // from then on the record counts as absent
}

// Expired reports whether the record counts as absent.
func (r *Record) Expired(nowMicros int64) bool { return r.KeepUntilMicros <= nowMicros }

// Begin decides about a delivery and, if it is Acquired, changes the record to a lease with this token, which
// must never have been used before. The arguments have passed [CheckBegin].
func (r *Record) Begin(nowMicros int64, key Key, attempt Attempt, life Lifetimes, token string) Claim {
	c := Claim{Key: key, Attempt: attempt, Life: life}
	c.Status, c.Left = r.Look(nowMicros, attempt)
	if c.Status != Acquired {
		return c
	}
	*r = Record{
		Attempt: attempt, Token: token,
		LeaseUntilMicros: nowMicros + life.Lease.Microseconds(),
		KeepUntilMicros:  nowMicros + life.Keep.Microseconds(),
	}
	c.Token, c.Left = token, life.Lease
	return c
}

// Look says what Begin would answer, and for InProgress how long the lease still lasts.
func (r *Record) Look(nowMicros int64, attempt Attempt) (Status, time.Duration) {
	switch {
	case r.Expired(nowMicros):
		return Acquired, 0
	case r.Done:
		// Whatever the generation: a redrive of what is done must not do it again.
		return Done, 0
	case attempt.Compare(r.Attempt) < 0:
		return Superseded, 0
	case r.LeaseUntilMicros > nowMicros:
		// Also for a later attempt: its copy may come from an owner that had lost the lease before, and the
		// present one may be at work.
		return InProgress, time.Duration(r.LeaseUntilMicros-nowMicros) * time.Microsecond
	}
	return Acquired, 0
}

// Renew is [Store].Renew.
func (r *Record) Renew(nowMicros int64, c Claim) error {
	if !r.heldBy(nowMicros, c) {
		return ErrLost
	}
	r.LeaseUntilMicros = nowMicros + c.Life.Lease.Microseconds()
	r.KeepUntilMicros = nowMicros + c.Life.Keep.Microseconds()
	return nil
}

// Complete is [Store].Complete.
func (r *Record) Complete(nowMicros int64, c Claim) error {
	// The same again is no mistake: who did not hear the answer asks once more.
	if !r.heldBy(nowMicros, c) && !(r.Done && r.matches(nowMicros, c)) {
		return ErrLost
	}
	r.Done, r.LeaseUntilMicros = true, 0
	r.KeepUntilMicros = nowMicros + c.Life.Keep.Microseconds()
	return nil
}

// Release is [Store].Release. The arguments have passed [CheckRelease].
func (r *Record) Release(nowMicros int64, c Claim, next Attempt) error {
	again := r.matches(nowMicros, c) && !r.Done && r.LeaseUntilMicros == 0 && r.Attempt == next
	if !r.heldBy(nowMicros, c) && !again {
		return ErrLost
	}
	r.Attempt, r.LeaseUntilMicros = next, 0
	r.KeepUntilMicros = nowMicros + c.Life.Keep.Microseconds()
	return nil
}

// heldBy: that the lease's time is over does not matter. Until another takes it, nobody else is at work.
func (r *Record) heldBy(nowMicros int64, c Claim) bool {
	return r.matches(nowMicros, c) && r.LeaseUntilMicros != 0
}

func (r *Record) matches(nowMicros int64, c Claim) bool {
	return c.Token != "" && r.Token == c.Token && !r.Expired(nowMicros)
}
