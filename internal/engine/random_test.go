package engine

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// A failing seed is replayed, as often as wanted, with
//
//	go test ./internal/engine -run TestRandomClientsInTurn -seed 17 -steps 40
//
// Clients in turn run on one goroutine and a clock of their own, so that a seed
// always gives the same run. Clients at once are as the scheduler has them: a
// seed fixes only what each of them tries.
var (
	onlySeed   = flag.Uint64("seed", 0, "run this seed only")
	stepsLimit = flag.Int("steps", 0, "steps of each client, to shorten a failing run")
)

func TestRandomClientsInTurn(t *testing.T) {
	for _, seed := range seeds(60) {
		w := newWorld(t, seed, true)
		for range w.steps(1200) {
			c := w.clients[w.rng.IntN(len(w.clients))]
			c.step()
			if w.rng.IntN(3) == 0 {
				c.write(w.rng.IntN(4) == 0)
			}
			if w.rng.IntN(20) == 0 {
				w.clock.advance(time.Duration(w.rng.IntN(30)) * time.Millisecond)
			}
			if w.rng.IntN(20) == 0 {
				w.meddle(w.rng.IntN(3))
			}
		}
		if w.finish(); t.Failed() {
			t.Fatalf("failed with -seed %d", seed)
		}
	}
}

func TestRandomClientsAtOnce(t *testing.T) {
	for _, seed := range seeds(8) {
		w := newWorld(t, seed, false)
		var wg sync.WaitGroup
		for _, c := range w.clients {
			wg.Go(func() {
				for range w.steps(1500) {
					c.step()
				}
			})
		}
		var over atomic.Bool
		var meddling sync.WaitGroup
		meddling.Go(func() {
			for i := 0; !over.Load(); i++ {
				w.meddle(i % 3)
				runtime.Gosched()
			}
		})
		wg.Wait()
		over.Store(true)
		meddling.Wait()
		if w.finish(); t.Failed() {
			t.Fatalf("failed with -seed %d", seed)
		}
	}
}

// TestRandomClientsOnDisk is the same with a data directory, bodies that do not
// stay in memory, and checkpoints and a janitor beside the clients.
func TestRandomClientsOnDisk(t *testing.T) {
	for _, seed := range seeds(4) {
		w := newWorldOn(t, seed, false, &DiskConfig{FS: vfs.NewMem(), Dir: "/data",
			FileBytes: 1 << 20, ResidentBytes: 1, CompactSlackBytes: 1, IndexBytes: 1, BlobBytes: (seed & 1) * 30, HandJanitor: true})
		var clients, janitor sync.WaitGroup
		for _, c := range w.clients {
			clients.Go(func() {
				for range w.steps(800) {
					c.step()
				}
			})
		}
		var over atomic.Bool
		janitor.Go(func() {
			for i := 0; !over.Load(); i++ {
				w.meddle(i % 3)
				if err := w.e.checkpoint(over.Load); err != nil {
					t.Error(err)
				}
				w.e.janitor.round()
			}
		})
		clients.Wait()
		over.Store(true)
		janitor.Wait()
		if w.finish(); t.Failed() {
			t.Fatalf("failed with -seed %d", seed)
		}
	}
}

func seeds(n uint64) (list []uint64) {
	if *onlySeed > 0 {
		return []uint64{*onlySeed}
	}
	for s := range n {
		list = append(list, s+1)
	}
	return list
}

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

// finish brings everything to rest and looks at what is left.
func (w *world) finish() {
	w.e.ReleaseConfirms()
	for _, c := range w.clients {
		if c.dying {
			c.cut()
			c.connect()
		}
		c.endTransactions()
	}
	quiet, deadline := 0, time.Now().Add(20*time.Second)
	for quiet < 3 && !w.t.Failed() {
		quiet++
		for _, c := range w.clients {
			if c.settleAll() || w.underWay() {
				quiet = 0
			}
		}
		if time.Now().After(deadline) {
			w.t.Error("clients do not come to rest")
		}
	}
	ready := w.checkQueues()
	for _, c := range w.clients {
		c.checkAtRest()
	}
	if refs := w.referencesAre(int64(ready)); refs != int64(ready) {
		w.t.Errorf("%d references to bodies for %d messages", refs, ready)
	}
	w.checkLedger()
	for _, c := range w.clients {
		c.cut()
	}
	for _, q := range w.e.allQueues() {
		must(w.t, w.admin.DeleteQueue(&wire.QueueDelete{Queue: q.def.Name}, func(uint32) {}))
	}
	if refs := w.referencesAre(0); refs != 0 {
		w.t.Errorf("%d references to bodies without a queue", refs)
	}
	if n := len(w.e.timers.heap); n != 0 {
		w.t.Errorf("%d timers without a queue", n)
	}
	w.e.Close()
}

// references are those to bodies, in memory and on the disk.
func (w *world) references() int64 {
	n := w.e.arena.References()
	if w.e.disk != nil {
		n += w.e.disk.References()
	}
	return n
}

// referencesAre waits for that number of references, and returns how many there
// are: a timer's goroutine may be about to drop its last.
func (w *world) referencesAre(want int64) (n int64) {
	for until := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if n = w.references(); n == want || time.Now().After(until) {
			return n
		}
	}
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

// checkQueues returns the number of ready messages. No message may wait while a
// consumer could take it: all of them have acknowledged everything.
func (w *world) checkQueues() (ready int) {
	for _, q := range w.e.allQueues() {
		q.mu.Lock()
		if q.m.UnackedCount() > 0 || q.m.MovingCount() > 0 {
			w.t.Errorf("queue %s: %d unacknowledged, %d on their way to a dead-letter exchange", q.def.Name, q.m.UnackedCount(), q.m.MovingCount())
		}
		if q.m.ReadyCount() > 0 && q.m.ConsumerCount() > 0 {
			w.t.Errorf("queue %s: %d messages wait for %d consumers", q.def.Name, q.m.ReadyCount(), q.m.ConsumerCount())
		}
		ready += q.m.ReadyCount()
		q.mu.Unlock()
	}
	return ready
}

// checkLedger takes what is left in the safe queues and sees that every copy
// that was published ended exactly once.
func (w *world) checkLedger() {
	for _, name := range append(slices.Clone(safeQueues), "dead") {
		for {
			ok, err := w.admin.Get(name, true)
			must(w.t, err)
			if !ok {
				break
			}
		}
		for _, r := range drain(w.t, w.admin.conn) {
			if m, ok := r.method.(*wire.BasicGetOk); ok {
				w.count(w.ended, copyIn(name, m.RoutingKey, r.id))
			}
		}
	}
	for c, n := range w.expected {
		if n != 1 || w.ended[c] != 1 {
			w.t.Errorf("message %x in %s: published %d times, ended %d times", c.id, c.queue, n, w.ended[c])
			return
		}
	}
	for c := range w.ended {
		if w.expected[c] == 0 {
			w.t.Errorf("message %x in %s: ended, and never published", c.id, c.queue)
			return
		}
	}
}

// copyIn names a message that came out of a queue.
func copyIn(queue, key string, id uint64) copyOf {
	if queue == "dead" {
		queue = key[len("from."):]
	}
	return copyOf{id, queue}
}

func isSafe(queue string) bool { return queue == "dead" || slices.Contains(safeQueues, queue) }

// client is one connection after the other.
type client struct {
	w      *world
	rng    *rand.Rand
	number uint64
	lastID uint64
	conn   *Conn
	dying  bool
	writer sync.WaitGroup

	mu    sync.Mutex
	inbox []received

	channels    map[uint16]*model
	lastChannel uint16
	lastTag     int
}

// model is what a client knows of a channel.
type model struct {
	ch         *Channel
	out        map[uint64]delivered
	gets       []string          // queues of basic.gets not answered yet
	consumers  map[string]string // tag to queue
	newest     map[string]uint64 // by consumer and publisher: the last first delivery
	confirming bool
	published  uint64
	confirmed  uint64
	tx         bool
	txCopies   []copyOf
	txSettled  []delivered
}

type delivered struct {
	copyOf
	safe bool
	dead bool   // it came from the queue "dead"
	tag  uint64 // in txSettled: its delivery tag
	ends bool   // in txSettled: the decision ends it
}

func newClient(w *world, number, seed uint64) *client {
	c := &client{w: w, number: number, rng: rand.New(rand.NewPCG(seed, number+1))}
	c.connect()
	return c
}

func (c *client) connect() {
	conn, err := c.w.e.Open("/", ConnInfo{User: "guest", FrameMax: 131072, CancelNotify: true})
	must(c.w.t, err)
	c.conn, c.channels, c.inbox = conn, map[uint16]*model{}, nil
	if !c.w.inTurn {
		c.writer.Go(func() {
			for {
				b, done, ok := turn(conn.Out)
				if !ok {
					return
				}
				list, err := parse(b)
				if err != nil {
					c.w.t.Error(err)
				}
				c.mu.Lock()
				c.inbox = append(c.inbox, list...)
				c.mu.Unlock()
				if done() {
					conn.Refill()
				}
			}
		})
	}
}

// write is the writer's turn, or as many as it takes.
func (c *client) write(all bool) {
	for c.w.inTurn {
		list, any := drainOnce(c.w.t, c.conn)
		c.inbox = append(c.inbox, list...)
		if !any || !all {
			return
		}
	}
}

// cut ends the connection.
func (c *client) cut() {
	c.conn.Close()
	c.writer.Wait()
}

func (c *client) openChannel() *model {
	c.lastChannel++
	m := &model{ch: c.conn.OpenChannel(c.lastChannel), out: map[uint64]delivered{},
		consumers: map[string]string{}, newest: map[string]uint64{}}
	c.channels[c.lastChannel] = m
	switch c.rng.IntN(4) {
	case 0:
		must(c.w.t, m.ch.SelectTx())
		m.tx = true
	case 1, 2:
		must(c.w.t, m.ch.SelectConfirm())
		m.confirming = true
	}
	m.ch.Qos(uint16(c.rng.IntN(20)), false)
	m.ch.Qos(uint16(c.rng.IntN(3)*c.rng.IntN(20)), true)
	return m
}

func (c *client) closeChannel(m *model) {
	c.conn.Flush()
	m.ch.Close()
	delete(c.channels, m.ch.target.Channel)
}

func (c *client) anyChannel() *model {
	if len(c.channels) == 0 || len(c.channels) < 3 && c.rng.IntN(10) == 0 {
		return c.openChannel()
	}
	ids := slices.Sorted(maps.Keys(c.channels))
	return c.channels[ids[c.rng.IntN(len(ids))]]
}

func (c *client) anyQueue() string {
	all := append(slices.Clone(safeQueues), "dead")
	if c.rng.IntN(2) == 0 {
		return all[c.rng.IntN(len(all))]
	}
	return wildQueues[c.rng.IntN(len(wildQueues))].Queue
}

// step does one thing that a client may do.
func (c *client) step() {
	if c.dying && c.rng.IntN(5) == 0 {
		c.dying = false
		c.cut()
		c.connect()
	}
	c.read()
	m := c.anyChannel()
	n := c.rng.IntN(1000)
	if n >= 600 { // what is neither publish nor ack is preceded by a flush
		c.conn.Flush()
	}
	switch {
	case n < 420:
		c.publish(m)
	case n < 600:
		c.settle(m, false)
	case n < 680:
		c.settle(m, true)
	case n < 760:
		c.consume(m)
	case n < 800:
		c.get(m)
	case n < 840:
		c.cancel(m)
	case n < 860:
		m.ch.Qos(uint16(c.rng.IntN(3)*c.rng.IntN(20)), true)
	case n < 900:
		c.changeTopology(m)
	case n < 930:
		c.endTransaction(m, c.rng.IntN(3) > 0)
	case n < 945:
		c.recover(m)
	case n < 980:
		c.closeChannel(m)
	case n < 985:
		if c.w.kills && c.rng.IntN(2) == 0 {
			// A write has failed; the reader goes on until it notices.
			c.conn.Out.Close()
			c.dying = true
			break
		}
		c.cut()
		c.connect()
	default:
		c.conn.Flush()
	}
}

func (c *client) publish(m *model) {
	c.lastID++
	p := publishing{
		id:        (c.number*2+1)<<40 | c.lastID,
		bodyBytes: 8 + c.rng.IntN(2)*c.rng.IntN(30_000), persistent: c.rng.IntN(2) == 0,
		mandatory: c.rng.IntN(2) == 0, priority: uint8(c.rng.IntN(7)),
	}
	var copies []copyOf
	switch c.rng.IntN(4) {
	case 0:
		p.exchange = "amq.fanout"
		for _, q := range safeQueues {
			copies = append(copies, copyOf{p.id, q})
		}
	case 1:
		p.key = safeQueues[c.rng.IntN(2)]
		copies = []copyOf{{p.id, p.key}}
	default:
		p.key = wildQueues[c.rng.IntN(len(wildQueues))].Queue
		if c.rng.IntN(3) == 0 {
			p.expiration = fmt.Sprint(c.rng.IntN(30))
		}
	}
	if m.tx { // in their queues at the commit, not in order with the others
		p.id += 1 << 40
		for i := range copies {
			copies[i].id = p.id
		}
	}
	must(c.w.t, send(m.ch, p))
	if m.confirming {
		m.published++
	}
	if m.tx {
		m.txCopies = append(m.txCopies, copies...)
	} else {
		c.w.count(c.w.expected, copies...)
	}
}

// settle acknowledges, or gives back or rejects, one delivery or several.
func (c *client) settle(m *model, negative bool) {
	if len(m.out) == 0 {
		return
	}
	tags := slices.Sorted(maps.Keys(m.out))
	i := c.rng.IntN(len(tags))
	list, multiple := tags[i:i+1], c.rng.IntN(2) == 0
	if multiple {
		list = tags[:i+1]
	}
	requeue := negative && c.rng.IntN(2) == 0
	if negative {
		must(c.w.t, m.ch.Nack(tags[i], multiple, requeue))
	} else {
		must(c.w.t, m.ch.Ack(tags[i], multiple))
	}
	for _, tag := range list {
		d := m.out[tag]
		delete(m.out, tag)
		// What is rejected in the safe queues lives on in "dead".
		d.tag, d.ends = tag, d.safe && !requeue && (!negative || d.dead)
		if m.tx {
			m.txSettled = append(m.txSettled, d)
		} else if d.ends {
			c.w.count(c.w.ended, d.copyOf)
		}
	}
}

func (c *client) endTransaction(m *model, commit bool) {
	if !m.tx {
		return
	}
	if commit {
		err := m.ch.CommitTx(func() {})
		c.w.count(c.w.expected, m.txCopies...)
		for _, d := range m.txSettled {
			if d.ends {
				c.w.count(c.w.ended, d.copyOf)
			}
		}
		if err != nil { // a full queue refused some
			c.closeChannel(m)
		}
	} else {
		must(c.w.t, m.ch.RollbackTx())
		for _, d := range m.txSettled {
			m.out[d.tag] = d
		}
	}
	m.txCopies, m.txSettled = nil, nil
}

func (c *client) endTransactions() {
	c.conn.Flush()
	for _, id := range slices.Sorted(maps.Keys(c.channels)) {
		m := c.channels[id]
		if m.tx {
			c.closeChannel(m)
		}
	}
}

func (c *client) recover(m *model) {
	clear(m.out)
	m.ch.Recover()
}

func (c *client) consume(m *model) {
	q := c.anyQueue()
	c.lastTag++
	r := Consume{Queue: q, Tag: fmt.Sprint("t", c.lastTag), NoAck: !isSafe(q) && c.rng.IntN(3) == 0}
	if c.rng.IntN(3) == 0 {
		r.Args = arguments("x-priority", c.rng.IntN(3))
	}
	m.consumers[r.Tag] = q
	if err := m.ch.Consume(r); err != nil {
		if err.Code != wire.NotFound {
			c.w.t.Error(err)
		}
		c.closeChannel(m)
	}
}

func (c *client) cancel(m *model) {
	if tags := slices.Sorted(maps.Keys(m.consumers)); len(tags) > 0 {
		m.ch.Cancel(tags[c.rng.IntN(len(tags))])
	}
}

func (c *client) get(m *model) {
	q := c.anyQueue()
	ok, err := m.ch.Get(q, !isSafe(q) && c.rng.IntN(2) == 0)
	switch {
	case err != nil && err.Code == wire.NotFound:
		c.closeChannel(m)
	case err != nil:
		c.w.t.Error(err)
	case ok:
		m.gets = append(m.gets, q)
	}
}

func (c *client) changeTopology(m *model) {
	d := wildQueues[c.rng.IntN(len(wildQueues))]
	var err *wire.Error
	switch c.rng.IntN(6) {
	case 0:
		err = m.ch.DeleteQueue(&wire.QueueDelete{Queue: d.Queue}, func(uint32) {})
	case 1:
		_, err = m.ch.Purge(d.Queue)
	default:
		if _, err = m.ch.DeclareQueue(&d); err == nil && c.rng.IntN(2) == 0 {
			err = m.ch.BindQueue(&wire.QueueBind{Queue: d.Queue, Exchange: "amq.fanout"})
		}
	}
	if err != nil {
		if err.Code != wire.NotFound {
			c.w.t.Error(err)
		}
		c.closeChannel(m)
	}
}

// read handles what has arrived.
func (c *client) read() (any bool) {
	c.mu.Lock()
	list := c.inbox
	c.inbox = nil
	c.mu.Unlock()
	for _, r := range list {
		if m := c.channels[r.channel]; m != nil {
			c.receive(m, r)
		}
	}
	return len(list) > 0
}

func (c *client) receive(m *model, r received) {
	t := c.w.t
	switch x := r.method.(type) {
	case *wire.BasicDeliver:
		q, known := m.consumers[x.ConsumerTag]
		if !known {
			t.Errorf("delivery to consumer %q, which there is not", x.ConsumerTag)
		}
		m.arrived(q, x.RoutingKey, r.id, x.DeliveryTag)
		// Messages of one publisher come in order; one that a dying connection
		// gave back may come late.
		key := fmt.Sprint(x.ConsumerTag, " ", r.id>>40)
		if slices.Contains(safeQueues, q) && !x.Redelivered && !c.w.kills && r.id>>40&1 == 1 {
			if r.id < m.newest[key] {
				t.Errorf("queue %s: message %x after %x", q, r.id, m.newest[key])
			}
			m.newest[key] = r.id
		}
	case *wire.BasicGetOk:
		m.arrived(m.gets[0], x.RoutingKey, r.id, x.DeliveryTag)
		m.gets = m.gets[1:]
	case *wire.BasicAck:
		m.confirm(t, x.DeliveryTag, x.Multiple)
	case *wire.BasicNack:
		m.confirm(t, x.DeliveryTag, x.Multiple)
	}
}

// arrived notes a delivery, unless it needs no acknowledgement, or was recovered
// before it was read.
func (m *model) arrived(queue, key string, id, tag uint64) {
	if m.awaits(tag) {
		m.out[tag] = delivered{copyOf: copyIn(queue, key, id), safe: isSafe(queue), dead: queue == "dead"}
	}
}

// awaits tells whether the broker has that delivery as unacknowledged.
func (m *model) awaits(tag uint64) bool {
	o := m.ch.conn.Out
	o.mu.Lock()
	defer o.mu.Unlock()
	list, ok := m.ch.unacked.Settle(nil, tag, false)
	if ok {
		m.ch.unacked.Restore(tag, list[0])
	}
	return ok
}

func (m *model) confirm(t testing.TB, tag uint64, multiple bool) {
	if tag <= m.confirmed || tag > m.published || !multiple && tag != m.confirmed+1 {
		t.Errorf("confirm %d (multiple %t) after %d of %d", tag, multiple, m.confirmed, m.published)
	}
	m.confirmed = tag
}

// settleAll reads and acknowledges everything. It reports whether there was
// anything to do, or anything under way.
func (c *client) settleAll() (busy bool) {
	c.conn.Flush()
	c.write(true)
	busy = c.read()
	for _, id := range slices.Sorted(maps.Keys(c.channels)) {
		m := c.channels[id]
		for len(m.out) > 0 {
			busy = true
			c.settle(m, false)
		}
	}
	c.conn.Flush()
	return busy || c.conn.Out.held.Load() != 0
}

// checkAtRest looks for credit that was not given back and confirms that were
// not sent.
func (c *client) checkAtRest() {
	t := c.w.t
	for id, m := range c.channels {
		if n := m.ch.held.Load(); n != 0 {
			t.Errorf("channel %d: %d deliveries count against its prefetch, none is out", id, n)
		}
		if n := m.ch.unacked.Len(); n != 0 {
			t.Errorf("channel %d: %d deliveries unacknowledged, none is out", id, n)
		}
		for _, x := range m.ch.consumers {
			if n := x.held.Load(); n != 0 {
				t.Errorf("channel %d, consumer %s: %d deliveries count against its prefetch, none is out", id, x.tag, n)
			}
		}
		if m.confirmed != m.published && m.confirming {
			t.Errorf("channel %d: %d of %d publishes confirmed", id, m.confirmed, m.published)
		}
	}
}
