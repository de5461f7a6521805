package loadgen

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/wire"
)

// meter counts the system calls that a load makes.
type meter struct {
	net.Conn
	writes, reads *atomic.Int64
}

func (m meter) Write(b []byte) (int, error) { m.writes.Add(1); return m.Conn.Write(b) }
func (m meter) Read(b []byte) (int, error)  { m.reads.Add(1); return m.Conn.Read(b) }

// rig is a broker and a load's way to it.
type rig struct {
	t             *testing.T
	b             *brokertest.Broker
	broker        Broker
	writes, reads atomic.Int64
}

// both runs a test with goroutines only, and with threads for those who are alone.
func both(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("goroutines", func(t *testing.T) { test(t, newRig(t, false)) })
	t.Run("threads", func(t *testing.T) { test(t, newRig(t, true)) })
}

// newRig makes a rig. Connections that are metered are none that can have a thread.
func newRig(t *testing.T, threads bool) *rig {
	r := &rig{t: t, b: brokertest.New(t)}
	uri, err := amqp.ParseURI(r.b.URL())
	if err != nil {
		t.Fatal(err)
	}
	dial := DialTCP(net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)))
	r.broker.Login = Login{User: "guest", Password: "guest", VHost: "/", Name: "test"}
	if threads {
		r.broker.Dial, r.broker.OwnThreads = dial, true
		return r
	}
	r.broker.Dial = func(ctx context.Context) (net.Conn, error) {
		nc, err := dial(ctx)
		return meter{nc, &r.writes, &r.reads}, err
	}
	return r
}

// run carries out a load that must succeed.
func (r *rig) run(cfg Config) *Report {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rep, err := Run(ctx, &r.broker, &cfg)
	if err != nil {
		r.t.Fatalf("%+v: %v", cfg, err)
	}
	if rep.Interrupted {
		r.t.Fatalf("%+v did not end by itself: %+v", cfg, rep)
	}
	return rep
}

// depth is the number of messages in a queue, -1 if there is no such queue.
func (r *rig) depth(queue string) int {
	r.t.Helper()
	conn, err := amqp.Dial(r.b.URL())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		r.t.Fatal(err)
	}
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		return -1
	}
	return q.Messages
}

// TestLoads runs every kind of load by count and compares what came out with
// what went in.
func TestLoads(t *testing.T) {
	ten := []string{"q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10"}
	one := []string{"q"}
	for name, c := range map[string]struct {
		cfg      Config
		received int64
	}{
		"one to one":        {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 16, AutoAck: true, PublishCount: 5000}, 5000},
		"no bodies":         {Config{Producers: 1, Consumers: 1, Queues: one, AckEvery: 1, PublishCount: 500, Confirm: 10}, 500},
		"small bodies":      {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 5, AckEvery: 7, PublishCount: 500}, 500},
		"large bodies":      {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 300_000, Prefetch: 4, Persistent: true, Confirm: 3, PublishCount: 40}, 40},
		"large and batched": {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 300_000, Prefetch: 4, Batched: true, Confirm: 3, PublishCount: 40}, 40},
		"fan in":            {Config{Producers: 20, Consumers: 1, Queues: one, BodyBytes: 100, Persistent: true, Confirm: 1, Prefetch: 100, AckEvery: 10, PublishCount: 50}, 1000},
		"many queues":       {Config{Producers: 10, Consumers: 10, Queues: ten, BodyBytes: 100, Persistent: true, Confirm: 10, Prefetch: 100, AckEvery: 10, PublishCount: 300}, 3000},
		"fan out":           {Config{Producers: 1, Consumers: 10, Queues: ten, Exchange: "news", ExchangeType: "fanout", BodyBytes: 100, AckEvery: 10, PublishCount: 300}, 3000},
		"topic":             {Config{Producers: 2, Consumers: 10, Queues: ten, Exchange: "topics", ExchangeType: "topic", BodyBytes: 100, AckEvery: 10, PublishCount: 300}, 600},
		"batched":           {Config{Producers: 2, Consumers: 2, Queues: one, BodyBytes: 16, Persistent: true, Batched: true, Confirm: 1000, Prefetch: 500, AckEvery: 100, PublishCount: 20_050}, 40_100},
		"transactions":      {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 16, Persistent: true, TxSize: 10, AckEvery: 1, PublishCount: 205}, 205},
		"tx, batched":       {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 16, Batched: true, TxSize: 10, AckEvery: 1, PublishCount: 205}, 205},
		"polling":           {Config{Producers: 1, Consumers: 2, Queues: one, BodyBytes: 16, Polling: true, Confirm: 10, PublishCount: 300}, 300},
		"polling, no ack":   {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 16, Polling: true, AutoAck: true, PublishCount: 300}, 300},
		"priorities": {Config{Producers: 1, Consumers: 1, Queues: one, QueueArgs: wire.Table{{Key: "x-max-priority", Value: int64(9)}},
			BodyBytes: 16, Priorities: 10, AckEvery: 1, PublishCount: 500}, 500},
		"expiring":     {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 16, Expiration: "60000", AckEvery: 1, PublishCount: 500}, 500},
		"rate":         {Config{Producers: 2, Consumers: 1, Queues: one, BodyBytes: 16, Rate: 5000, AckEvery: 1, PublishCount: 300}, 600},
		"drain":        {Config{Consumers: 1, Queues: one, BodyBytes: 16, Prefill: 5000, AckEvery: 100}, 5000},
		"some of many": {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 16, Prefill: 500, AckEvery: 100, ConsumeCount: 50, Prefetch: 100}, 0},
		"slow":         {Config{Producers: 1, Consumers: 1, Queues: one, BodyBytes: 16, AckEvery: 1, Prefetch: 1, ConsumerRate: 500, PublishCount: 50}, 50},
		"nobody":       {Config{Producers: 1, Queues: one, BodyBytes: 16, Confirm: 100, PublishCount: 500}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, r *rig) {
				t.Parallel()
				checkLoad(r, c.cfg, c.received)
			})
		})
	}
}

// checkLoad runs a load of which so much is to come out, 0 for anything.
func checkLoad(r *rig, cfg Config, received int64) {
	t := r.t
	t.Helper()
	rep := r.run(cfg)
	published := int64(cfg.Producers) * cfg.PublishCount
	if cfg.PublishCount > 0 && rep.Published != published {
		t.Errorf("published %d, want %d", rep.Published, published)
	}
	if (cfg.Confirm > 0 || cfg.TxSize > 0) && (rep.Confirmed != published || rep.ConfirmLatency == nil || rep.ConfirmLatency.Count != published) {
		t.Errorf("confirmed %d, latency %+v, want %d", rep.Confirmed, rep.ConfirmLatency, published)
	}
	if received > 0 && rep.Received != received {
		t.Errorf("received %d, want %d", rep.Received, received)
	}
	if measured := cfg.BodyBytes >= stampBytes && received > 0 && cfg.Producers > 0; measured != (rep.DeliveryLatency != nil) && received > 0 {
		t.Errorf("latency to delivery is %+v with bodies of %d bytes", rep.DeliveryLatency, cfg.BodyBytes)
	} else if measured && rep.DeliveryLatency.Count != received {
		t.Errorf("latency of %d deliveries, want %d", rep.DeliveryLatency.Count, received)
	}
	for _, q := range cfg.Queues {
		if n := r.depth(q); n >= 0 {
			t.Errorf("queue %s is still there", q)
		}
	}
}

// TestWhatWasThere: queues of others are used, and survive with what was not
// taken.
func TestWhatWasThere(t *testing.T) { both(t, testWhatWasThere) }

func testWhatWasThere(t *testing.T, r *rig) {
	conn, err := amqp.Dial(r.b.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("mine", false, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	rep := r.run(Config{Producers: 1, Queues: []string{"mine"}, BodyBytes: 16, Confirm: 10, PublishCount: 100})
	if q, err := ch.QueueDeclarePassive("mine", false, false, false, false, nil); err != nil || q.Messages != 100 || rep.Confirmed != 100 {
		t.Errorf("%+v, %v, confirmed %d", q, err, rep.Confirmed)
	}
	rep = r.run(Config{Consumers: 1, Queues: []string{"mine"}, Predeclared: true, AckEvery: 40, ConsumeCount: 50, Prefetch: 60})
	if rep.Received < 50 {
		t.Errorf("received %d of 50", rep.Received)
	}
	// 50 deliveries are an ack of 40 and, in the end, one of 10.
	if q, err := ch.QueueDeclarePassive("mine", false, false, false, false, nil); err != nil || q.Messages != 50 {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestSystemCalls: a write for each publish and each ack in one mode, next to
// none in the other.
func TestSystemCalls(t *testing.T) {
	const n = 5000
	for _, batched := range []bool{false, true} {
		r := newRig(t, false)
		r.run(Config{Producers: 1, Consumers: 1, Queues: []string{"q"}, BodyBytes: 16, Confirm: 2000, AckEvery: 10, Batched: batched, PublishCount: n})
		got := r.writes.Load()
		const setup = 60 // logins, declares, closes
		if want := int64(n + n/10); !batched && (got < want || got > want+setup) {
			t.Errorf("%d writes for %d publishes and %d acks", got, n, n/10)
		}
		if batched && got > n/20 {
			t.Errorf("%d writes for %d publishes in batches", got, n)
		}
	}
}

// TestNoAllocationPerMessage: fifty thousand messages more cost no more
// allocations, in the load and in the broker.
func TestNoAllocationPerMessage(t *testing.T) { both(t, testNoAllocationPerMessage) }

func testNoAllocationPerMessage(t *testing.T, r *rig) {
	mallocs := func(n int64) uint64 {
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.run(Config{Producers: 1, Consumers: 1, Queues: []string{"q"}, BodyBytes: 100, Confirm: 500, AckEvery: 10, Prefetch: 1000, Batched: true, PublishCount: n})
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	mallocs(20_000) // the broker's buffers get their size
	few, many := mallocs(1000), mallocs(51_000)
	if many > few+500 {
		t.Errorf("%d allocations for 1,000 messages, %d for 51,000", few, many)
	}
}

// TestOmission: a broker that pauses is to blame for all messages that were due
// meanwhile, not just for the one that waited.
func TestOmission(t *testing.T) { both(t, testOmission) }

func testOmission(t *testing.T, r *rig) {
	r.b.HoldConfirms()
	held := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var pause time.Duration
	cfg := Config{Producers: 1, Queues: []string{"q"}, BodyBytes: 16, Confirm: 1, Rate: 1000, PublishCount: 200, Interval: 20 * time.Millisecond, stallEvery: 50 * time.Millisecond}
	cfg.Progress = func(s Sample) {
		if s.At > 300*time.Millisecond && pause == 0 {
			pause = time.Since(held)
			r.b.ReleaseConfirms()
		}
	}
	rep, err := Run(ctx, &r.broker, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	// All 200 were due in the first 200 ms, and none was confirmed in the first 300.
	l := rep.ConfirmLatency
	if l == nil || l.Count != 200 || l.P50 < 150 || l.Max < 250 {
		t.Errorf("confirms were held for %v and the latency is %+v", pause, l)
	}
	// The pause has room for so many looks, whatever the interval of the progress is. On a
	// busy machine some come late.
	if n := rep.StalledSeconds; n < 2 || n > int(pause/(50*time.Millisecond))+1 || rep.StalledWorkerSeconds != n {
		t.Errorf("confirms were held for %v, and that is %d stalls of all and %d of single ones", pause, n, rep.StalledWorkerSeconds)
	}
}

// TestInterrupted: the end of the context gives what there was so far, also
// while the broker holds everything up.
func TestInterrupted(t *testing.T) { both(t, testInterrupted) }

func testInterrupted(t *testing.T, r *rig) {
	ctx, cancel := context.WithCancel(context.Background())
	cfg := Config{Producers: 1, Consumers: 1, Queues: []string{"q"}, BodyBytes: 16, Confirm: 10, AckEvery: 1, Interval: 10 * time.Millisecond}
	cfg.Progress = func(s Sample) {
		if s.Received > 0 {
			r.b.HoldConfirms()
		}
		if s.Confirmed == 0 {
			cancel()
		}
	}
	rep, err := Run(ctx, &r.broker, &cfg)
	if err != nil || !rep.Interrupted || rep.Received == 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	r.b.ReleaseConfirms()
	if n := r.depth("q"); n >= 0 {
		t.Error("the queue is still there")
	}
}

// TestBroken: a lost connection ends the load with what there was so far.
func TestBroken(t *testing.T) { both(t, testBroken) }

func testBroken(t *testing.T, r *rig) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := Config{Producers: 1, Consumers: 1, Queues: []string{"q"}, BodyBytes: 16, AckEvery: 1, Interval: 10 * time.Millisecond, Confirm: 10}
	cfg.Progress = func(s Sample) {
		if s.Received > 0 {
			r.b.CutConnections()
		}
	}
	rep, err := Run(ctx, &r.broker, &cfg)
	if err == nil || rep == nil || rep.Received == 0 || rep.Interrupted {
		t.Errorf("%+v, %v", rep, err)
	}
	if n := r.depth("q"); n >= 0 {
		t.Error("the queue is still there")
	}
}

// TestRefused: what the broker says is what the user reads.
func TestRefused(t *testing.T) {
	r := newRig(t, false)
	cfg := Config{Producers: 1, Queues: []string{"q"}, PublishCount: 1}
	wrong := r.broker
	wrong.Login.Password = "wrong"
	var closed *CloseError
	if _, err := Run(context.Background(), &wrong, &cfg); !errors.As(err, &closed) || closed.Code != 403 {
		t.Errorf("a wrong password: %v", err)
	}
	cfg.QueueArgs = wire.Table{{Key: "x-max-length", Value: "many"}}
	if _, err := Run(context.Background(), &r.broker, &cfg); !errors.As(err, &closed) || closed.Code != 406 {
		t.Errorf("a wrong argument: %v", err)
	}
}

// TestDeaf: a consumer that never reads costs the others nothing.
func TestDeaf(t *testing.T) { both(t, testDeaf) }

func testDeaf(t *testing.T, r *rig) {
	rep := r.run(Config{Producers: 1, Consumers: 1, Deaf: 1, Queues: []string{"q"}, BodyBytes: 1000, AckEvery: 1, Confirm: 100, PublishCount: 20_000})
	if rep.Confirmed != 20_000 || rep.Received < 5000 {
		t.Errorf("confirmed %d, received %d", rep.Confirmed, rep.Received)
	}
}

// TestSettle: confirms in any order are counted once, and impossible ones are
// errors.
func TestSettle(t *testing.T) {
	p := &publisher{r: &runner{epoch: time.Now()}, window: 4, open: make([]int64, 16), mask: 15}
	for n := int64(1); n <= 6; n++ {
		p.open[n] = n
		p.sent.Store(n)
	}
	for _, s := range []struct {
		tag      int64
		multiple bool
		settles  int64
		lowest   int64
		bad      bool
	}{
		{2, false, 1, 0, false}, {2, false, 1, 0, true}, {1, false, 2, 2, false}, {5, false, 3, 2, false},
		{4, true, 5, 5, false}, {3, false, 5, 5, true}, {7, false, 5, 5, true}, {0, true, 5, 5, true}, {6, true, 6, 6, false},
	} {
		err := p.settle(s.tag, s.multiple, true)
		if (err != nil) != s.bad || p.settles != s.settles || p.lowest != s.lowest {
			t.Fatalf("%+v: %v, %d settled, lowest %d", s, err, p.settles, p.lowest)
		}
	}
}

// TestCheck: what makes no sense is refused with a reason.
func TestCheck(t *testing.T) {
	good := Config{Producers: 1, Consumers: 1, Queues: []string{"q"}, Prefetch: 10, AckEvery: 10}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"nothing to do":       func(c *Config) { c.Producers, c.Consumers = 0, 0 },
		"publishers":          func(c *Config) { c.Producers = maxWorkers + 1 },
		"there must be":       func(c *Config) { c.Queues = nil },
		"raise the prefetch":  func(c *Config) { c.AckEvery = 11 },
		"give one of them":    func(c *Config) { c.Confirm, c.TxSize = 1, 1 },
		"cannot be negative":  func(c *Config) { c.Rate = -1 },
		"a count cannot":      func(c *Config) { c.PublishCount = -1 },
		"bytes of a message":  func(c *Config) { c.BodyBytes = -1 },
		"unconfirmed":         func(c *Config) { c.Confirm = maxWindow + 1 },
		"prefetch: it goes":   func(c *Config) { c.Prefetch = 65536 },
		"priorities: it goes": func(c *Config) { c.Priorities = 257 },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
}

// TestChurn counts what was opened, and leaves nothing open.
func TestChurn(t *testing.T) {
	r := newRig(t, false)
	for _, channels := range []bool{false, true} {
		rep, err := RunChurn(context.Background(), &r.broker, &Churn{Workers: 3, Channels: channels, Count: 20})
		if err != nil || rep.Operations != 60 || rep.OperationRate <= 0 || rep.Server == "" {
			t.Errorf("channels %t: %+v, %v", channels, rep, err)
		}
	}
	if rep, err := RunChurn(context.Background(), &r.broker, &Churn{Workers: 2, Duration: 50 * time.Millisecond}); err != nil || rep.Operations == 0 || rep.Interrupted {
		t.Errorf("%+v, %v", rep, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	dial := r.broker.Dial
	cutting := r.broker
	cutting.Dial = func(ctx context.Context) (net.Conn, error) {
		defer cancel()
		return dial(ctx)
	}
	if rep, err := RunChurn(ctx, &cutting, &Churn{Workers: 1}); err == nil && !rep.Interrupted {
		t.Errorf("the end of the context went unnoticed: %+v", rep)
	}
}

// TestIdle opens connections and looks at memory.
func TestIdle(t *testing.T) {
	r := newRig(t, false)
	if _, err := ProcessCPU(os.Getpid()); err == nil {
		r.broker.PID = os.Getpid()
	}
	rep, err := RunIdle(context.Background(), &r.broker, 50, 10*time.Millisecond)
	if err != nil || rep.Operations != 50 || r.broker.PID != 0 && rep.Broker.RSSSettled == 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	if _, err := RunIdle(context.Background(), &r.broker, 0, 0); err == nil {
		t.Error("no connections is no load")
	}
}

// TestProcess: a process that is not there is an error with its number.
func TestProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	if n, err := ResidentBytes(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("resident %d, %v", n, err)
	}
	const nobody = 1 << 30
	if _, err := ResidentBytes(nobody); err == nil || !strings.Contains(err.Error(), strconv.Itoa(nobody)) {
		t.Error(err)
	}
	if _, err := ProcessCPU(nobody); err == nil || !strings.Contains(err.Error(), strconv.Itoa(nobody)) {
		t.Error(err)
	}
}

// TestNoRoom: a listener that nobody accepts from, such as that of a broker without
// descriptors, is an error and not a wait without end.
func TestNoRoom(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := &Broker{Dial: DialTCP(l.Addr().String()), LoginTimeout: 20 * time.Millisecond}
	if _, err := Server(context.Background(), b); err == nil || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Error(err)
	}
}
