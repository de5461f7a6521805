package boltoutbox_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/warrenmq/warren/reliable/outbox"
	"github.com/warrenmq/warren/reliable/outbox/boltoutbox"
	"go.etcd.io/bbolt"
)

// What a transaction of the file adds is published after its commit.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := bbolt.Open(filepath.Join(dir, "shop.db"), 0o600, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	box, err := boltoutbox.New(db, boltoutbox.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		// ... write the order ...
		return box.Add(tx, outbox.Message{ID: "order-7", RoutingKey: "orders", Body: []byte("7")})
	})
	if err != nil {
		fmt.Println(err)
	}
	publisher := outbox.PublisherFunc(func(_ context.Context, m outbox.Message) (func(context.Context) error, error) {
		fmt.Println("publish", m.ID)
		return func(context.Context) error { return nil }, nil // in a program: reliable.NewOutboxPublisher
	})
	relay, err := outbox.NewRelay(box, publisher, outbox.RelayOptions{Observe: func(outbox.Batch) { stop() }})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(relay.Run(ctx), relay.Confirmed())
	// Output:
	// publish order-7
	// <nil> 1
}
