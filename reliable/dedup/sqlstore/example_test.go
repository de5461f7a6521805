package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/sqlstore"
	"github.com/warrenmq/warren/reliable/dialect"
	_ "modernc.org/sqlite"
)

// The record that a message is handled commits with what the handler writes.
func ExampleStore_BeginTx() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // each connection to :memory: is a database of its own
	store, err := sqlstore.New(db, dialect.SQLite, sqlstore.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := store.CreateTable(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := db.Exec(`CREATE TABLE charges (cents integer)`); err != nil {
		fmt.Println(err)
		return
	}
	handle := func() (dedup.Status, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return 0, err
		}
		defer tx.Rollback()
		claim, err := store.BeginTx(ctx, tx, dedup.Key{Consumer: "billing", ID: "order-1"}, dedup.Attempt{Number: 1},
			dedup.Lifetimes{Lease: time.Minute, Keep: 24 * time.Hour})
		if err != nil || claim.Status != dedup.Acquired {
			return claim.Status, err
		}
		if _, err := tx.Exec(`INSERT INTO charges VALUES (995)`); err != nil {
			return claim.Status, err
		}
		return claim.Status, tx.Commit()
	}
	for range 3 {
		fmt.Println(handle())
	}
	var cents int
	fmt.Println(db.QueryRow(`SELECT sum(cents) FROM charges`).Scan(&cents), cents)
	// Output:
	// acquired <nil>
	// done <nil>
	// done <nil>
	// <nil> 995
}
