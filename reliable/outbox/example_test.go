package outbox_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/warrenmq/warren/reliable/dialect"
	"github.com/warrenmq/warren/reliable/outbox"
	_ "modernc.org/sqlite"
)

// What a transaction adds is published after its commit, and only then.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // each connection to :memory: is a database of its own
	box, err := outbox.New(db, dialect.SQLite, outbox.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := box.CreateTable(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for _, order := range []string{"1", "2"} {
		tx, err := db.Begin()
		if err != nil {
			fmt.Println(err)
			return
		}
		// ... write the order ...
		if err := box.Add(ctx, tx, outbox.Message{ID: "placed-" + order, Key: "orders", RoutingKey: "placed", Body: []byte(order)}); err != nil {
			fmt.Println(err)
		}
		if order == "1" {
			err = tx.Rollback()
		} else {
			err = tx.Commit()
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	publisher := outbox.PublisherFunc(func(_ context.Context, m outbox.Message) (func(context.Context) error, error) {
		fmt.Println("publish", m.ID)
		return func(context.Context) error { return nil }, nil // the broker's confirm
	})
	relay, err := outbox.NewRelay(box, publisher, outbox.RelayOptions{Observe: func(outbox.Batch) { cancel() }})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(relay.Run(ctx), relay.Confirmed())
	// Output:
	// publish placed-2
	// <nil> 1
}
