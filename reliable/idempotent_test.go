package reliable_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
	"github.com/warrenmq/warren/reliable/dedup/sqlstore"
	"github.com/warrenmq/warren/reliable/dialect"
)

func TestDuplicatesTakeEffectOnce(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var handled claimtest.Log[string]
	store := dedup.NewMemory(0, nil)
	consumer := consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		handled.Add(m.ID)
		if m.ID == "b" && m.Attempt == 1 {
			return errors.New("once more")
		}
		return nil
	}, reliable.Idempotent("shipping", store, reliable.Lease(time.Second)), reliable.Concurrency(4), reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)}))
	p := publisher[order](t, c, reliable.ToQueue(orders))
	for range 5 {
		for _, id := range []string{"a", "b", "c"} {
			if err := p.Publish(within(t, patience), order{1}, reliable.ID(id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ch := plain(t, b)
	until(t, "each is handled", func() bool { return handled.Len() >= 4 })
	until(t, "all are settled", func() bool { return count(t, ch, "orders") == 0 && waiting(t, ch) == 0 })
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, id := range handled.All() {
		times[id]++
	}
	if times["a"] != 1 || times["c"] != 1 || times["b"] != 2 {
		t.Errorf("handled: %v", times)
	}
}

func TestNoID(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	var handled claimtest.Log[string]
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[string]) error {
		handled.Add(m.Body)
		return nil
	}, reliable.Idempotent("shipping", dedup.NewMemory(0, nil)))
	byBody := reliable.Queue{Name: "by-body"}
	consume(t, c, byBody, func(ctx context.Context, m *reliable.Message[string]) error {
		handled.Add(m.Body)
		return nil
	}, reliable.Idempotent("billing", dedup.NewMemory(0, nil), reliable.DedupKey(func(d *reliable.Delivery) string { return string(d.Raw) })))
	ch := plain(t, b)
	for range 2 {
		for _, queue := range []string{"orders", "by-body"} {
			publishPlain(t, ch, queue, queue)
		}
	}
	until(t, "both without id are dead letters", func() bool { return count(t, ch, "orders.dlq") == 2 })
	until(t, "the others are settled", func() bool { return count(t, ch, "by-body") == 0 && handled.Len() == 1 })
	if d := drain(t, ch, "orders.dlq")[0]; d.Headers["wrn-reason"] != reliable.ReasonNoID {
		t.Errorf("%v", d.Headers)
	}
}

// The program dies between the effect and its record: only a transaction helps.
func TestStoreThatFails(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	store := &brittle{Memory: dedup.NewMemory(0, nil)}
	store.down.Store(true)
	var handled atomic.Int32
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		handled.Add(1)
		return nil
	}, reliable.Idempotent("shipping", store))
	publishAll(t, publisher[order](t, c, reliable.ToQueue(orders)), 3)
	until(t, "the consumer pauses", func() bool { return c.Ready() != nil })
	if handled.Load() != 0 {
		t.Error("handled without the store")
	}
	if n := count(t, plain(t, b), "orders.dlq"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

type brittle struct {
	*dedup.Memory
	down atomic.Bool
}

func (s *brittle) Begin(ctx context.Context, key dedup.Key, a dedup.Attempt, life dedup.Lifetimes) (dedup.Claim, error) {
	if s.down.Load() {
		return dedup.Claim{}, errors.New("the store is away")
	}
	return s.Memory.Begin(ctx, key, a, life)
}

func TestInTxSQL(t *testing.T) {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE effects (id TEXT)"); err != nil {
		t.Fatal(err)
	}
	store, err := sqlstore.New(db, dialect.SQLite, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	exact(t, store, func(ctx context.Context, id string) error {
		_, err := sqlstore.TxFrom(ctx).ExecContext(ctx, "INSERT INTO effects VALUES (?)", id)
		return err
	}, func() (effects int) {
		if err := db.QueryRow("SELECT count(*) FROM effects").Scan(&effects); err != nil {
			t.Fatal(err)
		}
		return effects
	})
}

// openBolt opens a store of bbolt's that is not synced, because no power is lost here.
func openBolt(t testing.TB) (*bbolt.DB, *boltstore.Store) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store, err := boltstore.New(db, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return db, store
}

func TestInTxBolt(t *testing.T) {
	db, store := openBolt(t)
	name := []byte("effects")
	exact(t, store, func(ctx context.Context, id string) error {
		bucket, err := boltstore.TxFrom(ctx).CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		n, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		return bucket.Put([]byte{byte(n >> 8), byte(n)}, []byte(id))
	}, func() (effects int) {
		if err := db.View(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(name)
			if bucket == nil {
				return nil
			}
			return bucket.ForEach(func(k, v []byte) error { effects++; return nil })
		}); err != nil {
			t.Fatal(err)
		}
		return effects
	})
}

// exact publishes duplicates, lets handlers fail after their effect, and cuts
// connections: each message has one effect.
func exact(t *testing.T, store reliable.Transactor, effect func(ctx context.Context, id string) error, effects func() int) {
	b := brokertest.New(t)
	c := open(t, b)
	var runs atomic.Int32
	consume(t, c, orders, func(ctx context.Context, m *reliable.Message[order]) error {
		if err := effect(ctx, m.ID); err != nil {
			return err
		}
		if runs.Add(1)%7 == 0 {
			return errors.New("failed after the effect")
		}
		return nil
	}, reliable.InTx("shipping", store, reliable.Lease(time.Second)), reliable.Concurrency(4), reliable.Retry(reliable.RetryPolicy{MaxAttempts: 100, Backoff: reliable.Schedule(0)}))
	p := publisher[order](t, c, reliable.ToQueue(orders))
	const messages = 200
	for i := range messages {
		r, err := p.PublishAsync(within(t, patience), order{i})
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 { // a duplicate
			if _, err := p.PublishAsync(within(t, patience), order{i}, reliable.ID(r.ID())); err != nil {
				t.Fatal(err)
			}
		}
		if i%50 == 25 {
			b.CutConnections()
		}
	}
	ch := plain(t, b)
	deadline := time.Now().Add(patience)
	for count(t, ch, "orders") > 0 || waiting(t, ch) > 0 || effects() < messages {
		if time.Now().After(deadline) {
			t.Fatalf("not settled: %d effects, %d messages in the queue", effects(), count(t, ch, "orders"))
		}
		<-time.After(5 * time.Millisecond)
	}
	if n := effects(); n != messages {
		t.Errorf("%d effects of %d messages", n, messages)
	}
}
