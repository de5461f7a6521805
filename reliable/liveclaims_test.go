package reliable_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.etcd.io/bbolt"

	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
	"github.com/warrenmq/warren/reliable/dedup/boltstore"
)

// TestLiveClaims is the claims of claims_test.go at real brokers, in real time, while
// connections are cut:
//
//	WARREN_RELIABLE_URL=amqp://guest:guest@127.0.0.1:5674/ go test ./reliable -run TestLiveClaims
//
// WARREN_TEST_MESSAGES is the size; 2000 unless set. WARREN_RELIABLE_CTL is the command
// that begins each call of that server's rabbitmqctl, for the claim that needs an alarm.
func TestLiveClaims(t *testing.T) {
	url := os.Getenv("WARREN_RELIABLE_URL")
	if url == "" {
		t.Skip("WARREN_RELIABLE_URL names no broker")
	}
	l := liveBroker{url: url, messages: 2000}
	if n := os.Getenv("WARREN_TEST_MESSAGES"); n != "" {
		var err error
		if l.messages, err = strconv.Atoi(n); err != nil || l.messages < 100 {
			t.Fatalf("WARREN_TEST_MESSAGES is %q, it has to be a number from 100 on", n)
		}
	}
	t.Run("confirmed is there", l.confirmedIsThere)
	t.Run("publish honours its context", l.publishHonoursItsContext)
	t.Run("stale acknowledgements", l.staleAcknowledgements)
	t.Run("retry neither loses nor forks", l.retryNeitherLosesNorForks)
	t.Run("deleted queue stalls nobody", l.deletedQueueStallsNobody)
	t.Run("effectively once", l.effectivelyOnce)
	t.Run("redrive keeps identity", l.redriveKeepsIdentity)
}

// livePatience bounds what these tests wait for.
const livePatience = 60 * time.Second

type liveBroker struct {
	url      string
	messages int
}

// open returns a client whose connections s cuts, and a channel to look on.
func (l liveBroker) open(t *testing.T) (*reliable.Client, *saboteur, *amqp.Channel) {
	t.Helper()
	s := &saboteur{to: &net.Dialer{}, toGo: -1}
	config := reliable.Config{MinPause: time.Millisecond, MaxPause: 50 * time.Millisecond}
	if testing.Verbose() {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	}
	c, err := reliable.Open(within(t, livePatience), reliable.Transport{URLs: []string{l.url}, Dialer: s}, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.fired()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	conn, err := amqp.Dial(l.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return c, s, ch
}

// queue names a queue of the test's own, and deletes it with the test.
func (l liveBroker) queue(t *testing.T, ch *amqp.Channel, what string) reliable.Queue {
	q := reliable.Queue{Name: fmt.Sprintf("claims.%s.%d", what, time.Now().UnixNano())}
	t.Cleanup(func() {
		ch.QueueDelete(q.Name, false, false, false)
		ch.QueueDelete(q.DeadLetterQueue(), false, false, false)
	})
	return q
}

// again arms the saboteur for a place by chance, unless a cut is still to come: within
// so many bytes that are written, or a fortieth of them that are read, because a
// confirm is short and can be one for many messages.
func (s *saboteur) again(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toGo < 0 {
		if s.writes = rand.IntN(2) == 0; !s.writes {
			limit /= 40
		}
		s.toGo = rand.IntN(limit)
	}
}

func untilLive(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(livePatience); !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", livePatience, what)
		}
	}
}

func (l liveBroker) confirmedIsThere(t *testing.T) {
	c, s, ch := l.open(t)
	q := l.queue(t, ch, "confirmed")
	p := publisher[order](t, c, reliable.ToQueue(q), reliable.Window(100))
	confirmed := map[string]bool{}
	receipts := make([]*reliable.Receipt, l.messages)
	for i := range receipts {
		if i%50 == 25 {
			s.again(8000)
		}
		var err error
		if receipts[i], err = p.PublishAsync(within(t, livePatience), order{i}); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range receipts {
		if err := r.Wait(within(t, livePatience)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		confirmed[r.ID()] = true
	}
	t.Logf("%d cuts", s.cuts)
	if s.cuts < 5 {
		t.Errorf("only %d cuts", s.cuts)
	}
	arrived, copies := map[string]bool{}, 0
	for _, d := range drain(t, ch, q.Name) {
		arrived[d.MessageId], copies = true, copies+1
	}
	for id := range confirmed {
		if !arrived[id] {
			t.Errorf("%s is confirmed and absent", id)
		}
	}
	t.Logf("%d messages, %d of them twice", len(arrived), copies-len(arrived))
	if len(arrived) != l.messages {
		t.Errorf("%d messages arrived, %d were published", len(arrived), l.messages)
	}
}

// publishHonoursItsContext raises the memory alarm of a RabbitMQ, and ends it.
func (l liveBroker) publishHonoursItsContext(t *testing.T) {
	ctl := strings.Fields(os.Getenv("WARREN_RELIABLE_CTL"))
	if len(ctl) == 0 {
		t.Skip("WARREN_RELIABLE_CTL names no rabbitmqctl")
	}
	watermark := func(share string) {
		t.Helper()
		command := exec.Command(ctl[0], append(ctl[1:], "set_vm_memory_high_watermark", share)...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
	c, _, ch := l.open(t)
	q := l.queue(t, ch, "blocked")
	p := publisher[order](t, c, reliable.ToQueue(q))
	watermark("0.00001")
	defer watermark("0.4") // also if the test fails
	first, err := p.PublishAsync(within(t, livePatience), order{0})
	if err != nil {
		t.Fatal(err)
	}
	untilLive(t, "the client knows that the broker blocks", func() bool { return c.Health().Publish.Blocked })
	begun := time.Now()
	details := wantKind(t, p.Publish(within(t, 100*time.Millisecond), order{1}), reliable.ErrBlocked)
	took := time.Since(begun)
	if t.Logf("a deadline of 100ms took %v (bound 150ms)", took); took > 1500*time.Millisecond || details.Sent {
		t.Errorf("it took %v; sent: %v", took, details.Sent)
	}
	next, err := p.PublishAsync(within(t, livePatience), order{2})
	if err != nil {
		t.Fatal(err)
	}
	watermark("0.4")
	begun = time.Now()
	untilLive(t, "the client knows that it is over", func() bool { return !c.Health().Publish.Blocked })
	for _, r := range []*reliable.Receipt{first, next} {
		if err := r.Wait(within(t, livePatience)); err != nil {
			t.Fatal(err)
		}
	}
	took = time.Since(begun)
	if t.Logf("it went on after %v (bound 1s)", took); took > 10*time.Second {
		t.Errorf("it went on after %v", took)
	}
	if got := drain(t, ch, q.Name); len(got) != 2 || string(got[1].Body) != `{"id":2}` {
		t.Errorf("a message that was ErrBlocked was sent: %v", got)
	}
}

func (l liveBroker) staleAcknowledgements(t *testing.T) {
	c, s, ch := l.open(t)
	q := l.queue(t, ch, "stale")
	const n = 20
	var again sync.Map
	var begun, finished atomic.Int32
	release := make(chan struct{})
	consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		if _, seen := again.LoadOrStore(m.ID, true); !seen {
			begun.Add(1)
			<-release // the first run of each outlives its connection
			return nil
		}
		finished.Add(1)
		return nil
	}, reliable.Concurrency(n), reliable.Prefetch(n))
	p := publisher[order](t, c, reliable.ToQueue(q))
	publishAll(t, p, n)
	untilLive(t, "all are held", func() bool { return begun.Load() == n })
	s.cutAll()
	untilLive(t, "the loss is noticed", func() bool { return c.Health().Consume.Epoch == 2 })
	connected(t, c)
	publishAll(t, p, n) // deliveries with the same tags on the new channel
	close(release)
	untilLive(t, "the first ones come again", func() bool { return finished.Load() >= n && begun.Load() == 2*n })
	untilLive(t, "all are acknowledged", func() bool { return count(t, ch, q.Name) == 0 })
	if h := c.Health(); h.Consume.Epoch != 2 {
		t.Errorf("the consume connection was lost %d times: an acknowledgement was none", h.Consume.Epoch-1)
	}
}

func (l liveBroker) retryNeitherLosesNorForks(t *testing.T) {
	c, s, ch := l.open(t)
	q := l.queue(t, ch, "retry")
	var mu sync.Mutex
	done := map[string]int{}
	consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		if m.Body.ID%50 == 0 {
			s.again(4000)
		}
		if m.Attempt <= 1+m.Body.ID%3 {
			return errors.New("not yet")
		}
		if m.Body.ID%4 == 0 {
			return reliable.Permanent(errors.New("never"))
		}
		mu.Lock()
		defer mu.Unlock()
		done[m.ID]++
		return nil
	}, reliable.Retry(reliable.RetryPolicy{MaxAttempts: 50, Backoff: reliable.Schedule(0, reliable.DelayUnit)}),
		reliable.Idempotent("claims", dedup.NewMemory(0, nil), reliable.Lease(time.Second)), reliable.Concurrency(8), reliable.Prefetch(50))
	quiet, _, _ := l.open(t)
	p := publisher[order](t, quiet, reliable.ToQueue(q))
	publishAll(t, p, l.messages)
	buried := (l.messages + 3) / 4
	untilLive(t, "all are done that can be", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(done) == l.messages-buried && count(t, ch, q.DeadLetterQueue()) >= buried
	})
	s.fired()
	// Some dead letters are there twice, so that only a look at each tells.
	var letters []reliable.DeadLetter
	dead := map[string]int{}
	untilLive(t, "all dead letters are there", func() bool {
		var err error
		if letters, err = scan(quiet.DeadLetters(q), reliable.Filter{}); err != nil {
			t.Fatal(err)
		}
		clear(dead)
		for _, d := range letters {
			if !d.Duplicate { // whose confirm was cut off
				dead[d.ID]++
			}
		}
		return len(dead) >= buried
	})
	untilLive(t, "nothing is left", func() bool { return count(t, ch, q.Name) == 0 })
	t.Logf("%d cuts, %d copies of dead letters", s.cuts, len(letters)-len(dead))
	if s.cuts < 5 {
		t.Errorf("only %d cuts", s.cuts)
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range done {
		if n != 1 || dead[id] != 0 {
			t.Errorf("%s: done %d times, %d times among the dead letters", id, n, dead[id])
		}
	}
	for id, n := range dead {
		if n != 1 {
			t.Errorf("%s: %d times among the dead letters", id, n)
		}
	}
	if len(dead) != buried {
		t.Errorf("%d dead letters, expected %d", len(dead), buried)
	}
}

func (l liveBroker) deletedQueueStallsNobody(t *testing.T) {
	c, _, ch := l.open(t)
	one, two := l.queue(t, ch, "one"), l.queue(t, ch, "two")
	p1, p2 := publisher[order](t, c, reliable.ToQueue(one)), publisher[order](t, c, reliable.ToQueue(two))
	const messages, delay = 200, 2 * time.Second
	send := func(p *reliable.Publisher[order]) (receipts []*reliable.Receipt) {
		for i := range messages {
			r, err := p.PublishAsync(within(t, livePatience), order{i}, reliable.After(delay))
			if err != nil {
				t.Fatal(err)
			}
			receipts = append(receipts, r)
		}
		return receipts
	}
	for _, r := range append(send(p1), send(p2)...) {
		if err := r.Wait(within(t, livePatience)); err != nil {
			t.Fatal(err)
		}
	}
	published := time.Now()
	if _, err := ch.QueueDelete(one.Name, false, false, false); err != nil {
		t.Fatal(err)
	}
	untilLive(t, "the others arrive", func() bool { return count(t, ch, two.Name) == messages })
	late := time.Since(published) - delay
	const bound = 500 * time.Millisecond // a unit and a hop
	t.Logf("the last of %d came %v after its time (bound %v)", messages, late, bound)
	if late > 10*bound {
		t.Errorf("%v late", late)
	}
}

func (l liveBroker) effectivelyOnce(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	store, err := boltstore.New(db, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, s, ch := l.open(t)
	q := l.queue(t, ch, "once")
	var effects, runs atomic.Int64
	bucket := []byte("effects")
	consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		n := runs.Add(1)
		if n%200 == 0 {
			s.again(8000)
		}
		tx := boltstore.TxFrom(ctx)
		counts, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		if err := counts.Put([]byte(m.ID), append(append([]byte{}, counts.Get([]byte(m.ID))...), 'x')); err != nil {
			return err
		}
		if n%97 == 0 {
			return errors.New("after the effect")
		}
		tx.OnCommit(func() { effects.Add(1) })
		return nil
	}, reliable.InTx("claims", store, reliable.Lease(time.Second)), reliable.Prefetch(100),
		reliable.Retry(reliable.RetryPolicy{MaxAttempts: 100, Backoff: reliable.Schedule(0)}))
	p := publisher[order](t, c, reliable.ToQueue(q))
	for i := range l.messages {
		r, err := p.PublishAsync(within(t, livePatience), order{i})
		if err == nil && i%100 == 0 {
			_, err = p.PublishAsync(within(t, livePatience), order{i}, reliable.ID(r.ID()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	untilLive(t, "all have taken effect", func() bool { return effects.Load() >= int64(l.messages) })
	s.fired()
	untilLive(t, "all are acknowledged", func() bool { return count(t, ch, q.Name) == 0 })
	t.Logf("%d cuts, %d runs of the handler", s.cuts, runs.Load())
	distinct := 0
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(id, value []byte) error {
			if distinct++; string(value) != "x" {
				t.Errorf("%s has taken effect %d times", id, len(value))
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if distinct != l.messages {
		t.Errorf("%d messages of %d have taken effect", distinct, l.messages)
	}
}

func (l liveBroker) redriveKeepsIdentity(t *testing.T) {
	c, _, ch := l.open(t)
	q := l.queue(t, ch, "redrive")
	bodies := map[string]string{"a": "", "b": "\x00\xff binary", "c": `{"json": true}`}
	var seen log[*reliable.Message[[]byte]]
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[[]byte]) error {
		if m.Generation == 0 {
			return reliable.Permanent(errors.New("not now"))
		}
		seen.add(m)
		return nil
	})
	defer consumer.Stop(within(t, livePatience))
	p := publisher[[]byte](t, c, reliable.ToQueue(q))
	for id, body := range bodies {
		if err := p.Publish(within(t, livePatience), []byte(body), reliable.ID(id), reliable.Header("trace", "t-"+id), reliable.CorrelationID("c-"+id)); err != nil {
			t.Fatal(err)
		}
	}
	untilLive(t, "all are dead letters", func() bool { return count(t, ch, q.DeadLetterQueue()) == len(bodies) })
	if r, err := c.DeadLetters(q).Redrive(within(t, livePatience), reliable.Filter{}, reliable.RedriveOptions{}); err != nil || r.Done != len(bodies) {
		t.Fatalf("%+v %v", r, err)
	}
	untilLive(t, "all came back", func() bool { return seen.len() == len(bodies) })
	for _, m := range seen.all() {
		body, known := bodies[m.ID]
		if !known || string(m.Body) != body || m.Headers["trace"] != "t-"+m.ID || m.CorrelationID != "c-"+m.ID || m.Key != q.Name || m.Exchange != "" || m.Attempt != 1 {
			t.Errorf("%+v %q", m.Delivery, m.Body)
		}
	}
}
