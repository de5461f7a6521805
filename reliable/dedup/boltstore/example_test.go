package boltstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
	"go.etcd.io/bbolt"
)

// What was handled is known after a restart.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "dedup")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	for run := range 2 {
		db, err := bbolt.Open(filepath.Join(dir, "handled.db"), 0o600, &bbolt.Options{Timeout: time.Second})
		if err != nil {
			fmt.Println(err)
			return
		}
		store, err := boltstore.New(db, boltstore.Options{})
		if err != nil {
			fmt.Println(err)
			return
		}
		claim, err := store.Begin(context.Background(), dedup.Key{Consumer: "billing", ID: "order-1"}, dedup.Attempt{Number: 1},
			dedup.Lifetimes{Lease: time.Minute, Keep: 24 * time.Hour})
		fmt.Println("run", run+1, claim.Status, err)
		if claim.Status == dedup.Acquired {
			fmt.Println("complete:", store.Complete(context.Background(), claim))
		}
		db.Close()
	}
	// Output:
	// run 1 acquired <nil>
	// complete: <nil>
	// run 2 done <nil>
}
