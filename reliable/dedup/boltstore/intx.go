package boltstore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/warrenmq/warren/reliable/dedup"
)

// txKey is where InTx puts the transaction into the context.
type txKey struct{}

// TxFrom is the transaction of a handler that InTx has called, in which its
// effects belong. It is nil outside of one. InTx commits it and rolls it back.
func TxFrom(ctx context.Context) *bbolt.Tx {
	tx, _ := ctx.Value(txKey{}).(*bbolt.Tx)
	return tx
}

// InTx begins a writing transaction and takes the message in it with BeginTx. If
// the claim is Acquired it calls handle, and commits if that returns nil; in all
// other cases it rolls back, also when handle panics. bbolt has one writer, so
// handlers run one at a time.
func (s *Store) InTx(ctx context.Context, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes, handle func(context.Context) error) (claim dedup.Claim, err error) {
	if err := ctx.Err(); err != nil {
		return claim, err
	}
	tx, err := s.db.Begin(true)
	if err != nil {
		return claim, fmt.Errorf("bbolt: %w", err)
	}
	defer tx.Rollback() // after a commit it does nothing
	claim, err = s.BeginTx(tx, key, attempt, life)
	if err != nil || claim.Status != dedup.Acquired {
		return claim, err
	}
	if err := handle(context.WithValue(ctx, txKey{}, tx)); err != nil {
		return claim, err
	}
	if err := tx.Commit(); err != nil {
		return claim, fmt.Errorf("bbolt: commit: %w", err)
	}
	return claim, nil
}
