package reliable_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite"

	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
	"github.com/warrenmq/warren/reliable/dialect"
	"github.com/warrenmq/warren/reliable/outbox"
)

// buried is a client with dead letters of orders: those with an even number.
func buried() (client *reliable.Client, dead *reliable.DeadLetters, end func()) {
	client, end = connect()
	ctx := context.Background()
	orders := reliable.Queue{Name: "orders"}
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	check(err)
	for n := range 5 {
		check(publisher.Publish(ctx, Order{ID: n}, reliable.ID(fmt.Sprint("order-", n))))
	}
	handled := make(chan struct{}, 10)
	consumer, err := reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		handled <- struct{}{}
		if m.Body.ID%2 == 0 {
			return reliable.Permanent(fmt.Errorf("order %d is even", m.Body.ID))
		}
		return nil
	}, reliable.Prefetch(1)) // one at a time, so that they die in order
	check(err)
	for range 5 {
		<-handled
	}
	check(consumer.Stop(ctx)) // finishes what it has begun
	return client, client.DeadLetters(orders), end
}

// What lies among the dead letters, and why. They stay there.
func ExampleDeadLetters_Scan() {
	_, dead, end := buried()
	defer end()
	for letter, err := range dead.Scan(context.Background(), reliable.Filter{Reason: reliable.ReasonPermanent}) {
		check(err)
		fmt.Println(letter.ID, letter.Attempts, letter.Error)
	}
	// Output:
	// order-0 1 permanent: order 0 is even
	// order-2 1 permanent: order 2 is even
	// order-4 1 permanent: order 4 is even
}

// Removed for good: those that the filter chooses, and what would be first.
func ExampleDeadLetters_Purge() {
	_, dead, end := buried()
	defer end()
	ctx := context.Background()
	old := reliable.Filter{DiedBefore: time.Now().Add(time.Hour), IDs: []string{"order-2"}}
	report, err := dead.Purge(ctx, old, reliable.PurgeOptions{DryRun: true})
	check(err)
	fmt.Println("would be removed:", report.Done)
	report, err = dead.Purge(ctx, old, reliable.PurgeOptions{})
	check(err)
	fmt.Println("removed:", report.Done, "of", report.Scanned)
	// Output:
	// would be removed: 1
	// removed: 1 of 3
}

// To a file and back, for example between two brokers.
func ExampleDeadLetters_Export() {
	_, dead, end := buried()
	defer end()
	ctx := context.Background()
	var file bytes.Buffer
	_, err := dead.Export(ctx, reliable.Filter{}, &file)
	check(err)
	fmt.Println(strings.Count(file.String(), "\n"), "lines")
	_, err = dead.Purge(ctx, reliable.Filter{}, reliable.PurgeOptions{})
	check(err)
	report, err := dead.Import(ctx, &file)
	check(err)
	fmt.Println(report.Done, "are back")
	// Output:
	// 3 lines
	// 3 are back
}

// Messages whose work queue did not exist any more when their delay was over.
func ExampleClient_Lost() {
	client, end := connect()
	defer end()
	lost := 0
	for _, err := range client.Lost().Scan(context.Background(), reliable.Filter{}) {
		check(err)
		lost++
	}
	fmt.Println(lost)
	// Output: 0
}

// The effect and the record that the message was handled are one transaction, so the
// effect happens once, however often the message comes.
func ExampleInTx() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)
	db, err := bbolt.Open(filepath.Join(dir, "accounts.db"), 0o600, nil)
	check(err)
	defer db.Close()
	store, err := boltstore.New(db, boltstore.Options{}) // or sqlstore, with the program's database
	check(err)

	orders := reliable.Queue{Name: "orders"}
	committed := make(chan string, 10)
	_, err = reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		tx := boltstore.TxFrom(ctx)
		tx.OnCommit(func() { committed <- m.ID })
		booked, err := tx.CreateBucketIfNotExists([]byte("booked"))
		if err != nil {
			return err
		}
		return booked.Put([]byte(m.ID), append(booked.Get([]byte(m.ID)), 'x'))
	}, reliable.InTx("accounts", store))
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	check(err)
	for _, id := range []string{"order-7", "order-7", "order-8"} {
		check(publisher.Publish(ctx, Order{}, reliable.ID(id)))
	}
	fmt.Println(<-committed, <-committed)
	check(db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("booked")).ForEach(func(id, times []byte) error {
			fmt.Println(string(id), "booked", len(times), "time")
			return nil
		})
	}))
	// Output:
	// order-7 order-8
	// order-7 booked 1 time
	// order-8 booked 1 time
}

// Two messages for the same thing have different ids: a key of the business recognizes
// them.
func ExampleDedupKey() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	orders := reliable.Queue{Name: "orders"}
	done := make(chan string, 10)
	_, err := reliable.Consume(ctx, client, orders, func(ctx context.Context, m *reliable.Message[Order]) error {
		done <- m.Headers["invoice"].(string)
		return nil
	}, reliable.Idempotent("shipping", dedup.NewMemory(0, nil),
		reliable.DedupKey(func(d *reliable.Delivery) string { invoice, _ := d.Headers["invoice"].(string); return invoice }),
		reliable.AcceptNoID(),           // those without an invoice are handled each time
		reliable.Lease(10*time.Second),  // a process that dies keeps its message so long
		reliable.Keep(30*24*time.Hour))) // what was handled is remembered so long
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(orders))
	check(err)
	for _, invoice := range []string{"2026-1", "2026-1", "2026-2"} {
		check(publisher.Publish(ctx, Order{ID: 7}, reliable.Header("invoice", invoice)))
	}
	fmt.Println(<-done)
	fmt.Println(<-done)
	// Output:
	// 2026-1
	// 2026-2
}

// What a transaction has written to the outbox is published after its commit, in the
// end and at least once; a relay sees to that.
func ExampleNewOutboxPublisher() {
	client, end := connect()
	defer end()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db, err := sql.Open("sqlite", ":memory:")
	check(err)
	defer db.Close()
	db.SetMaxOpenConns(1) // each connection to :memory: is a database of its own
	box, err := outbox.New(db, dialect.SQLite, outbox.Options{})
	check(err)
	check(box.CreateTable(ctx))

	tx, err := db.Begin()
	check(err)
	// … write the order …
	check(box.Add(ctx, tx, outbox.Message{ID: "order-7", RoutingKey: "orders", Body: []byte(`{"ID":7}`)}))
	check(tx.Commit())

	seen := make(chan string)
	_, err = reliable.Consume(ctx, client, reliable.Queue{Name: "orders"}, func(ctx context.Context, m *reliable.Message[Order]) error {
		seen <- fmt.Sprint(m.ID, " ", m.Body.ID)
		return nil
	})
	check(err)
	publisher, err := reliable.NewOutboxPublisher(client)
	check(err)
	relay, err := outbox.NewRelay(box, publisher, outbox.RelayOptions{})
	check(err)
	ended := make(chan error)
	go func() { ended <- relay.Run(ctx) }()
	fmt.Println(<-seen)
	stop() // the relay first, and then the client
	fmt.Println(<-ended)
	// Output:
	// order-7 7
	// <nil>
}

// A batch whose messages have different fates: the one that is named comes again, the
// others are done.
func ExampleBatchError() {
	client, end := connect()
	defer end()
	ctx := context.Background()
	rows := reliable.Queue{Name: "rows"}
	again := make(chan int)
	_, err := reliable.ConsumeBatch(ctx, client, rows, reliable.Batch{Size: 3, Wait: 20 * time.Millisecond},
		func(ctx context.Context, messages []*reliable.Message[Order]) error {
			failed := map[int]error{}
			for i, m := range messages {
				switch {
				case m.Attempt > 1:
					again <- m.Body.ID
				case m.Body.ID == 1:
					failed[i] = errors.New("the row is locked")
				}
			}
			if len(failed) > 0 {
				return &reliable.BatchError{Errs: failed}
			}
			return nil
		}, reliable.Retry(reliable.RetryPolicy{Backoff: reliable.Schedule(0)}))
	check(err)
	publisher, err := reliable.NewPublisher[Order](ctx, client, reliable.ToQueue(rows))
	check(err)
	for n := range 3 {
		check(publisher.Publish(ctx, Order{ID: n}))
	}
	fmt.Println("row", <-again, "again")
	// Output: row 1 again
}
