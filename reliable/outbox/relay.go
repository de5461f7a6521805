package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Publisher sends a message to a broker. Relay calls it from one goroutine.
type Publisher interface {
	// Publish hands the message over, and may wait for room to do so. The returned function waits for the
	// broker's confirm: nil means that the broker has the message in a queue. Relay calls it, once, unless err
	// is set.
	Publish(ctx context.Context, m Message) (wait func(context.Context) error, err error)
}

// PublisherFunc makes a Publisher of a function.
type PublisherFunc func(ctx context.Context, m Message) (wait func(context.Context) error, err error)

// Publish implements Publisher.
func (f PublisherFunc) Publish(ctx context.Context, m Message) (func(context.Context) error, error) {
	return f(ctx, m)
}

// Source is a table that messages wait in: an [Outbox], or that of boltoutbox.
type Source interface {
	// Deliver takes up to limit messages that are due, in their order, lets publish try them, removes those
	// that were confirmed, and puts those that failed back for a while. No message with a Key is taken while
	// an earlier one with that Key is put back. The context that publish gets ends while nobody else can have
	// taken the messages yet. It returns 0, nil if nothing is due or if another relay has what is.
	Deliver(ctx context.Context, limit int, publish func(context.Context, []Row) []Outcome) (taken int, err error)
}

// Outcome is what became of a row. The zero value means that it was not tried and stays as it is.
type Outcome struct {
	Confirmed bool
	Err       error         // why it failed
	Retry     time.Duration // after which a failed one is tried again
}

// Batch is what one round of a relay did, for metrics.
type Batch struct {
	Taken     int           // messages that were due
	Confirmed int           // published and removed
	Failed    int           // tried, and put back
	Oldest    time.Duration // how long the oldest confirmed one has waited since it was added or due
	Took      time.Duration
	Failure   error // why the first of them failed
	Err       error // the table could not be read or written; what was confirmed comes again
}

// RelayOptions of [NewRelay]. The zero value is usual.
type RelayOptions struct {
	// Batch is how many messages are taken at a time, by default 100, at most MaxBatch.
	Batch int
	// Poll is how long the relay rests when nothing is due, unless it is woken; by default 1 s.
	Poll time.Duration
	// MinBackoff and MaxBackoff bound how long a message that failed waits: twice as long after each failure,
	// with jitter. By default 1 s and 5 min.
	MinBackoff, MaxBackoff time.Duration
	// Observe is called after each round that found something or failed.
	Observe func(Batch)
	// Logger gets a line for each round with failures; by default slog.Default().
	Logger *slog.Logger
	// Now and After are the clock, by default the real one.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// MaxBatch is the most messages that a relay takes at a time.
const MaxBatch = 1000

// Relay publishes what waits in a Source.
type Relay struct {
	source    Source
	publisher Publisher
	o         RelayOptions
	wake      chan struct{}
	confirmed atomic.Uint64
	failed    atomic.Uint64
}

// NewRelay returns a relay, which does nothing until [Relay.Run].
func NewRelay(source Source, p Publisher, o RelayOptions) (*Relay, error) {
	if o.Batch == 0 {
		o.Batch = 100
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.Poll, time.Second}, {&o.MinBackoff, time.Second}, {&o.MaxBackoff, 5 * time.Minute}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	switch {
	case o.Batch < 1 || o.Batch > MaxBatch:
		return nil, fmt.Errorf("a batch of %d messages: from 1 to %d", o.Batch, MaxBatch)
	case o.Poll < time.Millisecond:
		return nil, fmt.Errorf("a poll every %v: at least 1 ms", o.Poll)
	case o.MinBackoff < time.Millisecond || o.MaxBackoff < o.MinBackoff || o.MaxBackoff > maxBackoff:
		return nil, fmt.Errorf("a backoff from %v to %v: at least 1 ms, at most %v, and not falling", o.MinBackoff, o.MaxBackoff, maxBackoff)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	return &Relay{source: source, publisher: p, o: o, wake: make(chan struct{}, 1)}, nil
}

const maxBackoff = 24 * time.Hour

// Wake makes a resting relay look at once. Call it after the commit of a transaction that has added messages.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// Confirmed is how many messages this relay has published and removed, Failed how many attempts have failed.
func (r *Relay) Confirmed() uint64 { return r.confirmed.Load() }

// Failed is how many attempts to publish have failed.
func (r *Relay) Failed() uint64 { return r.failed.Load() }

// Run publishes until ctx ends, and then returns nil once the batch in hand is settled. Neither a broker nor a
// database that does not answer ends it: it logs that, and tries again with growing pauses.
func (r *Relay) Run(ctx context.Context) error {
	troubles := 0
	for ctx.Err() == nil {
		batch := r.round(ctx)
		if batch.Err != nil || batch.Failed > 0 {
			r.o.Logger.Warn("outbox relay", "taken", batch.Taken, "confirmed", batch.Confirmed, "failed", batch.Failed,
				"error", errors.Join(batch.Err, batch.Failure))
		}
		var pause time.Duration
		switch {
		case batch.Err != nil, batch.Taken > 0 && batch.Confirmed == 0:
			// Nothing works. To go on would only count failures of all that waits.
			troubles++
			pause = r.backoff(troubles)
		case batch.Taken == 0:
			troubles = 0
			pause = r.o.Poll
		default:
			troubles = 0
			continue
		}
		wake := r.wake
		if troubles > 0 {
			wake = nil // what is added meanwhile is no reason to try sooner
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-r.o.After(pause):
		}
	}
	return nil
}

// round takes one batch.
func (r *Relay) round(ctx context.Context) (batch Batch) {
	start := r.o.Now()
	batch.Taken, batch.Err = r.source.Deliver(context.WithoutCancel(ctx), r.o.Batch, func(ctx context.Context, rows []Row) []Outcome {
		outcomes := r.publish(ctx, rows)
		for i, o := range outcomes {
			switch {
			case o.Confirmed:
				batch.Confirmed++
				since := rows[i].Added
				if rows[i].DeliverAt.After(since) {
					since = rows[i].DeliverAt
				}
				batch.Oldest = max(batch.Oldest, r.o.Now().Sub(since))
			case o.Err != nil:
				batch.Failed++
				if batch.Failure == nil {
					batch.Failure = fmt.Errorf("message %s: %w", rows[i].ID, o.Err)
				}
			}
		}
		return outcomes
	})
	if batch.Err != nil {
		batch.Confirmed = 0 // they are still in the table
	}
	r.confirmed.Add(uint64(batch.Confirmed))
	r.failed.Add(uint64(batch.Failed))
	batch.Took = r.o.Now().Sub(start)
	if r.o.Observe != nil && (batch.Taken > 0 || batch.Err != nil) {
		r.o.Observe(batch)
	}
	return batch
}

// publish tries the rows: those with the same key one after the other, all others at the same time. What comes
// behind a failure with the same key is not tried.
func (r *Relay) publish(ctx context.Context, rows []Row) []Outcome {
	outcomes := make([]Outcome, len(rows))
	lines := inLines(rows)
	type flight struct {
		line int
		wait func(context.Context) error
	}
	var flights []flight
	for len(lines) > 0 && ctx.Err() == nil {
		flights = flights[:0]
		failed := func(line int, err error) {
			row := lines[line][0]
			outcomes[row] = Outcome{Err: err, Retry: r.backoff(rows[row].Attempts + 1)}
			lines[line] = nil
		}
		for line := range lines {
			if ctx.Err() != nil {
				break // not tried, and not to be blamed
			}
			wait, err := r.publisher.Publish(ctx, rows[lines[line][0]].Message)
			if err != nil {
				failed(line, err)
				continue
			}
			flights = append(flights, flight{line, wait})
		}
		for _, f := range flights {
			if err := f.wait(ctx); err != nil {
				failed(f.line, err)
				continue
			}
			outcomes[lines[f.line][0]] = Outcome{Confirmed: true}
			lines[f.line] = lines[f.line][1:]
		}
		rest := lines[:0]
		for _, line := range lines {
			if len(line) > 0 {
				rest = append(rest, line)
			}
		}
		lines = rest
	}
	return outcomes
}

// inLines puts the rows, by their numbers, into lines of those that have to wait for each other: one for each key, and
// one for each row without.
func inLines(rows []Row) (all [][]int) {
	byKey := map[string]int{}
	for i := range rows {
		key := rows[i].Key
		line, known := byKey[key]
		if key == "" || !known {
			line = len(all)
			byKey[key] = line
			all = append(all, nil)
		}
		all[line] = append(all[line], i)
	}
	return all
}

// backoff is the pause after so many failures in a row: doubled each time, and shortened at random by up to a
// quarter so that not all come at once.
func (r *Relay) backoff(failures int) time.Duration {
	d := r.o.MaxBackoff
	if shift := failures - 1; shift < 30 && r.o.MinBackoff<<shift < r.o.MaxBackoff && r.o.MinBackoff<<shift > 0 {
		d = r.o.MinBackoff << shift
	}
	return d - rand.N(d/4+1)
}
