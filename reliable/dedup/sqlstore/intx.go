package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/warrenmq/warren/reliable/dedup"
)

// txKey is where InTx puts the transaction into the context.
type txKey struct{}

// TxFrom is the transaction of a handler that InTx has called, in which its
// effects belong. It is nil outside of one. InTx commits it and rolls it back.
func TxFrom(ctx context.Context) *sql.Tx {
	tx, _ := ctx.Value(txKey{}).(*sql.Tx)
	return tx
}

// InTx begins a transaction and takes the message in it with BeginTx. If the claim
// is Acquired it calls handle, and commits if that returns nil; in all other cases
// it rolls back, also when handle panics. Its error is that of handle or of the
// database. After a failed commit nobody knows whether it took place. If the
// database is too busy to begin, the claim is InProgress.
func (s *Store) InTx(ctx context.Context, key dedup.Key, attempt dedup.Attempt, life dedup.Lifetimes, handle func(context.Context) error) (dedup.Claim, error) {
	if err := s.purgeNowAndThen(ctx); err != nil {
		return dedup.Claim{}, err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if s.dialect.Busy(err) { // BEGIN IMMEDIATE, behind another writer
		return dedup.Claim{Key: key, Attempt: attempt, Status: dedup.InProgress, Left: s.lockTimeout, Life: life}, nil
	}
	if err != nil {
		return dedup.Claim{}, s.wrap(err)
	}
	defer tx.Rollback() // after a commit it does nothing
	claim, err := s.BeginTx(ctx, tx, key, attempt, life)
	if err != nil || claim.Status != dedup.Acquired {
		return claim, err
	}
	if err := handle(context.WithValue(ctx, txKey{}, tx)); err != nil {
		return claim, err
	}
	if err := tx.Commit(); err != nil {
		return claim, s.wrap(errors.Join(errors.New("commit"), err))
	}
	return claim, nil
}
