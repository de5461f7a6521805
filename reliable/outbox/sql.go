package outbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/reliable/dialect"
)

const (
	// lanes is how many relays can work on a Postgres table at the same time. Messages with the same key are in
	// the same lane, and a relay locks a lane, so that no other publishes a later one of them.
	lanes = 16
	// defaultBatchTimeout is Options.BatchTimeout unless given.
	defaultBatchTimeout = 30 * time.Second
	// maxErrorBytes is how much is kept of why a message was not published.
	maxErrorBytes = 1000
)

// Options of [New]. The zero value is usual.
type Options struct {
	Table string // by default "warren_outbox"; may have a schema in front
	// Notify lets Add wake those who listen (pgnotify, or LISTEN) to the channel that has the table's name, with
	// a _ for a dot, when the transaction commits. Postgres only. Postgres commits transactions that notify one after the
	// other, so leave it off where many commit at the same time; the relay polls anyway.
	Notify bool
	// BatchTimeout bounds how long a relay may take to publish a batch, by default 30 s. What is not confirmed
	// by then is tried again.
	BatchTimeout time.Duration
	// Now is the clock. By default it is the server's with Postgres, and time.Now with SQLite.
	Now func() time.Time
}

// Outbox is a table of messages in an SQL database. It is the Source of a [Relay].
type Outbox struct {
	db      *sql.DB
	dialect dialect.Dialect
	o       Options
	sql     statements
	owner   string        // of this Outbox's relay, with SQLite
	turn    atomic.Uint64 // the lane to look at first, and whether retries come first
}

var _ Source = (*Outbox)(nil)

// New returns the outbox in a table, which is there already or is made by [Outbox.CreateTable]. The database
// stays the caller's.
func New(db *sql.DB, d dialect.Dialect, o Options) (*Outbox, error) {
	if o.Table == "" {
		o.Table = "warren_outbox"
	}
	if err := dialect.Check(d, o.Table); err != nil {
		return nil, err
	}
	if o.Notify && d != dialect.Postgres {
		return nil, fmt.Errorf("%v has no NOTIFY: call Relay.Wake after the commit, or let the relay poll", d)
	}
	if o.BatchTimeout == 0 {
		o.BatchTimeout = defaultBatchTimeout
	}
	if o.BatchTimeout < 10*time.Millisecond || o.BatchTimeout > time.Hour {
		return nil, fmt.Errorf("a batch timeout of %v: from 10 ms to 1 h", o.BatchTimeout)
	}
	if o.Now == nil && d == dialect.SQLite {
		o.Now = time.Now
	}
	return &Outbox{db: db, dialect: d, o: o, sql: newStatements(d, o.Table), owner: rand.Text()}, nil
}

// CreateTable makes the outbox's tables and indexes if they are missing.
func (b *Outbox) CreateTable(ctx context.Context) error {
	list, err := Schema(b.dialect, b.o.Table)
	if err != nil {
		return err
	}
	for _, statement := range list {
		if _, err := b.db.ExecContext(ctx, statement); err != nil {
			return b.wrap(err)
		}
	}
	return nil
}

// Tx is the transaction that messages are added in: a *sql.Tx, or a *sql.Conn that has begun one.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Add writes messages to the outbox inside the caller's transaction: they are published if it commits, and only
// then. After an error, roll back.
func (b *Outbox) Add(ctx context.Context, tx Tx, messages ...Message) error {
	for i := range messages {
		m := &messages[i]
		headers, err := m.validHeaders()
		if err != nil {
			return err
		}
		properties, err := json.Marshal(m.Properties)
		if err != nil {
			return fmt.Errorf("%w: message %q: %w", ErrInvalid, m.ID, err)
		}
		due := int64(0)
		if !m.DeliverAt.IsZero() {
			due = m.DeliverAt.UnixMicro()
		}
		body := m.Body
		if body == nil {
			body = []byte{}
		}
		_, err = tx.ExecContext(ctx, b.sql.add, b.micros(), dialect.Text(m.ID), dialect.Text(m.Key), lane(m),
			dialect.Text(m.Exchange), dialect.Text(m.RoutingKey), string(properties), string(headers), body, due)
		if err != nil {
			return b.wrap(err)
		}
	}
	if b.o.Notify && len(messages) > 0 {
		if _, err := tx.ExecContext(ctx, `SELECT pg_notify($1, '')`, Channel(b.o.Table)); err != nil {
			return b.wrap(err)
		}
	}
	return nil
}

// Channel is the name that Postgres notifies under for a table.
func Channel(table string) string { return strings.ReplaceAll(table, ".", "_") }

func lane(m *Message) int {
	h := fnv.New32a()
	if m.Key != "" {
		h.Write([]byte(m.Key))
	} else {
		h.Write([]byte(m.ID))
	}
	return int(h.Sum32() % lanes)
}

// Backlog is how many messages wait, with those that are scheduled, and for how long the oldest one has been due.
func (b *Outbox) Backlog(ctx context.Context) (messages int, oldest time.Duration, err error) {
	var micros sql.NullInt64
	err = b.db.QueryRowContext(ctx, b.sql.backlog, b.micros()).Scan(&messages, &micros)
	if err != nil {
		return 0, 0, b.wrap(err)
	}
	return messages, time.Duration(max(micros.Int64, 0)) * time.Microsecond, nil
}

// Deliver implements Source. With Postgres the lane is locked in a transaction that lasts as long as publishing
// does. With SQLite that would keep all writers waiting, so a relay registers as the owner for twice the batch
// timeout instead, and has no transaction open meanwhile.
func (b *Outbox) Deliver(ctx context.Context, limit int, publish func(context.Context, []Row) []Outcome) (taken int, err error) {
	// A database that does not answer must not stop the relay for ever.
	ctx, cancel := context.WithTimeout(ctx, 2*b.o.BatchTimeout)
	defer cancel()
	if b.dialect == dialect.Postgres {
		// A lane whose last messages another relay has just published looks as if it had some: try others.
		for again := true; again && err == nil; {
			taken, again, err = b.deliverLocked(ctx, limit, publish)
		}
	} else {
		taken, err = b.deliverOwned(ctx, limit, publish)
	}
	if err != nil {
		return taken, b.wrap(err)
	}
	return taken, nil
}

func (b *Outbox) deliverLocked(ctx context.Context, limit int, publish func(context.Context, []Row) []Outcome) (taken int, again bool, err error) {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, false, err
	}
	defer tx.Rollback() // does nothing after the commit
	turn := b.turn.Add(1)
	var locked int
	err = tx.QueryRowContext(ctx, b.sql.lock, b.micros(), int(turn%lanes)).Scan(&locked)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	rows, err := b.take(ctx, tx, turn, limit, locked)
	if err != nil || len(rows) == 0 {
		return 0, err == nil, err
	}
	outcomes := b.publish(ctx, rows, publish)
	if err := b.settle(ctx, tx, rows, outcomes); err != nil {
		return len(rows), false, err
	}
	return len(rows), false, tx.Commit()
}

func (b *Outbox) deliverOwned(ctx context.Context, limit int, publish func(context.Context, []Row) []Outcome) (taken int, err error) {
	turn := b.turn.Add(1)
	// Look first: to register is a write, which an idle relay should not do once a second.
	rows, err := b.take(ctx, b.db, turn, limit, 0)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	now := b.o.Now()
	result, err := b.db.ExecContext(ctx, b.sql.own, now.UnixMicro(), b.owner, now.Add(2*b.o.BatchTimeout).UnixMicro())
	if err != nil {
		return 0, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return 0, err
	}
	// Once more: before this one was the owner, another may have published them.
	if rows, err = b.take(ctx, b.db, turn, limit, 0); err != nil {
		return 0, err
	}
	outcomes := b.publish(ctx, rows, publish)
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return len(rows), err
	}
	defer tx.Rollback()
	if err := b.settle(ctx, tx, rows, outcomes); err != nil {
		return len(rows), err
	}
	// Only a relay that has crashed in the middle of a batch keeps others waiting.
	if _, err := tx.ExecContext(ctx, b.sql.disown, b.micros(), b.owner); err != nil {
		return len(rows), err
	}
	return len(rows), tx.Commit()
}

// publish bounds the time and sees to one outcome for each row.
func (b *Outbox) publish(ctx context.Context, rows []Row, publish func(context.Context, []Row) []Outcome) []Outcome {
	if len(rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.BatchTimeout)
	defer cancel()
	return append(publish(ctx, rows), make([]Outcome, len(rows))...)[:len(rows)]
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// take reads what is due, in order. Every other time it looks for scheduled messages and retries first, which
// would otherwise wait for as long as there is a backlog.
func (b *Outbox) take(ctx context.Context, db querier, turn uint64, limit, lane int) ([]Row, error) {
	if turn%2 == 1 {
		rows, err := b.rows(ctx, db, b.sql.takeLater, limit, lane)
		if err != nil || len(rows) > 0 {
			return rows, err
		}
	}
	return b.rows(ctx, db, b.sql.take, limit, lane)
}

func (b *Outbox) rows(ctx context.Context, db querier, query string, limit, lane int) (list []Row, err error) {
	rows, err := db.QueryContext(ctx, query, b.micros(), limit, lane)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r Row
		var properties, headers string
		var added, deliverAt int64
		if err := rows.Scan(&r.Seq, &r.ID, &r.Key, &r.Exchange, &r.RoutingKey, &properties, &headers, &r.Body, &deliverAt, &added, &r.Attempts); err != nil {
			return nil, err
		}
		for _, s := range []*string{&r.ID, &r.Key, &r.Exchange, &r.RoutingKey} {
			if *s, err = dialect.Bytes(*s); err != nil {
				return nil, fmt.Errorf("row %d: %w", r.Seq, err)
			}
		}
		if err := json.Unmarshal([]byte(properties), &r.Properties); err != nil {
			return nil, fmt.Errorf("properties of row %d: %w", r.Seq, err)
		}
		if r.Headers, err = decodeHeaders([]byte(headers)); err != nil {
			return nil, fmt.Errorf("headers of row %d: %w", r.Seq, err)
		}
		r.Added = time.UnixMicro(added)
		if deliverAt != 0 {
			r.DeliverAt = time.UnixMicro(deliverAt)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// settle removes what was confirmed and puts back what failed.
func (b *Outbox) settle(ctx context.Context, tx querier, rows []Row, outcomes []Outcome) error {
	var confirmed []any
	for i, o := range outcomes {
		switch {
		case o.Confirmed:
			confirmed = append(confirmed, rows[i].Seq)
		case o.Err != nil:
			text := o.Err.Error()
			text = dialect.Text(strings.ToValidUTF8(text[:min(len(text), maxErrorBytes)], "?"))
			if _, err := tx.ExecContext(ctx, b.sql.failed, b.micros(), rows[i].Seq, o.Retry.Microseconds(), text); err != nil {
				return err
			}
		}
	}
	if len(confirmed) == 0 {
		return nil
	}
	marks := make([]string, len(confirmed))
	for i := range marks {
		marks[i] = fmt.Sprintf("?%d", i+1)
	}
	_, err := tx.ExecContext(ctx, b.dialect.Bind(b.sql.remove+"("+strings.Join(marks, ", ")+")"), confirmed...)
	return err
}

// micros is the statement's first parameter: the time, or NULL for the server's.
func (b *Outbox) micros() any {
	if b.o.Now == nil {
		return nil
	}
	return b.o.Now().UnixMicro()
}

func (b *Outbox) wrap(err error) error { return fmt.Errorf("outbox table %s: %w", b.o.Table, err) }
