package boltoutbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable/outbox"
	"github.com/warrenmq/warren/reliable/outbox/boltoutbox"
	"go.etcd.io/bbolt"
)

// place is a file, its outbox and a clock.
type place struct {
	t      *testing.T
	path   string
	db     *bbolt.DB
	box    *boltoutbox.Outbox
	mu     sync.Mutex
	offset time.Duration
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, path: filepath.Join(t.TempDir(), "outbox.db")}
	p.open()
	t.Cleanup(func() { p.db.Close() })
	return p
}

// open opens the file, again if need be.
func (p *place) open() {
	p.t.Helper()
	db, err := bbolt.Open(p.path, 0o600, &bbolt.Options{NoSync: true, Timeout: 10 * time.Second})
	if err != nil {
		p.t.Fatal(err)
	}
	p.db = db
	if p.box, err = boltoutbox.New(db, boltoutbox.Options{Now: p.now}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.offset)
}

func (p *place) advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset += d
}

func (p *place) add(messages ...outbox.Message) {
	p.t.Helper()
	if err := p.db.Update(func(tx *bbolt.Tx) error { return p.box.Add(tx, messages...) }); err != nil {
		p.t.Fatal(err)
	}
}

// deliver runs batches until nothing is due, and wants these ids tried in this order, those with a ! to fail.
func (p *place) deliver(want ...string) {
	p.t.Helper()
	var tried []string
	for range 100 {
		taken, err := p.box.Deliver(p.t.Context(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
			outcomes := make([]outbox.Outcome, len(rows))
			failed := map[string]bool{}
			for i, r := range rows {
				switch {
				case r.Key != "" && failed[r.Key]:
				case slices.Contains(want, r.ID+"!"):
					outcomes[i] = outbox.Outcome{Err: errors.New("refused"), Retry: time.Minute}
					failed[r.Key] = true
					tried = append(tried, r.ID+"!")
				default:
					outcomes[i].Confirmed = true
					tried = append(tried, r.ID)
				}
			}
			return outcomes
		})
		if err != nil {
			p.t.Fatal(err)
		}
		if taken == 0 {
			if !slices.Equal(tried, want) {
				p.t.Errorf("tried %v, want %v", tried, want)
			}
			return
		}
	}
	p.t.Fatal("there is always something due")
}

// left wants so many messages and entries of the indexes in the file.
func (p *place) left(want int) {
	p.t.Helper()
	n, err := p.box.Backlog()
	if err != nil || n != want {
		p.t.Errorf("%d wait, %v, want %d", n, err, want)
	}
	err = p.db.View(func(tx *bbolt.Tx) error {
		top := tx.Bucket([]byte("warren.outbox"))
		if due := top.Bucket([]byte("due")).Stats().KeyN; due != want {
			p.t.Errorf("%d are in the index of due times, want %d", due, want)
		}
		if failed := top.Bucket([]byte("failed")).Stats().KeyN; want == 0 && failed != 0 {
			p.t.Errorf("%d are in the index of failures", failed)
		}
		return nil
	})
	if err != nil {
		p.t.Error(err)
	}
}

func TestOnlyWhatCommits(t *testing.T) {
	p := newPlace(t)
	woken := 0
	p.box.OnCommit(func() { woken++ })
	undo := errors.New("undo")
	err := p.db.Update(func(tx *bbolt.Tx) error {
		if err := p.box.Add(tx, outbox.Message{ID: "never"}); err != nil {
			return err
		}
		return undo
	})
	if !errors.Is(err, undo) || woken != 0 {
		t.Fatalf("%v, woken %d times", err, woken)
	}
	p.add(outbox.Message{ID: "a"}, outbox.Message{ID: "b"})
	if woken == 0 {
		t.Error("the commit did not wake anybody")
	}
	p.left(2)
	p.db.Close() // a restart
	p.open()
	p.deliver("a", "b")
	p.deliver()
	p.left(0)
}

func TestMessageComesBack(t *testing.T) {
	p := newPlace(t)
	full := outbox.Message{
		ID: "m\x001", Key: "key \xff", Exchange: "orders", RoutingKey: "eu",
		Properties: outbox.Properties{ContentType: "application/json", Type: "order", Priority: 7},
		Headers:    map[string]any{"text": "é", "bytes": []byte{0, 255}, "n": int32(-1), "l": []any{true, nil}},
		Body:       []byte("\x00\xffbody"), DeliverAt: p.now().Add(-time.Second).Truncate(time.Microsecond),
	}
	p.add(full)
	_, err := p.box.Deliver(t.Context(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
		r := rows[0]
		if !r.DeliverAt.Equal(full.DeliverAt) || p.now().Sub(r.Added) > time.Minute {
			t.Errorf("%+v", r)
		}
		r.DeliverAt = full.DeliverAt
		if !reflect.DeepEqual(r.Message, full) {
			t.Errorf("got\n%#v, want\n%#v", r.Message, full)
		}
		return []outbox.Outcome{{Confirmed: true}}
	})
	if err != nil {
		t.Fatal(err)
	}
	p.left(0)
}

func TestScheduled(t *testing.T) {
	p := newPlace(t)
	p.add(outbox.Message{ID: "later", Key: "k", DeliverAt: p.now().Add(time.Hour)}, outbox.Message{ID: "now", Key: "k"})
	p.deliver("now")
	p.advance(time.Hour)
	p.deliver("later")
	p.left(0)
}

func TestFailureHoldsItsKey(t *testing.T) {
	p := newPlace(t)
	p.add(outbox.Message{ID: "k1", Key: "k"}, outbox.Message{ID: "k2", Key: "k"}, outbox.Message{ID: "l1", Key: "l"}, outbox.Message{ID: "x"})
	p.deliver("k1!", "l1", "x!")
	p.add(outbox.Message{ID: "k3", Key: "k"}, outbox.Message{ID: "kk", Key: "kk"}, outbox.Message{ID: "y"})
	p.deliver("kk", "y")
	p.advance(time.Minute)
	p.deliver("k1!", "x")
	p.advance(time.Minute)
	p.deliver("k1", "k2", "k3")
	p.left(0)
}

func TestRetryDuringBacklog(t *testing.T) {
	p := newPlace(t)
	p.add(outbox.Message{ID: "scheduled", DeliverAt: p.now()})
	for i := range 300 {
		p.add(outbox.Message{ID: fmt.Sprint(i)})
	}
	for range 2 {
		done := false
		_, err := p.box.Deliver(t.Context(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
			done = rows[0].ID == "scheduled"
			return []outbox.Outcome{{Confirmed: true}}
		})
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
	t.Error("a scheduled message waits behind the whole backlog")
}

// TestKeysAreNotMistaken has a key whose entries would lie between those of another, if lengths did not count.
func TestKeysAreNotMistaken(t *testing.T) {
	p := newPlace(t)
	p.add(outbox.Message{ID: "first", Key: "k"}, outbox.Message{ID: "other", Key: "k\x00\x00\x00\x00\x00\x00\x00\x00"}, outbox.Message{ID: "none"})
	p.deliver("first", "other!", "none")
	p.add(outbox.Message{ID: "second", Key: "k"})
	p.deliver("second")
	p.left(1)
}

// TestCrashAfterConfirm: the broker has the message, the file does not know yet. It comes again with its id.
func TestCrashAfterConfirm(t *testing.T) {
	p := newPlace(t)
	p.add(outbox.Message{ID: "a", Key: "k"})
	_, err := p.box.Deliver(t.Context(), 10, func(_ context.Context, rows []outbox.Row) []outbox.Outcome {
		p.db.Close()
		return []outbox.Outcome{{Confirmed: true}}
	})
	if err == nil {
		t.Error("the crash was not noticed")
	}
	p.open()
	p.deliver("a")
	p.left(0)
}

// TestRelay has a broker with troubles, programs that add, and two relays, of which one works at a time.
func TestRelay(t *testing.T) {
	p := newPlace(t)
	const keys, each = 5, 40
	var mu sync.Mutex
	got := map[string][]int64{}
	publisher := outbox.PublisherFunc(func(_ context.Context, m outbox.Message) (func(context.Context) error, error) {
		return func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if rand.IntN(10) == 0 {
				return errors.New("refused")
			}
			got[m.Key] = append(got[m.Key], m.Headers["n"].(int64))
			if rand.IntN(20) == 0 {
				return errors.New("no answer")
			}
			return nil
		}, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 2 {
		r, err := outbox.NewRelay(p.box, publisher, outbox.RelayOptions{Batch: 7, Poll: 2 * time.Millisecond,
			MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		p.box.OnCommit(r.Wake)
		running.Go(func() { r.Run(ctx) })
	}
	var adding sync.WaitGroup
	for k := range keys {
		adding.Go(func() {
			for n := range each {
				err := p.db.Update(func(tx *bbolt.Tx) error {
					return p.box.Add(tx, outbox.Message{ID: fmt.Sprint(k, n), Key: fmt.Sprint("key ", k), Headers: map[string]any{"n": int64(n)}})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	adding.Wait()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
		n, err := p.box.Backlog()
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d messages are left, %v", n, err)
		}
		if n == 0 {
			break
		}
	}
	cancel()
	running.Wait()
	p.left(0)
	for k := range keys {
		if list := slices.Compact(got[fmt.Sprint("key ", k)]); !slices.IsSorted(list) || len(list) != each {
			t.Errorf("key %d: published %v", k, list)
		}
	}
}

func TestRefused(t *testing.T) {
	p := newPlace(t)
	for _, m := range []outbox.Message{{}, {ID: "a", Headers: map[string]any{"c": make(chan int)}}} {
		err := p.db.Update(func(tx *bbolt.Tx) error { return p.box.Add(tx, m) })
		if !errors.Is(err, outbox.ErrInvalid) {
			t.Errorf("%v: %v", m, err)
		}
	}
	if err := p.db.View(func(tx *bbolt.Tx) error { return p.box.Add(tx, outbox.Message{ID: "a"}) }); err == nil {
		t.Error("added in a transaction for reading")
	}
	if _, err := boltoutbox.New(p.db, boltoutbox.Options{BatchTimeout: 1}); err == nil {
		t.Error("a batch timeout of 1 ns was accepted")
	}
	p.left(0)
}
