package pgnotify_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/warrenmq/warren/reliable/dialect"
	"github.com/warrenmq/warren/reliable/outbox"
	"github.com/warrenmq/warren/reliable/outbox/pgnotify"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// TestCommitWakesTheRelay has a relay that would poll once an hour, and loses the connection in between.
func TestCommitWakesTheRelay(t *testing.T) {
	url := os.Getenv("WARREN_TEST_POSTGRES_URL")
	if url == "" {
		t.Skip("WARREN_TEST_POSTGRES_URL is not set: test/peers/postgres-debian.sh start prints one")
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	table := "t_" + strings.ToLower(rand.Text())
	box, err := outbox.New(db, dialect.Postgres, outbox.Options{Table: table, Notify: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.CreateTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer db.Exec("DROP TABLE " + table + ", " + table + "_lanes")
	published := make(chan string, 10)
	relay, err := outbox.NewRelay(box, outbox.PublisherFunc(func(_ context.Context, m outbox.Message) (func(context.Context) error, error) {
		published <- m.ID
		return func(context.Context) error { return nil }, nil
	}), outbox.RelayOptions{Poll: time.Hour, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	wakes := make(chan struct{}, 100)
	// A name by which the server can be told to end the connection.
	named := url + "&application_name=" + table
	if !strings.Contains(url, "?") {
		named = url + "?application_name=" + table
	}
	running.Go(func() { relay.Run(ctx) })
	running.Go(func() {
		wake := func() { relay.Wake(); wakes <- struct{}{} }
		if err := pgnotify.Listen(ctx, named, outbox.Channel(table), wake, quiet()); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	add := func(id string) {
		t.Helper()
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if err := box.Add(t.Context(), tx, outbox.Message{ID: id}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-published:
			if got != id {
				t.Errorf("published %s, want %s", got, id)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not published", id)
		}
	}
	listening := func() {
		t.Helper()
		select {
		case <-wakes:
		case <-time.After(30 * time.Second):
			t.Fatal("not listening")
		}
	}
	listening()
	add("a")
	add("b")
	for len(wakes) > 0 {
		<-wakes
	}
	if _, err := db.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, table); err != nil {
		t.Fatal(err)
	}
	listening() // again
	add("c")
}

func TestNoURL(t *testing.T) {
	if err := pgnotify.Listen(t.Context(), "postgres://a b", "c", func() {}, nil); err == nil {
		t.Error("no error for what is not a URL")
	}
}

// TestServerIsGone: it goes on trying, and ends with its context.
func TestServerIsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tries := make(chan struct{}, 100)
	logger := slog.New(slog.NewTextHandler(writer(func() { tries <- struct{}{} }), nil))
	ended := make(chan error, 1)
	go func() {
		ended <- pgnotify.Listen(ctx, "postgres://x@127.0.0.1:1/x", "c", func() { t.Error("woken without a server") }, logger)
	}()
	for range 3 {
		select {
		case <-tries:
		case <-time.After(30 * time.Second):
			t.Fatal("it gave up, or said nothing")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// writer calls a function for each line of a log.
type writer func()

func (w writer) Write(b []byte) (int, error) { w(); return len(b), nil }
