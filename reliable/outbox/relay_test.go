package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// list is a Source in memory.
type list struct {
	mu   sync.Mutex
	rows []Row
	due  map[int64]time.Time
	err  error
	asks int
}

func (l *list) add(rows ...Row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		r.Seq, r.Added = int64(len(l.rows)+1), time.Now()
		l.rows = append(l.rows, r)
	}
}

func (l *list) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rows)
}

func (l *list) Deliver(ctx context.Context, limit int, publish func(context.Context, []Row) []Outcome) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks++
	if l.err != nil {
		return 0, l.err
	}
	var due []Row
	behind := map[string]bool{}
	for _, r := range l.rows {
		wait := l.due[r.Seq].After(time.Now()) || r.Key != "" && behind[r.Key]
		if behind[r.Key] = behind[r.Key] || r.Attempts > 0; !wait && len(due) < limit {
			due = append(due, r)
		}
	}
	if len(due) == 0 {
		return 0, nil
	}
	for i, o := range publish(ctx, due) {
		at := slices.IndexFunc(l.rows, func(r Row) bool { return r.Seq == due[i].Seq })
		if o.Confirmed {
			l.rows = slices.Delete(l.rows, at, at+1)
		} else if o.Err != nil {
			l.rows[at].Attempts++
			l.due[due[i].Seq] = time.Now().Add(o.Retry)
		}
	}
	return len(due), nil
}

// log is a Publisher that writes down what happens and refuses what it is told to.
type log struct {
	mu     sync.Mutex
	events []string
	refuse map[string]int // id: how often yet
	down   bool
}

var errRefused = errors.New("refused")

func (l *log) note(format string, args ...any) {
	l.events = append(l.events, fmt.Sprintf(format, args...))
}

func (l *log) Publish(_ context.Context, m Message) (func(context.Context) error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errors.New("no connection")
	}
	l.note("publish %s", m.ID)
	return func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.refuse[m.ID] > 0 {
			l.refuse[m.ID]--
			l.note("refuse %s", m.ID)
			return errRefused
		}
		l.note("confirm %s", m.ID)
		return nil
	}, nil
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.events, ", ")
}

func message(id, key string) Row { return Row{Message: Message{ID: id, Key: key}} }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// run starts a relay that ends with the test.
func run(t *testing.T, s Source, p Publisher, o RelayOptions) (r *Relay, stop func()) {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet()
	}
	r, err := NewRelay(s, p, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestOrder: what has a key waits for the one before it, everything else is published without waiting.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, publisher := &list{due: map[int64]time.Time{}}, &log{refuse: map[string]int{"a1": 1}}
		source.add(message("a1", "a"), message("x", ""), message("a2", "a"), message("b1", "b"), message("y", ""), message("b2", "b"))
		var batches []Batch
		r, stop := run(t, source, publisher, RelayOptions{Observe: func(b Batch) { batches = append(batches, b) }})
		synctest.Wait()
		want := "publish a1, publish x, publish b1, publish y, refuse a1, confirm x, confirm b1, confirm y, publish b2, confirm b2"
		if got := publisher.text(); got != want {
			t.Errorf("happened\n%s, want\n%s", got, want)
		}
		time.Sleep(2 * time.Second)
		stop()
		want += ", publish a1, confirm a1, publish a2, confirm a2"
		if got := publisher.text(); got != want {
			t.Errorf("happened\n%s, want\n%s", got, want)
		}
		if r.Confirmed() != 6 || r.Failed() != 1 || source.left() != 0 {
			t.Errorf("%d confirmed, %d failed, %d left", r.Confirmed(), r.Failed(), source.left())
		}
		first := batches[0]
		if first.Taken != 6 || first.Confirmed != 4 || first.Failed != 1 || !errors.Is(first.Failure, errRefused) {
			t.Errorf("the first batch is %+v", first)
		}
	})
}

func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, publisher := &list{due: map[int64]time.Time{}}, &log{}
		r, stop := run(t, source, publisher, RelayOptions{Poll: time.Hour})
		synctest.Wait()
		source.add(message("a", ""))
		r.Wake()
		r.Wake()
		synctest.Wait()
		if source.left() != 0 {
			t.Error("a woken relay did not look")
		}
		source.add(message("b", ""))
		time.Sleep(time.Hour + time.Second)
		if source.left() != 0 {
			t.Error("a relay that nobody wakes did not look")
		}
		stop()
	})
}

// TestBrokerIsGone: the relay does not hammer, does not give up, and does not blame all that waits.
func TestBrokerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, publisher := &list{due: map[int64]time.Time{}}, &log{down: true}
		for i := range 1000 {
			source.add(message(fmt.Sprint(i), ""))
		}
		var warnings strings.Builder
		_, stop := run(t, source, publisher, RelayOptions{Batch: 10, MinBackoff: time.Second, MaxBackoff: time.Minute,
			Logger: slog.New(slog.NewTextHandler(&warnings, nil))})
		time.Sleep(10 * time.Minute)
		source.mu.Lock()
		blamed := 0
		for _, r := range source.rows {
			if r.Attempts > 0 {
				blamed++
			}
		}
		if blamed > 250 || source.asks > 30 {
			t.Errorf("in ten minutes without a broker %d messages were tried, in %d rounds", blamed, source.asks)
		}
		source.mu.Unlock()
		publisher.mu.Lock()
		publisher.down = false
		publisher.mu.Unlock()
		time.Sleep(2 * time.Minute)
		stop()
		if source.left() != 0 {
			t.Errorf("%d messages are left after the broker came back", source.left())
		}
		if !strings.Contains(warnings.String(), "no connection") {
			t.Errorf("nothing was logged: %s", warnings.String())
		}
	})
}

func TestTableIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, publisher := &list{due: map[int64]time.Time{}, err: errors.New("no such table")}, &log{}
		source.add(message("a", ""))
		failures := 0
		_, stop := run(t, source, publisher, RelayOptions{MaxBackoff: time.Minute, Observe: func(b Batch) {
			if b.Err != nil {
				failures++
			}
		}})
		time.Sleep(10 * time.Minute)
		source.mu.Lock()
		if source.asks < 5 || source.asks > 30 {
			t.Errorf("asked %d times", source.asks)
		}
		source.err = nil
		source.mu.Unlock()
		time.Sleep(time.Minute)
		stop()
		if source.left() != 0 || failures < 5 {
			t.Errorf("%d messages are left, %d failures were seen", source.left(), failures)
		}
	})
}

// TestStopSettles: the batch in hand is finished, and nothing else begins.
func TestStopSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &list{due: map[int64]time.Time{}}
		source.add(message("a", ""), message("b", ""))
		confirm := make(chan struct{})
		publisher := PublisherFunc(func(context.Context, Message) (func(context.Context) error, error) {
			return func(ctx context.Context) error {
				select {
				case <-confirm:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}, nil
		})
		_, stop := run(t, source, publisher, RelayOptions{Batch: 1})
		synctest.Wait()
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		synctest.Wait()
		select {
		case <-stopped:
			t.Fatal("it stopped with a message in the air")
		default:
		}
		close(confirm)
		<-stopped
		if source.left() != 1 {
			t.Errorf("%d messages are left, want the one that was not begun", source.left())
		}
	})
}

func TestRelayOptions(t *testing.T) {
	for _, o := range []RelayOptions{{Batch: -1}, {Batch: MaxBatch + 1}, {Poll: 1}, {MinBackoff: time.Minute, MaxBackoff: time.Second}, {MaxBackoff: 1 << 62}} {
		if _, err := NewRelay(&list{}, &log{}, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	r, err := NewRelay(&list{}, &log{}, RelayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for failures := 1; failures < 100; failures++ {
		want := min(time.Second<<min(failures-1, 20), 5*time.Minute)
		if d := r.backoff(failures); d > want || d < want*3/4-1 {
			t.Errorf("after %d failures a pause of %v, want about %v", failures, d, want)
		}
	}
}
