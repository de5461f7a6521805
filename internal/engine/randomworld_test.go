package engine

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

// Of what is published to the safe queues nothing may be lost: they have no
// limits and nobody purges or deletes them. What is rejected there goes to the
// queue "dead". With the other queues anything may happen to a message, but that
// nothing keeps its memory.
var (
	safeQueues = []string{"s1", "s2"}
	wildQueues = []wire.QueueDeclare{
		{Queue: "reject", Arguments: arguments("x-max-length", 3, "x-overflow", "reject-publish")},
		{Queue: "expire", Arguments: arguments("x-message-ttl", 20, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "drop")},
		{Queue: "drop", Arguments: arguments("x-max-length", 10, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "levels")},
		{Queue: "levels", Durable: true, Arguments: arguments("x-max-priority", 5)},
		{Queue: "divert", Arguments: arguments("x-max-length", 2, "x-overflow", "reject-publish-dlx",
			"x-dead-letter-exchange", "", "x-dead-letter-routing-key", "drop")},
		{Queue: "auto", AutoDelete: true},
		{Queue: "single", Arguments: arguments("x-single-active-consumer", true, "x-expires", 50)},
	}
)

func arguments(pairs ...any) (t wire.Table) {
	for i := 0; i < len(pairs); i += 2 {
		v := pairs[i+1]
		if n, ok := v.(int); ok {
			v = int32(n)
		}
		t = append(t, wire.Field{Key: pairs[i].(string), Value: v})
	}
	return t
}

// copyOf is one message in one safe queue, or where it went from there.
type copyOf struct {
	id    uint64
	queue string // for what is in the queue "dead", the queue it died in
}

type world struct {
	t       testing.TB
	e       *Engine
	rng     *rand.Rand
	clock   *handClock // nil with clients at once
	inTurn  bool
	kills   bool // some connections end by a failed write
	clients []*client
	admin   *Channel

	mu       sync.Mutex
	expected map[copyOf]int // published
	ended    map[copyOf]int // acknowledged for good
}

func newWorld(t testing.TB, seed uint64, inTurn bool) *world { return newWorldOn(t, seed, inTurn, nil) }

// newWorldOn is newWorld with a data directory.
func newWorldOn(t testing.TB, seed uint64, inTurn bool, disk *DiskConfig) *world {
	w := &world{
		t: t, inTurn: inTurn, kills: seed%2 == 0, rng: rand.New(rand.NewPCG(seed, 0)),
		expected: map[copyOf]int{}, ended: map[copyOf]int{},
	}
	cfg := Config{VHosts: []string{"/"}, Disk: disk}
	if inTurn {
		w.clock = newHandClock()
		cfg.Clock = w.clock
	}
	var err error
	if w.e, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	_, w.admin = open(t, w.e)
	must(t, w.admin.DeclareExchange(&wire.ExchangeDeclare{Exchange: "dlx", Type: "direct"}))
	declare(t, w.admin, &wire.QueueDeclare{Queue: "dead", Durable: true})
	for _, name := range safeQueues {
		declare(t, w.admin, &wire.QueueDeclare{Queue: name, Durable: name == "s1",
			Arguments: arguments("x-dead-letter-exchange", "dlx", "x-dead-letter-routing-key", "from."+name)})
		must(t, w.admin.BindQueue(&wire.QueueBind{Queue: "dead", Exchange: "dlx", RoutingKey: "from." + name}))
		must(t, w.admin.BindQueue(&wire.QueueBind{Queue: name, Exchange: "amq.fanout"}))
	}
	for n := range 4 {
		w.clients = append(w.clients, newClient(w, uint64(n), seed))
	}
	return w
}

// meddle does what the broker does by itself, or the disk.
func (w *world) meddle(what int) {
	switch what {
	case 0:
		w.e.HoldConfirms()
	case 1:
		w.e.ReleaseConfirms()
	case 2:
		w.e.sweep()
	}
}

func (w *world) steps(n int) int {
	if *stepsLimit > 0 {
		return *stepsLimit
	}
	return n
}

func (w *world) count(into map[copyOf]int, copies ...copyOf) {
	w.mu.Lock()
	for _, c := range copies {
		into[c]++
	}
	w.mu.Unlock()
}

// underWay tells whether something goes on that no client has begun: a body is on
// its way into memory, or a dead letter on its way, or confirms await a sync.
func (w *world) underWay() bool {
	if w.e.disk != nil {
		w.e.waitingMu.Lock()
		waiting := len(w.e.waiting) > 0
		w.e.waitingMu.Unlock()
		if waiting {
			runtime.Gosched()
			return true
		}
	}
	for _, q := range w.e.allQueues() {
		q.mu.Lock()
		busy := q.fetching || q.m.MovingCount() > 0
		q.mu.Unlock()
		if busy {
			runtime.Gosched()
			return true
		}
	}
	return false
}

// copyIn names a message that came out of a queue.
func copyIn(queue, key string, id uint64) copyOf {
	if queue == "dead" {
		queue = key[len("from."):]
	}
	return copyOf{id, queue}
}

func isSafe(queue string) bool { return queue == "dead" || slices.Contains(safeQueues, queue) }
