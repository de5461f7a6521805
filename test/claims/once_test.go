package claims

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
	"github.com/warrenmq/warren/reliable/dedup/sqlstore"
	"github.com/warrenmq/warren/reliable/dialect"
)

// Claim: effects happen once if they share a transaction with the record. The
// consumer is a process of its own that is killed again and again, its connections
// are cut, handlers fail after their effect, one message in a hundred is published
// twice, and the broker is killed twice.
func (p *peer) effectivelyOnceBolt(t *testing.T) { p.effectivelyOnce(t, "bbolt", p.once) }
func (p *peer) effectivelyOnceSQLite(t *testing.T) {
	p.effectivelyOnce(t, "SQLite", max(p.once/5, 100))
}

// work is what a worker process is told.
type work struct {
	URLs        []string
	Queue       string
	Store, Path string
}

const workEnv = "WARREN_CLAIMS_WORK"

func (p *peer) effectivelyOnce(t *testing.T, store string, size int) {
	c, s := p.open(t, reliable.Config{})
	q := p.queue(t, "once")
	p.declare(t, c, q)
	w := work{p.urls, q.Name, store, filepath.Join(t.TempDir(), "db")}
	begun := time.Now()
	published := make(chan int, 1)
	crashes := p.crashes(t, s, q, size/3, size*2/3)
	pub := publisher[order](t, c, reliable.ToQueue(q), reliable.Window(500))
	var publishing sync.WaitGroup
	publishing.Go(func() { published <- p.publishWithDuplicates(t, pub, s, crashes, size) })
	t.Cleanup(publishing.Wait) // if the test fails it must not kill the next one's broker
	kills, duplicates := 0, -1
	for over := false; !over; {
		worker := p.startWorker(t, w)
		life := time.Now().Add(2*time.Second + time.Duration(kills%5)*300*time.Millisecond)
		until(t, "the worker has lived", func() bool {
			if duplicates < 0 {
				select {
				case duplicates = <-published:
				default:
				}
			}
			return time.Now().After(life) || duplicates >= 0 && p.count(t, q.Name) == 0
		})
		if err := worker.stop(); err != nil {
			t.Fatalf("the worker: %v", err)
		}
		kills++
		over = duplicates >= 0 && p.staysEmpty(t, q.Name)
	}
	took := since(begun)
	crashed := crashes.all()
	distinct, wrong, err := effects(w)
	if err != nil {
		t.Fatal(err)
	}
	if distinct != size || wrong != 0 {
		t.Errorf("%d messages of %d have taken effect, %d of them not once", distinct, size, wrong)
	}
	p.table.row("effectively once", "%s: %d messages and %d duplicates, %d cuts, worker killed %d times, %d crashes of the broker: one effect each; in %v",
		store, size, duplicates, s.Count(), kills, crashed, took)
}

// publishWithDuplicates returns how many messages it has published twice.
func (p *peer) publishWithDuplicates(t *testing.T, pub *reliable.Publisher[order], s *claimtest.Saboteur, crashes *crashes, size int) (duplicates int) {
	defer s.Off()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	failed := func(i int, err error) bool {
		if err != nil && t.Context().Err() == nil {
			t.Errorf("message %d: %v", i, err)
		}
		return err != nil
	}
	var receipts []*reliable.Receipt
	for i := range size {
		if i%max(size/50, 20) == 0 {
			s.Again(8000)
		}
		crashes.reached(i)
		r, err := pub.PublishAsync(ctx, order{i})
		receipts = append(receipts, r)
		if err == nil && i%100 == 0 {
			r, err = pub.PublishAsync(ctx, order{i}, reliable.ID(r.ID()))
			receipts = append(receipts, r)
			duplicates++
		}
		if failed(i, err) {
			return duplicates
		}
	}
	for i, r := range receipts {
		if failed(i, r.Wait(ctx)) {
			return duplicates
		}
	}
	return duplicates
}

// staysEmpty says whether what a dead worker had on hand is back, and is nothing.
func (p *peer) staysEmpty(t *testing.T, queue string) bool {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		if p.count(t, queue) > 0 {
			return false
		}
	}
	return true
}

// worker is a process that consumes.
type worker struct {
	command *exec.Cmd
	output  bytes.Buffer
}

func (p *peer) startWorker(t *testing.T, w work) *worker {
	t.Helper()
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	run := &worker{command: exec.Command(os.Args[0], "-test.run", "^TestWorker$")}
	run.command.Env = append(os.Environ(), workEnv+"="+string(text))
	run.command.Stdout, run.command.Stderr = &run.output, &run.output
	if err := run.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run.command.Process.Kill() })
	return run
}

// stop kills it. A worker that has ended by itself has failed.
func (w *worker) stop() error {
	if err := w.command.Process.Kill(); err != nil {
		w.command.Wait()
		return fmt.Errorf("%w\n%s", err, &w.output)
	}
	if err := w.command.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		return fmt.Errorf("it ended by itself: %v\n%s", err, &w.output)
	}
	return nil
}

// TestWorker is a worker's whole life, in a process of its own.
func TestWorker(t *testing.T) {
	text := os.Getenv(workEnv)
	if text == "" {
		t.Skip("it is started by TestClaims")
	}
	var w work
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		t.Fatal(err)
	}
	store, effect, err := openStore(w)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{urls: w.URLs}
	c, s := p.open(t, reliable.Config{})
	runs := 0
	consume(t, c, reliable.Queue{Name: w.Queue}, func(ctx context.Context, m *reliable.Message[order]) error {
		if runs++; runs%500 == 0 {
			s.Again(8000)
		}
		if err := effect(ctx, m.ID); err != nil {
			return err
		}
		if runs%97 == 0 {
			return errors.New("after the effect")
		}
		return nil
	}, reliable.InTx("claims", store, reliable.Lease(time.Second)), reliable.Prefetch(200), reliable.Concurrency(1),
		reliable.Retry(reliable.RetryPolicy{MaxAttempts: 1000, Backoff: reliable.Schedule(0)}))
	<-t.Context().Done() // it is killed
}

var bucket = []byte("effects")

// openBolt opens a database that a kill of the process may interrupt anywhere. It
// is not synced, because no power is lost here.
func openBolt(path string) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, Timeout: time.Minute})
}

func openSQLite(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate")
}

// openStore opens the store, and returns how a handler takes effect in its
// transaction.
func openStore(w work) (reliable.Transactor, func(context.Context, string) error, error) {
	if w.Store == "bbolt" {
		db, err := openBolt(w.Path)
		if err != nil {
			return nil, nil, err
		}
		store, err := boltstore.New(db, boltstore.Options{})
		return store, func(ctx context.Context, id string) error {
			counts, err := boltstore.TxFrom(ctx).CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			return counts.Put([]byte(id), append(bytes.Clone(counts.Get([]byte(id))), 'x'))
		}, err
	}
	db, err := openSQLite(w.Path)
	if err != nil {
		return nil, nil, err
	}
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS effects (id TEXT NOT NULL)"); err != nil {
		return nil, nil, err
	}
	store, err := sqlstore.New(db, dialect.SQLite, sqlstore.Options{})
	if err == nil {
		err = store.CreateTable(context.Background())
	}
	return store, func(ctx context.Context, id string) error {
		_, err := sqlstore.TxFrom(ctx).ExecContext(ctx, "INSERT INTO effects (id) VALUES (?)", id)
		return err
	}, err
}

// effects counts the messages that have taken effect, and those that have done so
// more than once.
func effects(w work) (distinct, wrong int, err error) {
	if w.Store == "bbolt" {
		db, err := openBolt(w.Path)
		if err != nil {
			return 0, 0, err
		}
		defer db.Close()
		err = db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucket).ForEach(func(id, value []byte) error {
				if distinct++; string(value) != "x" {
					wrong++
				}
				return nil
			})
		})
		return distinct, wrong, err
	}
	db, err := openSQLite(w.Path)
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	err = db.QueryRow("SELECT count(*), count(*) FILTER (WHERE n > 1) FROM (SELECT count(*) AS n FROM effects GROUP BY id)").Scan(&distinct, &wrong)
	return distinct, wrong, err
}
