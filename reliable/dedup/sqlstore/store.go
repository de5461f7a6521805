// Package sqlstore keeps the records of package dedup in a table of an SQL database: PostgreSQL or SQLite, with
// any driver for database/sql.
//
// [Store.BeginTx] records a message inside the transaction in which the handler writes. That is the one way to
// exact effects: the record and the effect are committed together or not at all, so neither a crash nor a
// duplicate delivery can repeat or lose the effect. It takes a connection for each message in flight, and the
// transaction lasts as long as the handler.
//
// As a dedup.Store, with leases, no transaction is open while a handler runs, and a crash between the handler's
// effect and Complete repeats the work. Both ways use the same rows and may be mixed.
//
// Each method is one statement, or two if the message is not to be had. With Postgres the time is the server's,
// so that the clocks of the consumers' machines do not matter. Methods may be called from any goroutine.
// Nothing runs in the background: every 500th Begin or InTx first deletes up to 1000 rows whose time is over.
package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dialect"
)

const (
	// purgeEvery is how many Begins there are between two that delete what has expired. It deletes more than
	// they can have added.
	purgeEvery = 500
	purgeRows  = 1000
	// beginTries bounds how often Begin tries again when the row that was in its way is gone when it looks.
	beginTries = 3
	// defaultLockTimeout is Options.LockTimeout unless given.
	defaultLockTimeout = 5 * time.Second
)

// Store implements dedup.Store.
type Store struct {
	db          *sql.DB
	dialect     dialect.Dialect
	table       string
	now         func() time.Time // nil: the server's
	lockTimeout time.Duration
	sql         statements
	begins      atomic.Uint64
}

var _ dedup.Store = (*Store)(nil)

// Options of [New]. The zero value is usual.
type Options struct {
	Table string // by default "warren_dedup"; may have a schema in front
	// Now is the clock. By default it is the server's with Postgres, and time.Now with SQLite.
	Now func() time.Time
	// LockTimeout is how long BeginTx waits, with Postgres, for a transaction that has the same message. By
	// default 5 s. With SQLite the busy timeout of the connection counts.
	LockTimeout time.Duration
}

// New returns the store in a table, which is there already or is made by [Store.CreateTable]. The database
// stays the caller's.
func New(db *sql.DB, d dialect.Dialect, o Options) (*Store, error) {
	s := &Store{db: db, dialect: d, table: o.Table, now: o.Now, lockTimeout: o.LockTimeout}
	if s.table == "" {
		s.table = "warren_dedup"
	}
	if err := dialect.Check(d, s.table); err != nil {
		return nil, err
	}
	if s.lockTimeout == 0 {
		s.lockTimeout = defaultLockTimeout
	}
	if s.lockTimeout < time.Millisecond || s.lockTimeout > time.Hour {
		return nil, fmt.Errorf("a lock timeout of %v: from 1 ms to 1 h", s.lockTimeout)
	}
	if s.now == nil && d == dialect.SQLite {
		s.now = time.Now
	}
	s.sql = newStatements(d, s.table)
	return s, nil
}

// CreateTable makes the table and its index if they are missing.
func (s *Store) CreateTable(ctx context.Context) error {
	list, err := Schema(s.dialect, s.table)
	if err != nil {
		return err
	}
	for _, statement := range list {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return s.wrap(err)
		}
	}
	return nil
}

// Begin implements dedup.Store.
func (s *Store) Begin(ctx context.Context, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes) (dedup.Claim, error) {
	if err := dedup.CheckBegin(key, attempt, life); err != nil {
		return dedup.Claim{}, err
	}
	if err := s.purgeNowAndThen(ctx); err != nil {
		return dedup.Claim{}, err
	}
	c, err := s.begin(ctx, s.db, s.sql.lease, key, attempt, life)
	if err != nil {
		return dedup.Claim{}, s.wrap(err)
	}
	return c, nil
}

// BeginTx is Begin and Complete at once, inside the caller's transaction, in which the handler then writes. If
// the claim is Acquired, let the handler write and commit, then ack. With any other status, roll back: Done and
// Superseded are to be acked, with InProgress look again later.
//
// When the handler fails, roll back, and after the copy for the retry is confirmed call dedup.Raise before the
// ack. A duplicate that is handled at the same time waits for this transaction and is InProgress if that takes
// longer than the lock timeout; with Postgres the transaction is then good for nothing but to be rolled back.
// Begin of the same message, and so Raise, waits for the transaction, too, for as long as its context allows.
// The isolation level should be READ COMMITTED, Postgres's default. At the higher ones a duplicate is
// InProgress instead of Done.
func (s *Store) BeginTx(ctx context.Context, tx *sql.Tx, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes) (dedup.Claim, error) {
	if err := dedup.CheckBegin(key, attempt, life); err != nil {
		return dedup.Claim{}, err
	}
	restore, err := s.limitWait(ctx, tx)
	if err != nil {
		return dedup.Claim{}, s.wrap(err)
	}
	c, err := s.begin(ctx, tx, s.sql.record, key, attempt, life)
	if s.dialect.Busy(err) {
		return dedup.Claim{Key: key, Attempt: attempt, Status: dedup.InProgress, Left: s.lockTimeout, Life: life}, nil
	}
	if err == nil {
		err = restore()
	}
	if err != nil {
		return dedup.Claim{}, s.wrap(err)
	}
	return c, nil
}

// limitWait sets Postgres's lock timeout, and returns what sets it back for the handler's own statements.
func (s *Store) limitWait(ctx context.Context, tx *sql.Tx) (restore func() error, err error) {
	if s.dialect != dialect.Postgres {
		return func() error { return nil }, nil
	}
	const set = `SELECT set_config('lock_timeout', $1, true)`
	var before, ignored string
	if err := tx.QueryRowContext(ctx, `SELECT current_setting('lock_timeout')`).Scan(&before); err != nil {
		return nil, err
	}
	if err := tx.QueryRowContext(ctx, set, fmt.Sprintf("%dms", s.lockTimeout.Milliseconds())).Scan(&ignored); err != nil {
		return nil, err
	}
	return func() error { return tx.QueryRowContext(ctx, set, before).Scan(&ignored) }, nil
}

// runner is a database or a transaction.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// begin runs the statement that takes the row, and finds out why if it does not get it.
func (s *Store) begin(ctx context.Context, db runner, take string, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes) (dedup.Claim, error) {
	c := dedup.Claim{Key: key, Attempt: attempt, Status: dedup.Acquired, Token: rand.Text(), Life: life}
	consumer, id := dialect.Text(key.Consumer), dialect.Text(key.ID)
	for range beginTries {
		asked := s.local()
		result, err := db.ExecContext(ctx, take, s.micros(), consumer, id,
			attempt.Generation, attempt.Number, c.Token, life.Lease.Microseconds(), life.Keep.Microseconds())
		if err != nil {
			return c, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return c, err
		}
		if n == 1 {
			// The lease began when the statement did, which may have waited for another transaction.
			c.Left = life.Lease - s.local().Sub(asked)
			return c, nil
		}
		r, now, err := s.look(ctx, db, consumer, id)
		if err != nil {
			return c, err
		}
		if status, left := r.Look(now, attempt); status != dedup.Acquired {
			return dedup.Claim{Key: key, Attempt: attempt, Status: status, Left: left, Life: life}, nil
		}
	}
	// Somebody else was faster every time.
	return dedup.Claim{Key: key, Attempt: attempt, Status: dedup.InProgress, Left: dedup.MinLease, Life: life}, nil
}

// look reads a row. One that is gone is the zero Record.
func (s *Store) look(ctx context.Context, db runner, consumer, id string) (r dedup.Record, nowMicros int64, err error) {
	err = db.QueryRowContext(ctx, s.sql.look, s.micros(), consumer, id).Scan(&nowMicros,
		&r.Attempt.Generation, &r.Attempt.Number, &r.Done, &r.Token, &r.LeaseUntilMicros, &r.KeepUntilMicros)
	if errors.Is(err, sql.ErrNoRows) {
		return dedup.Record{}, 0, nil
	}
	return r, nowMicros, err
}

// Renew implements dedup.Store.
func (s *Store) Renew(ctx context.Context, c dedup.Claim) error {
	return s.change(ctx, s.sql.renew, c, c.Life.Lease.Microseconds())
}

// Complete implements dedup.Store.
func (s *Store) Complete(ctx context.Context, c dedup.Claim) error {
	return s.change(ctx, s.sql.complete, c)
}

// Release implements dedup.Store.
func (s *Store) Release(ctx context.Context, c dedup.Claim, next dedup.Attempt) error {
	if err := dedup.CheckRelease(c, next); err != nil {
		return err
	}
	return s.change(ctx, s.sql.release, c, next.Generation, next.Number)
}

func (s *Store) change(ctx context.Context, statement string, c dedup.Claim, args ...any) error {
	if c.Token == "" {
		return dedup.ErrLost
	}
	args = append([]any{s.micros(), dialect.Text(c.Key.Consumer), dialect.Text(c.Key.ID), c.Token, c.Life.Keep.Microseconds()}, args...)
	result, err := s.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return s.wrap(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return s.wrap(err)
	}
	if n == 0 {
		return dedup.ErrLost
	}
	return nil
}

// purgeNowAndThen keeps the table from growing.
func (s *Store) purgeNowAndThen(ctx context.Context) error {
	if s.begins.Add(1)%purgeEvery != 0 {
		return nil
	}
	_, err := s.Purge(ctx)
	return err
}

// Purge deletes up to 1000 rows whose time to be kept is over, and returns how many it has deleted. Begin and
// InTx do it often enough; call it where nobody calls them: with BeginTx alone, or when a consumer is gone.
func (s *Store) Purge(ctx context.Context) (rows int, err error) {
	result, err := s.db.ExecContext(ctx, s.sql.purge, s.micros(), purgeRows)
	if err != nil {
		return 0, s.wrap(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, s.wrap(err)
	}
	return int(n), nil
}

// micros is the statement's first parameter: the time, or NULL for the server's.
func (s *Store) micros() any {
	if s.now == nil {
		return nil
	}
	return s.now().UnixMicro()
}

// local is a clock of this process, for how long something took.
func (s *Store) local() time.Time {
	if s.now == nil {
		return time.Now()
	}
	return s.now()
}

func (s *Store) wrap(err error) error { return fmt.Errorf("dedup table %s: %w", s.table, err) }
