package reliable_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dialect"
	"github.com/warrenmq/warren/reliable/outbox"
)

// openOutbox opens an outbox in a database of its own.
func openOutbox(t testing.TB) (*sql.DB, *outbox.Outbox) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "shop.db")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	box, err := outbox.New(db, dialect.SQLite, outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.CreateTable(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	return db, box
}

// TestOutboxReachesTheBroker commits messages while the connection is cut again and
// again: all of them arrive, in the order of their keys, apart from repetitions.
func TestOutboxReachesTheBroker(t *testing.T) {
	b := brokertest.New(t)
	c := open(t, b)
	db, box := openOutbox(t)
	ch := plain(t, b)
	if _, err := ch.QueueDeclare("events", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	p, err := reliable.NewOutboxPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	relay, err := outbox.NewRelay(box, p, outbox.RelayOptions{Poll: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	const keys, each = 4, 25
	for n := range each {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		for k := range keys {
			err := box.Add(ctx, tx, outbox.Message{ID: fmt.Sprintf("%d.%d", k, n), Key: fmt.Sprint(k), RoutingKey: "events", Body: []byte("b"),
				Properties: outbox.Properties{ContentType: "text/plain", Type: "event", Priority: 3},
				Headers:    map[string]any{"n": int32(n), "nested": map[string]any{"list": []any{true, map[string]any{"x": "y"}}}}})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if n%8 == 4 {
			b.CutConnections()
		}
	}
	// One that nobody can have stays, and says why.
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Add(ctx, tx, outbox.Message{ID: "lost", RoutingKey: "nowhere"}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	until(t, "only what cannot be routed is left", func() bool {
		n, _, err := box.Backlog(ctx)
		return err == nil && n == 1
	})
	var why string
	until(t, "the failure is written down", func() bool {
		return db.QueryRow("SELECT last_error FROM warren_outbox WHERE id = 'lost'").Scan(&why) == nil && why != ""
	})
	if !strings.Contains(why, reliable.ErrUnroutable.Error()) {
		t.Errorf("last_error is %q", why)
	}

	order := map[string][]int{}
	for _, d := range drain(t, plain(t, b), "events") {
		key, _, _ := strings.Cut(d.MessageId, ".")
		n, _ := d.Headers["n"].(int32)
		order[key] = append(order[key], int(n))
		nested, _ := d.Headers["nested"].(amqp.Table)
		if list, _ := nested["list"].([]any); d.DeliveryMode != amqp.Persistent || d.ContentType != "text/plain" || d.Type != "event" || d.Priority != 3 ||
			len(list) != 2 || list[0] != true {
			t.Fatalf("%+v", d)
		}
	}
	for k := range keys {
		if got := slices.Compact(order[fmt.Sprint(k)]); len(got) != each || !slices.IsSorted(got) {
			t.Errorf("key %d arrived as %v", k, order[fmt.Sprint(k)])
		}
	}
}
