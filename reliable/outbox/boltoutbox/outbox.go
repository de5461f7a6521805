// Package boltoutbox is an outbox (package outbox) in a bbolt file: what a transaction of the file adds is
// published after its commit.
//
// One process has the file. What must hold is what package outbox says. In the file, rows are numbered in the
// order of Add; an index sorts them by the time when they are due, with 0 for at once; another has those that
// have failed, by their key, because nothing behind them with that key may be published.
//
// The methods of an [Outbox] may be called from any goroutine. Use one Outbox for a bucket: the relays of several
// would publish the same messages. No transaction is open while messages are published.
package boltoutbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/reliable/outbox"
	"go.etcd.io/bbolt"
)

const (
	rowsName   = "rows"   // seq -> row
	dueName    = "due"    // due time, seq -> nothing
	failedName = "failed" // key, seq -> nothing
	// defaultBatchTimeout is Options.BatchTimeout unless given.
	defaultBatchTimeout = 30 * time.Second
	// maxErrorBytes is how much is kept of why a message was not published.
	maxErrorBytes = 1000
)

// Options of [New]. The zero value is usual.
type Options struct {
	Bucket       string           // top-level bucket, by default "warren.outbox"
	BatchTimeout time.Duration    // bounds how long a relay may take to publish a batch, by default 30 s
	Now          func() time.Time // by default time.Now
}

// Outbox is a bucket of messages. It is the Source of an outbox.Relay.
type Outbox struct {
	db           *bbolt.DB
	bucket       []byte
	batchTimeout time.Duration
	now          func() time.Time
	wake         atomic.Pointer[func()]

	delivering sync.Mutex // held by the relay that works
	turn       int        // guarded by delivering: whether retries and scheduled messages come first
}

var _ outbox.Source = (*Outbox)(nil)

// New returns the outbox in a bucket of the file, which it makes if it is missing. The file stays the caller's.
func New(db *bbolt.DB, o Options) (*Outbox, error) {
	b := &Outbox{db: db, bucket: []byte("warren.outbox"), batchTimeout: o.BatchTimeout, now: o.Now}
	if o.Bucket != "" {
		b.bucket = []byte(o.Bucket)
	}
	if b.batchTimeout == 0 {
		b.batchTimeout = defaultBatchTimeout
	}
	if b.batchTimeout < 10*time.Millisecond || b.batchTimeout > time.Hour {
		return nil, fmt.Errorf("a batch timeout of %v: from 10 ms to 1 h", b.batchTimeout)
	}
	if b.now == nil {
		b.now = time.Now
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(b.bucket)
		for _, name := range []string{rowsName, dueName, failedName} {
			if err == nil {
				_, err = top.CreateBucketIfNotExists([]byte(name))
			}
		}
		return err
	})
	if err != nil {
		return nil, b.wrap(err)
	}
	return b, nil
}

// OnCommit has wake called after each commit of a transaction that has added messages, in the goroutine that
// commits. Give it outbox.Relay.Wake, and the relay need not wait for its next poll.
func (b *Outbox) OnCommit(wake func()) { b.wake.Store(&wake) }

// row is a message as it is stored.
type row struct {
	Message  json.RawMessage `json:"message"`
	Added    int64           `json:"added"` // microseconds since 1970, as Due
	Due      int64           `json:"due,omitempty"`
	Attempts int             `json:"attempts,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Add writes messages to the outbox inside the caller's transaction: they are published if it commits, and only
// then. After an error, roll back.
func (b *Outbox) Add(tx *bbolt.Tx, messages ...outbox.Message) error {
	if !tx.Writable() {
		return b.wrap(errors.New("the transaction is for reading only"))
	}
	in, err := b.open(tx)
	if err != nil {
		return err
	}
	added := b.now().UnixMicro()
	for _, m := range messages {
		text, err := outbox.Encode(m)
		if err != nil {
			return err
		}
		seq, err := in.rows.NextSequence()
		if err != nil {
			return b.wrap(err)
		}
		r := row{Message: text, Added: added}
		if !m.DeliverAt.IsZero() {
			r.Due = max(m.DeliverAt.UnixMicro(), 0)
		}
		if err := in.put(seq, r); err != nil {
			return b.wrap(err)
		}
	}
	if wake := b.wake.Load(); wake != nil && len(messages) > 0 {
		tx.OnCommit(*wake)
	}
	return nil
}

// Backlog is how many messages wait, with those that are scheduled.
func (b *Outbox) Backlog() (messages int, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		in, err := b.open(tx)
		if err == nil {
			messages = in.rows.Stats().KeyN
		}
		return err
	})
	return messages, err
}

// Deliver implements outbox.Source.
func (b *Outbox) Deliver(ctx context.Context, limit int, publish func(context.Context, []outbox.Row) []outbox.Outcome) (taken int, err error) {
	if !b.delivering.TryLock() {
		return 0, nil
	}
	defer b.delivering.Unlock()
	b.turn++
	var rows []outbox.Row
	err = b.db.View(func(tx *bbolt.Tx) error {
		in, err := b.open(tx)
		if err != nil {
			return err
		}
		now := b.now().UnixMicro()
		// Every other time what has a due time comes first, which would otherwise wait as long as there is a
		// backlog.
		if b.turn%2 == 1 {
			if rows, err = in.take(1, now, limit); err != nil || len(rows) > 0 {
				return err
			}
		}
		rows, err = in.take(0, now, limit)
		return err
	})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	publishing, cancel := context.WithTimeout(ctx, b.batchTimeout)
	outcomes := publish(publishing, rows)
	cancel()
	err = b.db.Update(func(tx *bbolt.Tx) error {
		in, err := b.open(tx)
		if err != nil {
			return err
		}
		now := b.now().UnixMicro()
		for i, o := range outcomes {
			if err := in.settle(rows[i], o, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return len(rows), b.wrap(err)
	}
	return len(rows), nil
}

func (b *Outbox) wrap(err error) error { return fmt.Errorf("outbox bucket %q: %w", b.bucket, err) }

// buckets are those of an outbox in a transaction.
type buckets struct{ rows, due, failed *bbolt.Bucket }

func (b *Outbox) open(tx *bbolt.Tx) (buckets, error) {
	top := tx.Bucket(b.bucket)
	if top == nil {
		return buckets{}, b.wrap(errors.New("it is not there"))
	}
	in := buckets{top.Bucket([]byte(rowsName)), top.Bucket([]byte(dueName)), top.Bucket([]byte(failedName))}
	if in.rows == nil || in.due == nil || in.failed == nil {
		return in, b.wrap(errors.New("it is not an outbox"))
	}
	return in, nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func dueKey(due int64, seq uint64) []byte { return append(number(uint64(due)), number(seq)...) }

// failedKey has the key's length in front, so that no key is the beginning of another.
func failedKey(key string, seq uint64) []byte {
	return append(append(binary.AppendUvarint(nil, uint64(len(key))), key...), number(seq)...)
}

// put writes a row, and where it is due.
func (in buckets) put(seq uint64, r row) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := in.rows.Put(number(seq), text); err != nil {
		return err
	}
	return in.due.Put(dueKey(r.Due, seq), nil)
}

func (in buckets) get(seq uint64) (r row, err error) {
	text := in.rows.Get(number(seq))
	if text == nil {
		return r, fmt.Errorf("row %d is in the index only", seq)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("row %d: %w", seq, err)
	}
	return r, nil
}

// take reads up to limit rows whose due time is from from to now and that are not behind a failure.
func (in buckets) take(from, now int64, limit int) (list []outbox.Row, err error) {
	end := number(uint64(now) + 1)
	cursor := in.due.Cursor()
	for k, _ := cursor.Seek(number(uint64(from))); k != nil && len(list) < limit && bytes.Compare(k, end) < 0; k, _ = cursor.Next() {
		seq := binary.BigEndian.Uint64(k[8:])
		r, err := in.get(seq)
		if err != nil {
			return nil, err
		}
		m, err := outbox.Decode(r.Message)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", seq, err)
		}
		if !in.blocked(m.Key, seq) {
			list = append(list, outbox.Row{Message: m, Seq: int64(seq), Attempts: r.Attempts, Added: time.UnixMicro(r.Added)})
		}
	}
	return list, nil
}

// blocked reports whether an earlier row with the same key has failed.
func (in buckets) blocked(key string, seq uint64) bool {
	if key == "" {
		return false
	}
	first, _ := in.failed.Cursor().Seek(failedKey(key, 0))
	return first != nil && bytes.Compare(first, failedKey(key, seq)) < 0
}

// settle removes a row that was confirmed, and puts one that failed back.
func (in buckets) settle(taken outbox.Row, o outbox.Outcome, now int64) error {
	if !o.Confirmed && o.Err == nil {
		return nil
	}
	seq := uint64(taken.Seq)
	r, err := in.get(seq)
	if err != nil {
		return err
	}
	if err := in.due.Delete(dueKey(r.Due, seq)); err != nil {
		return err
	}
	if o.Confirmed {
		if r.Attempts > 0 && taken.Key != "" {
			if err := in.failed.Delete(failedKey(taken.Key, seq)); err != nil {
				return err
			}
		}
		return in.rows.Delete(number(seq))
	}
	r.Attempts++
	r.Due = now + o.Retry.Microseconds()
	r.Error = o.Err.Error()
	r.Error = r.Error[:min(len(r.Error), maxErrorBytes)]
	if taken.Key != "" {
		if err := in.failed.Put(failedKey(taken.Key, seq), nil); err != nil {
			return err
		}
	}
	return in.put(seq, r)
}
