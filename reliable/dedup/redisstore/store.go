// Package redisstore keeps the records of package dedup in Redis, 5 or newer, or a server that speaks as it does.
//
// Its honest limit: Redis replicates asynchronously, so a failover forgets the last writes, and a server that
// does not sync its append-only file forgets them in a crash. A forgotten record lets a duplicate through, and a
// forgotten lease lets two consumers handle a message at the same time. Nothing is lost by it. What must not
// happen twice belongs in a transaction (sqlstore).
//
// A server that evicts keys to save memory forgets records silently: set maxmemory-policy to noeviction, which
// [Store.CheckServer] looks at.
//
// Each method is one script on one key, so it is atomic, works on a cluster, and takes one round trip. The time
// is the server's. All methods may be called from any goroutine.
//
// This is a module of its own, so that only who uses Redis depends on its client.
package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/warrenmq/warren/reliable/dedup"
)

// Store implements dedup.Store.
type Store struct {
	client redis.UniversalClient
	prefix string
	now    func() time.Time // nil: the server's
}

var _ dedup.Store = (*Store)(nil)

// Options of [New]. The zero value is usual.
type Options struct {
	Prefix string           // of all keys, by default "warren:dedup:"
	Now    func() time.Time // by default the server's clock
}

// New returns the store behind a client, which stays the caller's.
func New(client redis.UniversalClient, o Options) *Store {
	if o.Prefix == "" {
		o.Prefix = "warren:dedup:"
	}
	return &Store{client: client, prefix: o.Prefix, now: o.Now}
}

// CheckServer returns an error if the server may evict records before their time. Call it once, at the start.
func (s *Store) CheckServer(ctx context.Context) error {
	const setting = "maxmemory-policy"
	answer, err := s.client.ConfigGet(ctx, setting).Result()
	if err != nil {
		return fmt.Errorf("the server does not say what its %s is; make sure that it is noeviction: %w", setting, err)
	}
	if policy := answer[setting]; policy != "noeviction" {
		return fmt.Errorf("the server's %s is %q, so it may forget what was handled: set it to noeviction", setting, policy)
	}
	return nil
}

// Begin implements dedup.Store.
func (s *Store) Begin(ctx context.Context, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes) (dedup.Claim, error) {
	if err := dedup.CheckBegin(key, attempt, life); err != nil {
		return dedup.Claim{}, err
	}
	c := dedup.Claim{Key: key, Attempt: attempt, Token: rand.Text(), Life: life}
	asked := s.local()
	answer, err := beginScript.Run(ctx, s.client, []string{s.key(key)}, s.micros(), c.Token,
		attempt.Generation, attempt.Number, life.Lease.Microseconds(), life.Keep.Microseconds()).Int64Slice()
	if err == nil && len(answer) != 2 {
		err = fmt.Errorf("the script answered %v", answer)
	}
	if err != nil {
		return dedup.Claim{}, fmt.Errorf("redis: %w", err)
	}
	c.Status, c.Left = dedup.Status(answer[0]), time.Duration(answer[1])*time.Microsecond
	if c.Status == dedup.Acquired {
		// The lease began, at the earliest, when it was asked for.
		c.Left = life.Lease - s.local().Sub(asked)
	} else {
		c.Token = ""
	}
	return c, nil
}

// Renew implements dedup.Store.
func (s *Store) Renew(ctx context.Context, c dedup.Claim) error {
	return s.change(ctx, c, "renew", c.Attempt)
}

// Complete implements dedup.Store.
func (s *Store) Complete(ctx context.Context, c dedup.Claim) error {
	return s.change(ctx, c, "complete", c.Attempt)
}

// Release implements dedup.Store.
func (s *Store) Release(ctx context.Context, c dedup.Claim, next dedup.Attempt) error {
	if err := dedup.CheckRelease(c, next); err != nil {
		return err
	}
	return s.change(ctx, c, "release", next)
}

func (s *Store) change(ctx context.Context, c dedup.Claim, what string, next dedup.Attempt) error {
	if c.Token == "" {
		return dedup.ErrLost
	}
	held, err := changeScript.Run(ctx, s.client, []string{s.key(c.Key)}, s.micros(), c.Token,
		next.Generation, next.Number, c.Life.Lease.Microseconds(), c.Life.Keep.Microseconds(), what).Bool()
	// A script's false is a nil.
	if errors.Is(err, redis.Nil) || err == nil && !held {
		return dedup.ErrLost
	}
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// key puts the length of the consumer's name in front, so that no two keys have the same name.
func (s *Store) key(key dedup.Key) string {
	return s.prefix + strconv.Itoa(len(key.Consumer)) + ":" + key.Consumer + ":" + key.ID
}

// micros is the script's first argument: the time, or nothing for the server's.
func (s *Store) micros() any {
	if s.now == nil {
		return ""
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
