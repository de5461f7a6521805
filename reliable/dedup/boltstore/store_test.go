package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
	"github.com/warrenmq/warren/reliable/dedup/deduptest"
	"go.etcd.io/bbolt"
)

func open(t testing.TB, path string, now func() time.Time) (*bbolt.DB, *boltstore.Store) {
	t.Helper()
	// Not synced: what is tested is the end of the process, not of the machine.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := boltstore.New(db, boltstore.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return db, s
}

func TestStore(t *testing.T) {
	var path string
	var now func() time.Time
	deduptest.Run(t, deduptest.Harness{
		Open: func(t testing.TB, clock func() time.Time) dedup.Store {
			path, now = filepath.Join(t.TempDir(), "dedup.db"), clock
			_, s := open(t, path, now)
			return s
		},
		Crash: func(t testing.TB) dedup.Store {
			// The file as it is, while the other still has it open.
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			left := filepath.Join(t.TempDir(), "left.db")
			if err := os.WriteFile(left, text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, s := open(t, left, now)
			return s
		},
	})
}

func life() dedup.Lifetimes { return dedup.Lifetimes{Lease: time.Minute, Keep: time.Hour} }

func key(i int) dedup.Key { return dedup.Key{Consumer: "c", ID: fmt.Sprint(i)} }

// TestExactInOneTransaction has many deliveries of the same messages, whose effect is in the same file. Half
// of the transactions are rolled back, as if the process had crashed before the commit.
func TestExactInOneTransaction(t *testing.T) {
	db, s := open(t, filepath.Join(t.TempDir(), "dedup.db"), nil)
	const messages = 50
	effects := []byte("effects")
	crash := errors.New("crash")
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for round := range 2 {
				for i := range messages {
					err := db.Update(func(tx *bbolt.Tx) error {
						c, err := s.BeginTx(tx, key(i), dedup.Attempt{Number: 1}, life())
						if err != nil || c.Status == dedup.Done {
							return err
						}
						if c.Status != dedup.Acquired {
							return fmt.Errorf("message %d is %v", i, c.Status)
						}
						b, err := tx.CreateBucketIfNotExists(effects)
						if err != nil {
							return err
						}
						name := []byte(fmt.Sprint(i))
						if err := b.Put(name, append(b.Get(name), '+')); err != nil {
							return err
						}
						if (worker+i+round)%2 == 0 {
							return crash
						}
						return nil
					})
					if err != nil && !errors.Is(err, crash) {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	err := db.View(func(tx *bbolt.Tx) error {
		for i := range messages {
			if got := string(tx.Bucket(effects).Get([]byte(fmt.Sprint(i)))); got != "+" {
				t.Errorf("message %d has the effects %q, want one", i, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Begin(t.Context(), key(0), dedup.Attempt{Number: 2}, life()); err != nil || c.Status != dedup.Done {
		t.Errorf("outside a transaction: %v, %v", c.Status, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		_, err := s.BeginTx(tx, key(1), dedup.Attempt{Number: 1}, life())
		return err
	})
	if !errors.Is(err, dedup.ErrInvalid) {
		t.Errorf("in a transaction for reading: %v", err)
	}
}

// TestExpiredRecordsGo: the file does not keep what no longer counts.
func TestExpiredRecordsGo(t *testing.T) {
	clock := deduptest.NewClock()
	db, s := open(t, filepath.Join(t.TempDir(), "dedup.db"), clock.Now)
	const messages = 300
	handle := func(i int) {
		t.Helper()
		c, err := s.Begin(t.Context(), key(i), dedup.Attempt{Number: 1}, life())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Complete(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for i := range messages {
		handle(i)
	}
	count := func(bucket string) (n int) {
		err := db.View(func(tx *bbolt.Tx) error {
			n = tx.Bucket([]byte("warren.dedup")).Bucket([]byte(bucket)).Stats().KeyN
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if count("records") != messages || count("expiry") != messages {
		t.Fatalf("%d records, %d in the index, want %d", count("records"), count("expiry"), messages)
	}
	clock.Advance(2 * time.Hour)
	for i := range messages / 2 {
		handle(messages + i)
	}
	if count("records") != messages/2 || count("expiry") != messages/2 {
		t.Errorf("%d records, %d in the index, want the %d that still count", count("records"), count("expiry"), messages/2)
	}
}

// TestCallersShareTransactions: those who come while another writes need one transaction together.
func TestCallersShareTransactions(t *testing.T) {
	db, s := open(t, filepath.Join(t.TempDir(), "dedup.db"), nil)
	const callers = 200
	blocker, err := db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	before := blocker.ID()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			if c, err := s.Begin(context.Background(), key(i), dedup.Attempt{Number: 1}, life()); err != nil || c.Status != dedup.Acquired {
				t.Errorf("%v, %v", c.Status, err)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); s.Waiting() < callers; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", s.Waiting(), callers)
		}
	}
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	err = db.View(func(tx *bbolt.Tx) error {
		if n := tx.ID() - before + 1; n != 1 {
			t.Errorf("%d transactions for %d calls", n, callers)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestClosedFile: everybody hears of it, and nobody waits for ever.
func TestClosedFile(t *testing.T) {
	db, s := open(t, filepath.Join(t.TempDir(), "dedup.db"), nil)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := s.Begin(context.Background(), key(i), dedup.Attempt{Number: 1}, life()); err == nil {
				t.Error("a store on a closed file gave a lease")
			}
		})
	}
	all.Wait()
}

func TestDamagedRecord(t *testing.T) {
	db, s := open(t, filepath.Join(t.TempDir(), "dedup.db"), nil)
	if _, err := s.Begin(t.Context(), key(1), dedup.Attempt{Number: 1}, life()); err != nil {
		t.Fatal(err)
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("warren.dedup")).Bucket([]byte("records"))
		name, _ := b.Cursor().First()
		return b.Put(append([]byte(nil), name...), []byte{1, 0, 0xff})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(t.Context(), key(1), dedup.Attempt{Number: 1}, life()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged record: %v", err)
	}
	if c, err := s.Begin(t.Context(), key(2), dedup.Attempt{Number: 1}, life()); err != nil || c.Status != dedup.Acquired {
		t.Errorf("its neighbour: %v, %v", c.Status, err)
	}
}
