// Package boltstore keeps the records of package dedup in a bbolt file.
//
// One process has the file, so several processes cannot share the store. Each method is one short write
// transaction that is on the disk when it returns; callers that come while one is being written share the next
// one, so that the cost of a sync is divided among them. No transaction is open while a handler runs.
//
// The work and the record are two commits, between which a crash repeats the work. Only an effect in the same
// file can be exact: see [Store.BeginTx].
//
// All methods may be called from any goroutine. Nothing runs in the background: records whose time is over go
// a few at a time, with the writes that follow.
package boltstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"go.etcd.io/bbolt"
)

const (
	// maxBatch bounds how many calls share a transaction.
	maxBatch = 256
	// sweepEach is how many expired records a call throws away, at most. More than one, so that the store
	// shrinks again after a peak.
	sweepEach = 4
)

// Store implements dedup.Store.
type Store struct {
	db     *bbolt.DB
	bucket []byte
	now    func() time.Time

	mu      sync.Mutex
	pending []*call // waits for the next transaction
	leading bool    // one of the callers is writing, or was told to
}

var _ dedup.Store = (*Store)(nil)

// Options of [New]. The zero value is usual.
type Options struct {
	Bucket string           // top-level bucket of the records, by default "warren.dedup"
	Now    func() time.Time // by default time.Now
}

// New returns the store in a bucket of the file, which it makes if it is missing. The file stays the caller's:
// close it when the store is not used any more.
func New(db *bbolt.DB, o Options) (*Store, error) {
	s := &Store{db: db, bucket: []byte("warren.dedup"), now: o.Now}
	if o.Bucket != "" {
		s.bucket = []byte(o.Bucket)
	}
	if s.now == nil {
		s.now = time.Now
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(s.bucket)
		if err != nil {
			return err
		}
		if _, err := top.CreateBucketIfNotExists([]byte(recordsName)); err != nil {
			return err
		}
		_, err = top.CreateBucketIfNotExists([]byte(expiryName))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bbolt bucket %q: %w", s.bucket, err)
	}
	return s, nil
}

// Begin implements dedup.Store.
func (s *Store) Begin(ctx context.Context, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes) (c dedup.Claim, err error) {
	if err := dedup.CheckBegin(key, attempt, life); err != nil {
		return c, err
	}
	err = s.write(ctx, func(b buckets, now int64) (err error) {
		c, err = b.begin(now, key, attempt, life)
		return err
	})
	if err != nil {
		return dedup.Claim{}, err
	}
	return c, nil
}

// BeginTx is Begin and Complete at once, inside the caller's transaction, in which the handler's effect is then
// written: both are there after the commit, or neither. If the claim is Acquired, write the effect and commit,
// then ack. With any other status, roll back; Done and Superseded are to be acked.
//
// When the handler fails, roll back, and after the copy for the retry is confirmed call dedup.Raise before the
// ack. bbolt has one writer: a handler in a transaction keeps all others waiting.
func (s *Store) BeginTx(tx *bbolt.Tx, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes) (dedup.Claim, error) {
	if err := dedup.CheckBegin(key, attempt, life); err != nil {
		return dedup.Claim{}, err
	}
	if !tx.Writable() {
		return dedup.Claim{}, fmt.Errorf("%w: the transaction is for reading only", dedup.ErrInvalid)
	}
	b, err := s.buckets(tx)
	if err != nil {
		return dedup.Claim{}, err
	}
	now := s.now().UnixMicro()
	c, err := b.begin(now, key, attempt, life)
	if err != nil || c.Status != dedup.Acquired {
		return c, err
	}
	if err := b.change(c, func(r *dedup.Record) error { return r.Complete(now, c) }); err != nil {
		return dedup.Claim{}, err
	}
	return c, b.sweep(now, sweepEach)
}

// Renew implements dedup.Store.
func (s *Store) Renew(ctx context.Context, c dedup.Claim) error {
	return s.write(ctx, func(b buckets, now int64) error {
		return b.change(c, func(r *dedup.Record) error { return r.Renew(now, c) })
	})
}

// Complete implements dedup.Store.
func (s *Store) Complete(ctx context.Context, c dedup.Claim) error {
	return s.write(ctx, func(b buckets, now int64) error {
		return b.change(c, func(r *dedup.Record) error { return r.Complete(now, c) })
	})
}

// Release implements dedup.Store.
func (s *Store) Release(ctx context.Context, c dedup.Claim, next dedup.Attempt) error {
	if err := dedup.CheckRelease(c, next); err != nil {
		return err
	}
	return s.write(ctx, func(b buckets, now int64) error {
		return b.change(c, func(r *dedup.Record) error { return r.Release(now, c, next) })
	})
}

// call is one method's part of a transaction.
type call struct {
	do     func(buckets, int64) error
	err    error
	answer chan bool // true: lead the next transaction; false: err is the outcome
}

// write runs do in a transaction and returns when that is on the disk. The first who comes leads: it writes
// for all who came before the transaction began, and then hands the lead to one of those who came since.
// A cancelled context is noticed before the transaction only: it does not take long, and its outcome is known.
func (s *Store) write(ctx context.Context, do func(buckets, int64) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	own := &call{do: do, answer: make(chan bool, 1)}
	s.mu.Lock()
	s.pending = append(s.pending, own)
	lead := !s.leading
	s.leading = true
	s.mu.Unlock()
	if !lead && !<-own.answer {
		return own.err
	}
	var batch []*call
	err := s.db.Update(func(tx *bbolt.Tx) error {
		// Only now, with the lock of the file: who came while it was being waited for can join.
		batch = s.take()
		return s.run(tx, batch)
	})
	if batch == nil { // the transaction did not begin, the file is closed: all who wait hear the same
		batch = s.take()
	}
	s.mu.Lock()
	if s.leading = len(s.pending) > 0; s.leading {
		s.pending[0].answer <- true
	}
	s.mu.Unlock()
	for _, c := range batch {
		if err != nil {
			c.err = fmt.Errorf("bbolt: %w", err)
		}
		if c != own {
			c.answer <- false
		}
	}
	return own.err
}

// take removes a batch from those who wait, in their order. The leader is in front.
func (s *Store) take() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.pending), maxBatch)
	batch := s.pending[:n:n]
	s.pending = s.pending[n:]
	return batch
}

// run carries out a batch. What one call finds wrong is its own; an error returned spoils the transaction.
func (s *Store) run(tx *bbolt.Tx, batch []*call) error {
	b, err := s.buckets(tx)
	if err != nil {
		return err
	}
	now := s.now().UnixMicro()
	for _, c := range batch {
		c.err = c.do(b, now)
		// A record that cannot be read concerns its key alone. Whatever else fails may have written half.
		if c.err != nil && !errors.Is(c.err, dedup.ErrLost) && !errors.Is(c.err, errDamaged) {
			return c.err
		}
	}
	return b.sweep(now, sweepEach*len(batch))
}

// buckets are the two of the store: the records by key, and their keys by the time until which they are kept.
type buckets struct{ records, expiry *bbolt.Bucket }

const (
	recordsName = "records"
	expiryName  = "expiry"
)

func (s *Store) buckets(tx *bbolt.Tx) (buckets, error) {
	top := tx.Bucket(s.bucket)
	if top == nil {
		return buckets{}, fmt.Errorf("there is no bucket %q", s.bucket)
	}
	b := buckets{top.Bucket([]byte(recordsName)), top.Bucket([]byte(expiryName))}
	if b.records == nil || b.expiry == nil {
		return b, fmt.Errorf("the bucket %q is not one of this store", s.bucket)
	}
	return b, nil
}

func (b buckets) begin(now int64, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes) (dedup.Claim, error) {
	name := encodeKey(key)
	r, err := b.get(name)
	if err != nil {
		return dedup.Claim{}, err
	}
	before := r.KeepUntilMicros
	c := r.Begin(now, key, attempt, life, rand.Text())
	if c.Status != dedup.Acquired {
		return c, nil
	}
	return c, b.put(name, before, r)
}

func (b buckets) change(c dedup.Claim, transition func(*dedup.Record) error) error {
	name := encodeKey(c.Key)
	r, err := b.get(name)
	if err != nil {
		return err
	}
	before := r.KeepUntilMicros
	if err := transition(&r); err != nil {
		return err
	}
	return b.put(name, before, r)
}

func (b buckets) get(name []byte) (dedup.Record, error) {
	value := b.records.Get(name)
	if value == nil {
		return dedup.Record{}, nil
	}
	return decodeRecord(value)
}

// put writes a record whose time to be kept was before, and 0 if it is new.
func (b buckets) put(name []byte, before int64, r dedup.Record) error {
	if before != r.KeepUntilMicros {
		if before != 0 {
			if err := b.expiry.Delete(expiryKey(before, name)); err != nil {
				return err
			}
		}
		if err := b.expiry.Put(expiryKey(r.KeepUntilMicros, name), nil); err != nil {
			return err
		}
	}
	return b.records.Put(name, encodeRecord(r))
}

// sweep throws away at most limit records whose time is over.
func (b buckets) sweep(now int64, limit int) error {
	cursor := b.expiry.Cursor()
	var over [][]byte
	end := expiryKey(now+1, nil)
	for k, _ := cursor.First(); k != nil && len(over) < limit && bytes.Compare(k, end) < 0; k, _ = cursor.Next() {
		over = append(over, bytes.Clone(k))
	}
	for _, k := range over {
		if err := b.expiry.Delete(k); err != nil {
			return err
		}
		if err := b.records.Delete(k[8:]); err != nil {
			return err
		}
	}
	return nil
}

// expiryKey sorts by time.
func expiryKey(keepUntilMicros int64, name []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(name)), uint64(keepUntilMicros)), name...)
}
