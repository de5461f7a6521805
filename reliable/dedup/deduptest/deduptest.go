package deduptest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/reliable/dedup"
)

// Harness says how the store is opened.
type Harness struct {
	// Open returns a store that no other test uses, with this clock.
	Open func(t testing.TB, now func() time.Time) dedup.Store
	// Crash returns a store, with the same clock, on what is left of the one that Open returned last when its
	// process ends at once. Nil for a store that nothing is left of.
	Crash func(t testing.TB) dedup.Store
}

// Clock is a clock that moves only when it is told to. It may be used from several goroutines.
type Clock struct{ micros atomic.Int64 }

// NewClock returns a clock that stands at the beginning of 2026.
func NewClock() *Clock {
	c := &Clock{}
	c.micros.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

// Now is the time it shows.
func (c *Clock) Now() time.Time { return time.UnixMicro(c.micros.Load()) }

// Advance moves it on by d.
func (c *Clock) Advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// life is what the tests use unless they are about it.
func life() dedup.Lifetimes {
	return dedup.Lifetimes{Lease: time.Minute, Keep: 24 * time.Hour}
}

func first() dedup.Attempt { return dedup.Attempt{Number: 1} }

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Handled", testHandled},
		{"Retried", testRetried},
		{"Redriven", testRedriven},
		{"GivenBack", testGivenBack},
		{"LeaseEnds", testLeaseEnds},
		{"LeaseIsRenewed", testLeaseIsRenewed},
		{"LeaseIsLost", testLeaseIsLost},
		{"SaidAgain", testSaidAgain},
		{"Forgotten", testForgotten},
		{"Keys", testKeys},
		{"Invalid", testInvalid},
		{"Cancelled", testCancelled},
		{"Model", testModel},
		{"Concurrent", testConcurrent},
		{"ConcurrentTakeover", testTakeover},
		{"Crash", testCrash},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, h) })
	}
}

// session is a store, its clock and one key.
type session struct {
	t     testing.TB
	store dedup.Store
	clock *Clock
	key   dedup.Key
}

func open(t testing.TB, h Harness) *session {
	clock := NewClock()
	return &session{t: t, store: h.Open(t, clock.Now), clock: clock, key: dedup.Key{Consumer: "billing", ID: "m1"}}
}

// begin wants a status.
func (s *session) begin(attempt dedup.Attempt, want dedup.Status) dedup.Claim {
	s.t.Helper()
	c, err := s.store.Begin(context.Background(), s.key, attempt, life())
	if err != nil {
		s.t.Fatalf("Begin(%v, %v): %v", s.key, attempt, err)
	}
	if c.Status != want {
		s.t.Fatalf("Begin(%v, %v) found %v, want %v", s.key, attempt, c.Status, want)
	}
	if (c.Token != "") != (want == dedup.Acquired) || c.Key != s.key || c.Attempt != attempt || c.Life != life() {
		s.t.Fatalf("Begin(%v, %v) returned %+v", s.key, attempt, c)
	}
	return c
}

func (s *session) want(err, want error, what string) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func (s *session) renew(c dedup.Claim, want error) {
	s.t.Helper()
	s.want(s.store.Renew(context.Background(), c), want, "Renew")
}

func (s *session) complete(c dedup.Claim, want error) {
	s.t.Helper()
	s.want(s.store.Complete(context.Background(), c), want, "Complete")
}

func (s *session) release(c dedup.Claim, next dedup.Attempt, want error) {
	s.t.Helper()
	s.want(s.store.Release(context.Background(), c, next), want, "Release")
}

func testHandled(t *testing.T, h Harness) {
	s := open(t, h)
	c := s.begin(first(), dedup.Acquired)
	if c.Left != time.Minute {
		t.Errorf("a new lease lasts %v, want a minute", c.Left)
	}
	s.clock.Advance(20 * time.Second)
	if other := s.begin(first(), dedup.InProgress); other.Left != 40*time.Second {
		t.Errorf("the other's lease lasts %v more, want 40 s", other.Left)
	}
	s.complete(c, nil)
	s.begin(first(), dedup.Done)
	s.begin(first().Next(), dedup.Done)
	s.begin(first().Redriven(), dedup.Done)
}

func testRetried(t *testing.T, h Harness) {
	s := open(t, h)
	c := s.begin(first(), dedup.Acquired)
	s.release(c, first().Next(), nil)
	s.begin(first(), dedup.Superseded) // the original, if its ack was lost
	second := s.begin(first().Next(), dedup.Acquired)
	s.begin(first(), dedup.Superseded) // also while the copy is being handled
	s.complete(second, nil)
	s.begin(first(), dedup.Done)
}

func testRedriven(t *testing.T, h Harness) {
	s := open(t, h)
	c := s.begin(dedup.Attempt{Number: 5}, dedup.Acquired)
	s.release(c, dedup.Attempt{Number: 6}, nil) // it went to the dead letters
	s.begin(dedup.Attempt{Number: 5}, dedup.Superseded)
	c = s.begin(dedup.Attempt{Generation: 1, Number: 1}, dedup.Acquired)
	s.release(c, dedup.Attempt{Generation: 1, Number: 2}, nil)
	s.begin(dedup.Attempt{Number: 6}, dedup.Superseded)
	s.begin(dedup.Attempt{Generation: 1, Number: 1}, dedup.Superseded)
	s.begin(dedup.Attempt{Generation: 1, Number: 2}, dedup.Acquired)
}

func testGivenBack(t *testing.T, h Harness) {
	s := open(t, h)
	c := s.begin(first(), dedup.Acquired)
	s.release(c, first(), nil)
	again := s.begin(first(), dedup.Acquired)
	if again.Token == c.Token {
		t.Error("two leases have the same token")
	}
	s.renew(c, dedup.ErrLost)
	s.release(again, dedup.Attempt{}, dedup.ErrInvalid)
	s.renew(again, nil)
}

func testLeaseEnds(t *testing.T, h Harness) {
	s := open(t, h)
	crashed := s.begin(first(), dedup.Acquired)
	s.clock.Advance(time.Minute - time.Microsecond)
	if c := s.begin(first(), dedup.InProgress); c.Left <= 0 || c.Left > time.Millisecond {
		t.Errorf("the lease lasts %v more, want a little", c.Left)
	}
	s.clock.Advance(time.Microsecond)
	c := s.begin(first(), dedup.Acquired)
	s.complete(crashed, dedup.ErrLost)
	s.begin(first(), dedup.InProgress)
	s.complete(c, nil)
	s.begin(first(), dedup.Done)
}

func testLeaseIsRenewed(t *testing.T, h Harness) {
	s := open(t, h)
	c := s.begin(first(), dedup.Acquired)
	for range 5 {
		s.clock.Advance(40 * time.Second)
		s.begin(first(), dedup.InProgress)
		s.renew(c, nil)
	}
	s.clock.Advance(time.Hour) // overdue, but nobody took it
	s.renew(c, nil)
	s.begin(first(), dedup.InProgress)
	s.clock.Advance(time.Hour)
	s.complete(c, nil)
	s.begin(first(), dedup.Done)
	s.renew(c, dedup.ErrLost)
}

func testLeaseIsLost(t *testing.T, h Harness) {
	s := open(t, h)
	lost := s.begin(first(), dedup.Acquired)
	s.clock.Advance(time.Hour)
	c := s.begin(first().Next(), dedup.Acquired)
	s.renew(lost, dedup.ErrLost)
	s.complete(lost, dedup.ErrLost)
	s.release(lost, first().Next(), dedup.ErrLost)
	s.begin(first().Next(), dedup.InProgress)
	s.begin(first(), dedup.Superseded)
	s.renew(c, nil)
	stranger := c
	stranger.Key.ID = "m2"
	s.renew(stranger, dedup.ErrLost)
	s.complete(stranger, dedup.ErrLost)
	s.release(stranger, stranger.Attempt, dedup.ErrLost)
	nobody := c
	nobody.Token = ""
	s.complete(nobody, dedup.ErrLost)
}

func testSaidAgain(t *testing.T, h Harness) {
	s := open(t, h)
	c := s.begin(first(), dedup.Acquired)
	s.release(c, first().Next(), nil)
	s.release(c, first().Next(), nil)
	s.release(c, first().Next().Next(), dedup.ErrLost)
	s.renew(c, dedup.ErrLost)
	s.complete(c, dedup.ErrLost)
	c = s.begin(first().Next(), dedup.Acquired)
	s.complete(c, nil)
	s.complete(c, nil)
	s.release(c, c.Attempt.Next(), dedup.ErrLost)
	s.begin(first().Next(), dedup.Done)
}

func testForgotten(t *testing.T, h Harness) {
	s := open(t, h)
	c := s.begin(first().Next(), dedup.Acquired)
	s.clock.Advance(time.Second)
	s.complete(c, nil)
	s.clock.Advance(24*time.Hour - time.Microsecond)
	s.begin(first(), dedup.Done)
	s.clock.Advance(time.Microsecond)
	s.begin(first(), dedup.Acquired)
}

// testKeys looks for keys that a store mistakes for each other, cuts or cannot hold.
func testKeys(t *testing.T, h Harness) {
	s := open(t, h)
	long := strings.Repeat("k", dedup.MaxKeyBytes)
	noise := make([]byte, 2*dedup.MaxKeyBytes) // not text, and not to be compressed
	rand.NewChaCha8([32]byte{}).Read(noise)
	keys := []dedup.Key{
		{Consumer: "a", ID: "bc"}, {Consumer: "ab", ID: "c"}, {Consumer: "a:b", ID: "c"}, {Consumer: "a", ID: "b:c"},
		{Consumer: "A", ID: "bc"}, {Consumer: "a", ID: "bc "}, {Consumer: "a", ID: "BC"},
		{Consumer: "{a}", ID: "{b}c"}, {Consumer: "a", ID: "'; --"}, {Consumer: "é", ID: "e\u0301"}, {Consumer: "é", ID: "\u00e9"},
		{Consumer: "bytes", ID: "\x00"}, {Consumer: "bytes", ID: "\x00\x00"}, {Consumer: "bytes", ID: "\xff\xfe"},
		{Consumer: "bytes", ID: `\x00`}, {Consumer: "bytes", ID: `\xff`}, {Consumer: "bytes\xff", ID: "x"}, {Consumer: "bytes", ID: "\xffx"},
		{Consumer: string(noise[:dedup.MaxKeyBytes]), ID: string(noise[dedup.MaxKeyBytes:])},
		{Consumer: long, ID: long}, {Consumer: long, ID: long[1:]}, {Consumer: long[1:], ID: long},
	}
	claims := make([]dedup.Claim, len(keys))
	for i, key := range keys {
		s.key = key
		claims[i] = s.begin(first(), dedup.Acquired)
	}
	for i, key := range keys {
		s.key = key
		s.begin(first(), dedup.InProgress)
		s.complete(claims[i], nil)
	}
	for _, key := range keys {
		s.key = key
		s.begin(first(), dedup.Done)
	}
}

func testInvalid(t *testing.T, h Harness) {
	s := open(t, h)
	long := strings.Repeat("k", dedup.MaxKeyBytes+1)
	for _, c := range []struct {
		key     dedup.Key
		attempt dedup.Attempt
		life    dedup.Lifetimes
	}{
		{dedup.Key{ID: "m"}, first(), life()},
		{dedup.Key{Consumer: "c"}, first(), life()},
		{dedup.Key{Consumer: long, ID: "m"}, first(), life()},
		{dedup.Key{Consumer: "c", ID: long}, first(), life()},
		{s.key, dedup.Attempt{}, life()},
		{s.key, dedup.Attempt{Generation: -1, Number: 1}, life()},
		{s.key, dedup.Attempt{Number: 1 << 31}, life()},
		{s.key, first(), dedup.Lifetimes{}},
		{s.key, first(), dedup.Lifetimes{Lease: time.Microsecond, Keep: time.Hour}},
		{s.key, first(), dedup.Lifetimes{Lease: time.Minute, Keep: time.Second}},
		{s.key, first(), dedup.Lifetimes{Lease: time.Minute, Keep: 1 << 62}},
	} {
		_, err := s.store.Begin(context.Background(), c.key, c.attempt, c.life)
		s.want(err, dedup.ErrInvalid, fmt.Sprintf("Begin(%.20q, %v, %v)", c.key, c.attempt, c.life))
	}
	s.begin(first(), dedup.Acquired)
}

// testCancelled: a store that does not look at its context (it waits for nothing) may answer as well.
func testCancelled(t *testing.T, h Harness) {
	s := open(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c, err := s.store.Begin(ctx, s.key, first(), life())
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("Begin with a cancelled context: %v", err)
	}
	if err == nil {
		s.complete(c, nil)
	}
}

func testCrash(t *testing.T, h Harness) {
	if h.Crash == nil {
		t.Skip("nothing is left of this store after a crash, and it says so")
	}
	s := open(t, h)
	at := func(id string) *session { other := *s; other.key.ID = id; return &other }
	done := at("done").begin(first(), dedup.Acquired)
	s.complete(done, nil)
	failed := at("failed").begin(first(), dedup.Acquired)
	s.release(failed, first().Next(), nil)
	leased := at("leased").begin(first(), dedup.Acquired)

	s.store = h.Crash(t)
	at("done").begin(first(), dedup.Done)
	at("failed").begin(first(), dedup.Superseded)
	at("failed").begin(first().Next(), dedup.Acquired)
	at("leased").begin(first(), dedup.InProgress)
	at("absent").begin(first(), dedup.Acquired)
	s.clock.Advance(time.Minute)
	at("leased").begin(first(), dedup.Acquired)
	s.complete(leased, dedup.ErrLost)
	s.clock.Advance(48 * time.Hour)
	at("done").begin(first(), dedup.Acquired)
}
