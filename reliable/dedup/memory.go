package dedup

import (
	"context"
	"crypto/rand"
	"hash/maphash"
	"sync"
	"time"
)

const (
	memoryShards = 64
	// DefaultMemoryEntries is how many records a memory store keeps unless told otherwise, at about 300 bytes each.
	DefaultMemoryEntries = 1 << 18
)

// Memory is a [Store] in this process's memory: nothing survives a restart, and other processes do not see it.
//
// Its size is bounded. A shard has two generations of records; when the young one is full the old one is thrown
// away, except for leases that are held. So a record is kept until at least half as many others as the store has
// room for have been written, even if its time to be kept is longer: [Memory.Evicted] counts those that had to
// go early, and each of them may let a duplicate through.
type Memory struct {
	now    func() time.Time
	seed   maphash.Seed
	shards [memoryShards]memoryShard
}

type memoryShard struct {
	mu         sync.Mutex
	young, old map[Key]*Record
	half       int // room of one generation
	evicted    uint64
	_          [64]byte // shards do not share a cache line
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store with room for about entries records (at most; 0 means DefaultMemoryEntries,
// and fewer than 128 are as many). now is its clock; nil is the real one.
func NewMemory(entries int, now func() time.Time) *Memory {
	if entries == 0 {
		entries = DefaultMemoryEntries
	}
	if now == nil {
		now = time.Now
	}
	m := &Memory{now: now, seed: maphash.MakeSeed()}
	for i := range m.shards {
		s := &m.shards[i]
		s.half = max(entries/memoryShards/2, 1)
		s.young = make(map[Key]*Record)
	}
	return m
}

// Begin implements [Store]. It returns ErrFull when the room that the key could have is taken by held leases.
func (m *Memory) Begin(_ context.Context, key Key, attempt Attempt, life Lifetimes) (Claim, error) {
	if err := CheckBegin(key, attempt, life); err != nil {
		return Claim{}, err
	}
	s, now := m.shard(key), m.now().UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.writable(key, now)
	if err != nil {
		return Claim{}, err
	}
	return r.Begin(now, key, attempt, life, rand.Text()), nil
}

// Renew implements [Store].
func (m *Memory) Renew(_ context.Context, c Claim) error {
	return m.change(c, func(r *Record, now int64) error { return r.Renew(now, c) })
}

// Complete implements [Store].
func (m *Memory) Complete(_ context.Context, c Claim) error {
	return m.change(c, func(r *Record, now int64) error { return r.Complete(now, c) })
}

// Release implements [Store].
func (m *Memory) Release(_ context.Context, c Claim, next Attempt) error {
	if err := CheckRelease(c, next); err != nil {
		return err
	}
	return m.change(c, func(r *Record, now int64) error { return r.Release(now, c, next) })
}

// Evicted is how many records had to make room although their time to be kept was not over.
func (m *Memory) Evicted() uint64 {
	var n uint64
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += s.evicted
		s.mu.Unlock()
	}
	return n
}

// Len is how many records the store has, with those whose time is over and that are still to be thrown away.
func (m *Memory) Len() int {
	n := 0
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.young) + len(s.old)
		s.mu.Unlock()
	}
	return n
}

func (m *Memory) shard(key Key) *memoryShard {
	return &m.shards[maphash.Comparable(m.seed, key)%memoryShards]
}

// change applies a transition to the record of a claim. A record that is gone is a lease that is lost.
func (m *Memory) change(c Claim, transition func(*Record, int64) error) error {
	s, now := m.shard(c.Key), m.now().UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.young[c.Key]
	if r == nil {
		r = s.old[c.Key]
	}
	if r == nil {
		return ErrLost
	}
	return transition(r, now)
}

// writable returns the key's record, in the young generation, making one if there is none.
func (s *memoryShard) writable(key Key, now int64) (*Record, error) {
	if r := s.young[key]; r != nil {
		return r, nil
	}
	r := s.old[key]
	if r == nil {
		r = &Record{}
	}
	if len(s.young) >= s.half {
		delete(s.old, key) // it is in hand, and not to be counted as thrown away
		s.rotate(now)
		if len(s.young) >= s.half {
			if r.KeepUntilMicros != 0 {
				s.young[key] = r // what was there stays; the next rotation sees to it
			}
			return nil, ErrFull
		}
	}
	delete(s.old, key)
	s.young[key] = r
	return r, nil
}

// rotate throws the old generation away and begins a new young one with the leases that are held.
func (s *memoryShard) rotate(now int64) {
	fresh := make(map[Key]*Record)
	for key, r := range s.old {
		switch {
		case !r.Done && r.LeaseUntilMicros > now:
			fresh[key] = r
		case !r.Expired(now):
			s.evicted++
		}
	}
	s.old, s.young = s.young, fresh
}
