package outbox_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/warrenmq/warren/reliable/dialect"
	"github.com/warrenmq/warren/reliable/outbox"
	_ "modernc.org/sqlite"
)

// everywhere runs a test on each kind of database.
func everywhere(t *testing.T, test func(*testing.T, *place)) {
	t.Run("SQLite", func(t *testing.T) {
		test(t, newPlace(t, dialect.SQLite, "sqlite", "file:"+filepath.Join(t.TempDir(), "outbox.db")+
			"?_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"))
	})
	t.Run("Postgres", func(t *testing.T) {
		url := os.Getenv("WARREN_TEST_POSTGRES_URL")
		if url == "" {
			t.Skip("WARREN_TEST_POSTGRES_URL is not set: test/peers/postgres-debian.sh start prints one")
		}
		test(t, newPlace(t, dialect.Postgres, "pgx", url))
	})
}

// place is a database with a table of the test's own and a clock.
type place struct {
	t       *testing.T
	dialect dialect.Dialect
	driver  string
	dsn     string
	table   string
	db      *sql.DB
	mu      sync.Mutex
	offset  time.Duration
}

func newPlace(t *testing.T, d dialect.Dialect, driver, dsn string) *place {
	p := &place{t: t, dialect: d, driver: driver, dsn: dsn, table: "t_" + strings.ToLower(rand.Text())}
	p.db = p.connect()
	t.Cleanup(func() {
		for _, name := range []string{p.table, p.table + "_lanes"} {
			if _, err := p.db.Exec("DROP TABLE IF EXISTS " + name); err != nil {
				t.Error(err)
			}
		}
		p.db.Close()
	})
	if err := p.open(p.db).CreateTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) connect() *sql.DB {
	p.t.Helper()
	db, err := sql.Open(p.driver, p.dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	db.SetMaxOpenConns(16)
	return db
}

func (p *place) open(db *sql.DB) *outbox.Outbox {
	p.t.Helper()
	b, err := outbox.New(db, p.dialect, outbox.Options{Table: p.table, Now: p.now, BatchTimeout: time.Minute})
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *place) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.offset)
}

func (p *place) advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset += d
}

// add adds messages in a transaction of their own.
func (p *place) add(b *outbox.Outbox, messages ...outbox.Message) {
	p.t.Helper()
	tx, err := p.db.Begin()
	if err != nil {
		p.t.Fatal(err)
	}
	defer tx.Rollback()
	if err := b.Add(context.Background(), tx, messages...); err != nil {
		p.t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		p.t.Fatal(err)
	}
}

// deliver runs batches until nothing is due, and returns the ids that were tried, each with a ! if it is one of
// those that fail.
func (p *place) deliver(b *outbox.Outbox, fail ...string) (tried []string) {
	p.t.Helper()
	for range 100 {
		taken, err := b.Deliver(context.Background(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
			outcomes := make([]outbox.Outcome, len(rows))
			failed := map[string]bool{}
			for i, r := range rows {
				switch {
				case r.Key != "" && failed[r.Key]:
				case slices.Contains(fail, r.ID):
					outcomes[i] = outbox.Outcome{Err: errors.New("refused"), Retry: time.Minute}
					failed[r.Key] = true
					tried = append(tried, r.ID+"!")
				default:
					outcomes[i].Confirmed = true
					tried = append(tried, r.ID)
				}
			}
			return outcomes
		})
		if err != nil {
			p.t.Fatal(err)
		}
		if taken == 0 {
			return tried
		}
	}
	p.t.Fatal("there is always something due")
	return nil
}

// wantTried compares regardless of the order between lanes, but not within one key.
func (p *place) wantTried(got []string, want ...string) {
	p.t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.t.Errorf("tried %v, want %v", got, want)
	}
}

func (p *place) backlog(b *outbox.Outbox) int {
	p.t.Helper()
	n, _, err := b.Backlog(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func TestOnlyWhatCommits(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		b := p.open(p.db)
		tx, err := p.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(t.Context(), tx, outbox.Message{ID: "never"}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		p.add(b, outbox.Message{ID: "a"}, outbox.Message{ID: "b"})
		if n := p.backlog(b); n != 2 {
			t.Errorf("%d wait, want 2", n)
		}
		p.wantTried(p.deliver(b), "a", "b")
		p.wantTried(p.deliver(b))
		if n := p.backlog(b); n != 0 {
			t.Errorf("%d wait, want none", n)
		}
	})
}

func TestMessageComesBack(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		b := p.open(p.db)
		full := outbox.Message{
			ID: "m\x001", Key: "key \xff", Exchange: "orders", RoutingKey: `\x.eu`,
			Properties: outbox.Properties{ContentType: "application/json", ContentEncoding: "gzip", CorrelationID: "c", ReplyTo: "r",
				Expiration: "1000", Type: "order", AppID: "shop", Priority: 7},
			Headers: map[string]any{"text": "é\x00", "bytes": []byte{0, 255}, "n": int32(-1), "nested": map[string]any{"l": []any{true, nil}},
				"at": time.Unix(1, 0).UTC()},
			Body: []byte("\x00\xffbody"), DeliverAt: p.now().Add(-time.Second).Truncate(time.Microsecond),
		}
		p.add(b, full, outbox.Message{ID: "least"})
		got := map[string]outbox.Row{}
		for range 2 {
			_, err := b.Deliver(t.Context(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
				outcomes := make([]outbox.Outcome, len(rows))
				for i, r := range rows {
					got[r.ID], outcomes[i].Confirmed = r, true
				}
				return outcomes
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		r := got[full.ID]
		if !r.DeliverAt.Equal(full.DeliverAt) || p.now().Sub(r.Added) > time.Minute || r.Attempts != 0 {
			t.Errorf("%+v", r)
		}
		full.DeliverAt = r.DeliverAt
		if !reflect.DeepEqual(r.Message, full) {
			t.Errorf("got\n%#v, want\n%#v", r.Message, full)
		}
		if r, ok := got["least"]; !ok || r.Headers != nil || len(r.Body) != 0 || !r.DeliverAt.IsZero() {
			t.Errorf("%+v, %v", r, ok)
		}
	})
}

func TestScheduled(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		b := p.open(p.db)
		p.add(b, outbox.Message{ID: "later", Key: "k", DeliverAt: p.now().Add(time.Hour)}, outbox.Message{ID: "now", Key: "k"})
		p.wantTried(p.deliver(b), "now")
		if n, oldest, err := b.Backlog(t.Context()); n != 1 || oldest != 0 || err != nil {
			t.Errorf("%d wait, the oldest for %v, %v", n, oldest, err)
		}
		p.advance(time.Hour)
		p.wantTried(p.deliver(b), "later")
	})
}

// TestFailureHoldsItsKey: what comes behind a failure with the same key waits until that has been published,
// also what is added later; nothing else waits.
func TestFailureHoldsItsKey(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		b := p.open(p.db)
		p.add(b, outbox.Message{ID: "k1", Key: "k"}, outbox.Message{ID: "k2", Key: "k"}, outbox.Message{ID: "l1", Key: "l"}, outbox.Message{ID: "x"})
		p.wantTried(p.deliver(b, "k1", "x"), "k1!", "l1", "x!")
		p.add(b, outbox.Message{ID: "k3", Key: "k"}, outbox.Message{ID: "y"})
		p.wantTried(p.deliver(b, "k1", "x"), "y")
		var attempts int
		var why string
		if err := p.db.QueryRow("SELECT attempts, last_error FROM "+p.table+" WHERE id = 'k1'").Scan(&attempts, &why); err != nil || attempts != 1 || why != "refused" {
			t.Errorf("%d attempts, %q, %v", attempts, why, err)
		}
		p.advance(time.Minute)
		p.wantTried(p.deliver(b, "k1"), "k1!", "x")
		p.advance(time.Minute)
		got := p.deliver(b)
		if !slices.Equal(got, []string{"k1", "k2", "k3"}) {
			t.Errorf("tried %v, want k1 k2 k3 in this order", got)
		}
	})
}

// TestRetryDuringBacklog: what is due is not kept waiting by what is added all the time.
func TestRetryDuringBacklog(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		b := p.open(p.db)
		key := func(i int) string { return fmt.Sprint(i % 3) }
		p.add(b, outbox.Message{ID: "scheduled", Key: "s", DeliverAt: p.now()})
		var backlog []outbox.Message
		for i := range 300 {
			backlog = append(backlog, outbox.Message{ID: fmt.Sprint(i), Key: key(i)})
		}
		p.add(b, backlog...)
		for round := range 20 {
			done := false
			_, err := b.Deliver(t.Context(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
				outcomes := make([]outbox.Outcome, len(rows))
				for i, r := range rows {
					outcomes[i].Confirmed = true
					done = done || r.ID == "scheduled"
				}
				return outcomes
			})
			if err != nil {
				t.Fatal(err)
			}
			if done {
				t.Logf("after %d batches", round+1)
				return
			}
		}
		t.Error("a scheduled message waits behind the whole backlog")
	})
}

// TestCrashAfterConfirm: the broker has the message, the table does not know yet. It comes again with its id.
func TestCrashAfterConfirm(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.add(p.open(p.db), outbox.Message{ID: "a", Key: "k"})
		crashing := p.connect()
		var ids []string
		_, err := p.open(crashing).Deliver(t.Context(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
			ids = append(ids, rows[0].ID)
			if p.dialect == dialect.Postgres { // a killed process: its connection ends
				if _, err := p.db.Exec(`SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.relation = to_regclass($1) AND l.pid <> pg_backend_pid()`, p.table+"_lanes"); err != nil {
					t.Error(err)
				}
			} else {
				crashing.Close()
			}
			return []outbox.Outcome{{Confirmed: true}}
		})
		if err == nil {
			t.Error("the crash was not noticed")
		}
		crashing.Close()
		if p.dialect == dialect.SQLite {
			p.wantTried(p.deliver(p.open(p.db))) // the dead relay may still be alive
			p.advance(2*time.Minute + time.Second)
		}
		again := p.deliver(p.open(p.db))
		// The server needs a moment to end the dead one's transaction.
		for deadline := time.Now().Add(time.Minute); len(again) == 0 && time.Now().Before(deadline); <-time.After(time.Millisecond) {
			again = p.deliver(p.open(p.db))
		}
		p.wantTried(append(ids, again...), "a", "a")
	})
}

// TestRestart: a relay that has ended in order keeps nobody waiting.
func TestRestart(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		before := p.open(p.db)
		p.add(before, outbox.Message{ID: "a"})
		p.wantTried(p.deliver(before), "a")
		p.add(before, outbox.Message{ID: "b"})
		p.wantTried(p.deliver(p.open(p.db)), "b")
	})
}

// TestOneRelayAtATime: while one has a message in hand, no other publishes it or one behind it.
func TestOneRelayAtATime(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.add(p.open(p.db), outbox.Message{ID: "a", Key: "k"}, outbox.Message{ID: "b", Key: "k"})
		taken, err := p.open(p.db).Deliver(t.Context(), 1, func(context.Context, []outbox.Row) []outbox.Outcome {
			p.wantTried(p.deliver(p.open(p.db)))
			return []outbox.Outcome{{Confirmed: true}}
		})
		if taken != 1 || err != nil {
			t.Errorf("%d taken, %v", taken, err)
		}
		p.wantTried(p.deliver(p.open(p.db)), "b")
	})
}

func TestInvalidMessages(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		b := p.open(p.db)
		long := strings.Repeat("x", 256)
		for _, m := range []outbox.Message{
			{}, {ID: long}, {ID: "a", Exchange: long}, {ID: "a", RoutingKey: long}, {ID: "a", Key: strings.Repeat("x", 513)},
			{ID: "a", Properties: outbox.Properties{ReplyTo: long}}, {ID: "a", Properties: outbox.Properties{Type: "\xff"}},
			{ID: "a", Headers: map[string]any{"c": make(chan int)}}, {ID: "a", Headers: map[string]any{"c": strings.Repeat("x", 128<<10)}},
		} {
			if err := b.Add(t.Context(), p.db, m); !errors.Is(err, outbox.ErrInvalid) {
				t.Errorf("%.80v: %v", m, err)
			}
		}
		if n := p.backlog(b); n != 0 {
			t.Errorf("%d invalid messages are in the table", n)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		d dialect.Dialect
		o outbox.Options
	}{
		{0, outbox.Options{}}, {dialect.SQLite, outbox.Options{Notify: true}}, {dialect.Postgres, outbox.Options{Table: "a-b"}},
		{dialect.Postgres, outbox.Options{BatchTimeout: time.Nanosecond}},
	} {
		if _, err := outbox.New(nil, c.d, c.o); err == nil {
			t.Errorf("%v %+v was accepted", c.d, c.o)
		}
	}
}

// queue is a broker that refuses some publishes, and forgets to confirm some that it has.
type queue struct {
	mu       sync.Mutex
	got      map[string][]int // key: the numbers of its messages, as they were confirmed
	inFlight map[string]int
	errs     []string
}

func (q *queue) Publish(_ context.Context, m outbox.Message) (func(context.Context) error, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if mathrand.IntN(20) == 0 {
		return nil, errors.New("no connection")
	}
	if m.Key != "" {
		if q.inFlight[m.Key]++; q.inFlight[m.Key] > 1 {
			q.errs = append(q.errs, "two messages in flight with the key "+m.Key)
		}
	}
	return func(context.Context) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.inFlight[m.Key]--
		switch mathrand.IntN(20) {
		case 0:
			return errors.New("refused")
		case 1: // the confirm is lost: the message is there, and comes again
			q.got[m.Key] = append(q.got[m.Key], int(m.Headers["n"].(int64)))
			return errors.New("no answer")
		}
		q.got[m.Key] = append(q.got[m.Key], int(m.Headers["n"].(int64)))
		return nil
	}, nil
}

// TestRelaysShare: several relays, several programs that add, a broker with troubles. Each key's messages come
// in order, repeated at most by those whose confirm was lost, and none is missing.
func TestRelaysShare(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		const keys, each, relays = 6, 40, 3
		q := &queue{got: map[string][]int{}, inFlight: map[string]int{}}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for range relays {
			r, err := outbox.NewRelay(p.open(p.db), q, outbox.RelayOptions{Batch: 7, Poll: 2 * time.Millisecond,
				MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() { r.Run(ctx) })
		}
		var adding sync.WaitGroup
		for k := range keys {
			adding.Go(func() {
				b := p.open(p.db)
				for n := 0; n < each; n += 2 {
					p.add(b, message(k, n), message(k, n+1))
				}
			})
		}
		adding.Wait()
		b := p.open(p.db)
		for deadline := time.Now().Add(time.Minute); p.backlog(b) > 0; <-time.After(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d messages are left", p.backlog(b))
			}
		}
		cancel()
		running.Wait()
		for _, text := range q.errs {
			t.Error(text)
		}
		for k := range keys {
			if got := slices.Compact(q.got[fmt.Sprint("key ", k)]); !slices.IsSorted(got) || len(got) != each {
				t.Errorf("key %d: published %v", k, got)
			}
		}
	})
}

func message(k, n int) outbox.Message {
	return outbox.Message{ID: fmt.Sprintf("%d.%d", k, n), Key: fmt.Sprint("key ", k), Headers: map[string]any{"n": int64(n)}}
}
