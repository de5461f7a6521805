package sqlstore_test

import (
	"context"
	cryptorand "crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/deduptest"
	"github.com/warrenmq/warren/reliable/dedup/sqlstore"
	"github.com/warrenmq/warren/reliable/dialect"
	_ "modernc.org/sqlite"
)

// place is a database in which a test may make tables.
type place struct {
	dialect dialect.Dialect
	driver  string
	dsn     string
}

func (p place) connect(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open(p.driver, p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(16)
	t.Cleanup(func() { db.Close() })
	return db
}

func sqlite(path string) place {
	return place{dialect.SQLite, "sqlite", "file:" + path + "?_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"}
}

func postgres(t testing.TB) place {
	url := os.Getenv("WARREN_TEST_POSTGRES_URL")
	if url == "" {
		t.Skip("WARREN_TEST_POSTGRES_URL is not set: test/peers/postgres-debian.sh start prints one")
	}
	return place{dialect.Postgres, "pgx", url}
}

// everywhere runs a test on each kind of database.
func everywhere(t *testing.T, test func(*testing.T, place)) {
	t.Run("SQLite", func(t *testing.T) { test(t, sqlite(filepath.Join(t.TempDir(), "dedup.db"))) })
	t.Run("Postgres", func(t *testing.T) { test(t, postgres(t)) })
}

func create(t testing.TB, p place, o sqlstore.Options) (*sql.DB, *sqlstore.Store) {
	t.Helper()
	db := p.connect(t)
	o.Table = tableName(t, db)
	s := open(t, db, p.dialect, o)
	if err := s.CreateTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db, s
}

// tableName is a table that is dropped after the test.
func tableName(t testing.TB, db *sql.DB) string {
	name := "t_" + strings.ToLower(cryptorand.Text())
	t.Cleanup(func() {
		if _, err := db.Exec("DROP TABLE IF EXISTS " + name); err != nil {
			t.Error(err)
		}
	})
	return name
}

func open(t testing.TB, db *sql.DB, d dialect.Dialect, o sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSQLite(t *testing.T) {
	var path string
	var o sqlstore.Options
	deduptest.Run(t, deduptest.Harness{
		Open: func(t testing.TB, now func() time.Time) dedup.Store {
			path, o = filepath.Join(t.TempDir(), "dedup.db"), sqlstore.Options{Now: now}
			_, s := create(t, sqlite(path), o)
			return s
		},
		Crash: func(t testing.TB) dedup.Store {
			// The files as they are, while the other still has them open.
			left := filepath.Join(t.TempDir(), "left.db")
			for _, suffix := range []string{"", "-wal"} {
				text, err := os.ReadFile(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(left+suffix, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			db := sqlite(left).connect(t)
			if err := db.QueryRow(`SELECT name FROM sqlite_master WHERE type = 'table'`).Scan(&o.Table); err != nil {
				t.Fatal(err)
			}
			return open(t, db, dialect.SQLite, o)
		},
	})
}

func TestPostgres(t *testing.T) {
	p := postgres(t)
	var db *sql.DB
	var o sqlstore.Options
	deduptest.Run(t, deduptest.Harness{
		Open: func(t testing.TB, now func() time.Time) dedup.Store {
			db = p.connect(t)
			o = sqlstore.Options{Now: now, Table: tableName(t, p.connect(t))}
			s := open(t, db, p.dialect, o)
			if err := s.CreateTable(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		},
		Crash: func(t testing.TB) dedup.Store {
			db.Close()
			return open(t, p.connect(t), p.dialect, o)
		},
	})
}

func life() dedup.Lifetimes { return dedup.Lifetimes{Lease: time.Minute, Keep: time.Hour} }

func key(i int) dedup.Key { return dedup.Key{Consumer: "c", ID: fmt.Sprint(i)} }

func first() dedup.Attempt { return dedup.Attempt{Number: 1} }

// TestExactEffects has several consumers handle messages of which one in a hundred comes twice. Every tenth
// transaction is lost in a crash, so that its message is delivered again, and every tenth handler fails, so that a
// copy of the message is delivered; sometimes the original is, too. In the end there is one effect for each message.
// WARREN_TEST_MESSAGES says how many, by default 500.
func TestExactEffects(t *testing.T) {
	messages := 500
	if text := os.Getenv("WARREN_TEST_MESSAGES"); text != "" {
		var err error
		if messages, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	everywhere(t, func(t *testing.T, p place) {
		db, s := create(t, p, sqlstore.Options{LockTimeout: 10 * time.Second})
		effects := tableName(t, db)
		if _, err := db.Exec("CREATE TABLE " + effects + " (message integer NOT NULL)"); err != nil {
			t.Fatal(err)
		}
		insert := p.dialect.Bind("INSERT INTO " + effects + " VALUES (?1)")
		queue := make(chan delivery, 3*messages)
		var unsettled sync.WaitGroup
		send := func(d delivery) { unsettled.Add(1); queue <- d }
		for i := range messages {
			send(delivery{i, first()})
			if i%100 == 0 {
				send(delivery{i, first()})
			}
		}
		var consumers sync.WaitGroup
		for range 6 {
			consumers.Go(func() {
				for d := range queue {
					if err := d.handle(s, insert, send); err != nil {
						t.Errorf("message %d: %v", d.message, err)
					}
					unsettled.Done()
				}
			})
		}
		unsettled.Wait()
		close(queue)
		consumers.Wait()
		var rows, distinct int
		if err := db.QueryRow("SELECT count(*), count(DISTINCT message) FROM "+effects).Scan(&rows, &distinct); err != nil {
			t.Fatal(err)
		}
		if rows != messages || distinct != messages {
			t.Errorf("%d effects of %d messages, want %d of %d", rows, distinct, messages, messages)
		}
	})
}

// delivery is one of a message.
type delivery struct {
	message int
	attempt dedup.Attempt
}

var errCrash = errors.New("crash")

// handle is what a consumer does with it. What it sends is delivered later; to return is to acknowledge.
func (d delivery) handle(s *sqlstore.Store, insert string, send func(delivery)) error {
	ctx := context.Background()
	failed := false
	c, err := s.InTx(ctx, key(d.message), d.attempt, life(), func(ctx context.Context) error {
		if _, err := sqlstore.TxFrom(ctx).ExecContext(ctx, insert, d.message); err != nil {
			return err
		}
		switch rand.IntN(10) {
		case 0:
			return errCrash
		case 1:
			failed = true
			return errors.New("the handler fails")
		}
		return nil
	})
	switch {
	case failed:
		next := delivery{d.message, d.attempt.Next()}
		send(next)
		if rand.IntN(2) == 0 {
			send(d) // a crash after the confirm
			return nil
		}
		return dedup.Raise(ctx, s, key(d.message), d.attempt, next.attempt, life())
	case errors.Is(err, errCrash):
		send(d)
		return nil
	case err != nil:
		return err
	case c.Status == dedup.InProgress:
		send(d)
	case rand.IntN(10) == 0:
		send(d) // a crash before the ack
	}
	return nil
}

// TestDuplicateWaits: while a transaction handles a message, a duplicate waits for a while and is then told to
// come back, and after the commit it is told that all is done.
func TestDuplicateWaits(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		p.dsn = strings.ReplaceAll(p.dsn, "busy_timeout(20000)", "busy_timeout(100)")
		p.dsn = strings.ReplaceAll(p.dsn, "&_txlock=immediate", "") // so that BeginTx is what waits
		db, s := create(t, p, sqlstore.Options{LockTimeout: 100 * time.Millisecond})
		begin := func(attempt dedup.Attempt) (*sql.Tx, dedup.Claim) {
			t.Helper()
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			c, err := s.BeginTx(t.Context(), tx, key(1), attempt, life())
			if err != nil {
				t.Fatal(err)
			}
			return tx, c
		}
		tx, c := begin(first())
		if c.Status != dedup.Acquired {
			t.Fatal(c.Status)
		}
		if p.dialect == dialect.Postgres {
			var setting string
			if err := tx.QueryRow("SHOW lock_timeout").Scan(&setting); err != nil || setting != "0" {
				t.Errorf("the handler's statements have the lock timeout %s, %v", setting, err)
			}
		}
		start := time.Now()
		duplicate, c := begin(first())
		if c.Status != dedup.InProgress || c.Left <= 0 || time.Since(start) > 5*time.Second {
			t.Errorf("the duplicate is %v, look again after %v, and heard it after %v", c.Status, c.Left, time.Since(start))
		}
		if err := duplicate.Rollback(); err != nil {
			t.Error(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		duplicate, c = begin(first())
		if c.Status != dedup.Done {
			t.Errorf("after the commit the duplicate is %v", c.Status)
		}
		if err := duplicate.Rollback(); err != nil {
			t.Error(err)
		}
		if c, err := s.Begin(t.Context(), key(1), first().Next(), life()); err != nil || c.Status != dedup.Done {
			t.Errorf("with a lease: %v, %v", c.Status, err)
		}
	})
}

// TestTransactionAndLease: who handles in a transaction respects a lease and a fence.
func TestTransactionAndLease(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		db, s := create(t, p, sqlstore.Options{})
		in := func(attempt dedup.Attempt) dedup.Claim {
			t.Helper()
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			c, err := s.BeginTx(t.Context(), tx, key(1), attempt, life())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		lease, err := s.Begin(t.Context(), key(1), first(), life())
		if err != nil {
			t.Fatal(err)
		}
		if c := in(first()); c.Status != dedup.InProgress || c.Left <= 0 || c.Left > time.Minute {
			t.Errorf("while it is leased: %+v", c)
		}
		if err := s.Release(t.Context(), lease, first().Next()); err != nil {
			t.Fatal(err)
		}
		if c := in(first()); c.Status != dedup.Superseded {
			t.Errorf("below the fence: %+v", c)
		}
		if c := in(first().Next()); c.Status != dedup.Acquired {
			t.Errorf("at the fence: %+v", c)
		}
		if c := in(first().Next()); c.Status != dedup.Acquired {
			t.Errorf("after a rollback: %+v", c)
		}
	})
}

// TestServerClock uses the time that a store takes by itself.
func TestServerClock(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		_, s := create(t, p, sqlstore.Options{})
		short := dedup.Lifetimes{Lease: 50 * time.Millisecond, Keep: time.Hour}
		c, err := s.Begin(t.Context(), key(1), first(), short)
		if err != nil || c.Status != dedup.Acquired || c.Left > c.Life.Lease {
			t.Fatalf("%+v, %v", c, err)
		}
		seen := map[dedup.Status]int{}
		for deadline := time.Now().Add(time.Minute); ; {
			c, err := s.Begin(t.Context(), key(1), first(), short)
			if err != nil {
				t.Fatal(err)
			}
			if seen[c.Status]++; c.Status == dedup.Acquired {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the lease never ends")
			}
			<-time.After(time.Millisecond)
		}
		if err := s.Renew(t.Context(), c); !errors.Is(err, dedup.ErrLost) {
			t.Errorf("the first lease: %v", err)
		}
		if len(seen) > 2 || seen[dedup.Done]+seen[dedup.Superseded] > 0 {
			t.Errorf("saw %v", seen)
		}
	})
}

// TestExpiredRowsGo: the table does not keep what no longer counts.
func TestExpiredRowsGo(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		clock := deduptest.NewClock()
		_, s := create(t, p, sqlstore.Options{Now: clock.Now})
		short := dedup.Lifetimes{Lease: time.Second, Keep: time.Minute}
		begin := func(from, to int) {
			t.Helper()
			for i := from; i < to; i++ {
				if c, err := s.Begin(t.Context(), key(i), first(), short); err != nil || c.Status != dedup.Acquired {
					t.Fatalf("%v, %v", c.Status, err)
				}
			}
		}
		begin(0, 400)
		clock.Advance(time.Hour)
		begin(400, 510)
		if n, err := s.Purge(t.Context()); err != nil || n != 0 {
			t.Errorf("%d rows were left to be deleted, %v", n, err)
		}
		clock.Advance(time.Hour)
		if n, err := s.Purge(t.Context()); err != nil || n != 110 {
			t.Errorf("%d rows deleted, %v, want 110", n, err)
		}
	})
}

func TestOptions(t *testing.T) {
	db := sqlite(filepath.Join(t.TempDir(), "dedup.db")).connect(t)
	for _, c := range []struct {
		d dialect.Dialect
		o sqlstore.Options
	}{
		{0, sqlstore.Options{}}, {dialect.SQLite, sqlstore.Options{Table: "a; DROP TABLE b"}},
		{dialect.Postgres, sqlstore.Options{LockTimeout: time.Microsecond}},
	} {
		if _, err := sqlstore.New(db, c.d, c.o); err == nil {
			t.Errorf("%v %+v was accepted", c.d, c.o)
		}
	}
	s := open(t, db, dialect.SQLite, sqlstore.Options{})
	if _, err := s.Begin(t.Context(), key(1), first(), life()); err == nil || !strings.Contains(err.Error(), "warren_dedup") {
		t.Errorf("without the table: %v", err)
	}
	for range 2 {
		if err := s.CreateTable(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Begin(t.Context(), key(1), first(), life()); err != nil {
		t.Error(err)
	}
}
