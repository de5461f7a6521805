package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// The crash test drives a durable engine with operations of all kinds and copies
// its disk at random file operations, as a power loss (in every way that vfs
// knows) or a kill would leave it; opens an engine on the copy, also on copies
// taken while that one recovers; and compares what it holds with the ledger.
// Then it goes on from there, up to some generations.
//
//	ENGINE_SEEDS=10000 go test ./internal/engine -run 'TestCrash$' -timeout 3h -v
//	ENGINE_FIRST=5000 ENGINE_SEEDS=5000 …                        // those from 5000 on
//	ENGINE_SEED=17 go test ./internal/engine -run 'TestCrash$'   // replays one
//
// The engine's committer runs at its own pace: a seed fixes the operations, and
// the moment of a crash by the number of the file operation.

func crashSeeds(t *testing.T, quick uint64) (from, to uint64) {
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		if err != nil && os.Getenv(name) != "" {
			t.Fatalf("%s: %v", name, err)
		}
		return n // 0 if it is not set
	}
	if os.Getenv("ENGINE_SEED") != "" {
		n := number("ENGINE_SEED")
		return n, n + 1
	}
	if n := number("ENGINE_SEEDS"); n > 0 {
		first := number("ENGINE_FIRST")
		return first, first + n
	}
	return 0, quick
}

func TestCrash(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	from, to := crashSeeds(t, 40)
	total := crashTally{}
	start := time.Now()
	for seed := from; seed < to; seed++ {
		r := &crashRun{rng: rand.New(rand.NewPCG(seed, 7)), tally: total, long: seed%8 == 1}
		if err := r.run(vfs.NewMem()); err != nil {
			t.Fatalf("seed %d: %v\nreplay: ENGINE_SEED=%d go test -run 'TestCrash$' ./internal/engine", seed, err, seed)
		}
		total = r.tally
		if (seed-from)%1000 == 999 {
			t.Logf("%d seeds in %s: %+v", seed-from+1, time.Since(start).Round(time.Second), total)
		}
	}
	t.Logf("%d seeds: %+v", to-from, total)
	if to-from >= 40 && (total.recoveryCrashes == 0 || total.kills == 0 || total.powerLosses == 0 ||
		total.confirmed == 0 || total.dropped == 0 || total.blobs == 0 || total.moved == 0 || total.fetched == 0 || total.checkpoints == 0 || total.transactions == 0) {
		t.Errorf("some of it never happened: %+v", total)
	}
}

// crashTally counts what has come up, so that a test that gets nowhere shows.
type crashTally struct {
	operations, powerLosses, kills, recoveryCrashes, closes int
	published, confirmed, recovered, transactions           int
	dropped, blobs, moved, checkpoints, fetched, cold       int
}

type crashRun struct {
	rng   *rand.Rand
	tally crashTally
	long  bool // some queues get so long that pages of their index leave memory
}

const crashGenerations = 3

// run lets generations of engines follow each other, each on what a crash of the
// one before has left.
func (r *crashRun) run(disk *vfs.MemFS) error {
	var last *crash
	for generation := range crashGenerations {
		d, err := r.start(disk, last)
		if err != nil {
			return fmt.Errorf("generation %d: %w", generation, err)
		}
		stop := func() {}
		if r.rng.IntN(3) == 0 {
			stop = d.housekeepAllTheTime()
		}
		err = d.work(50 + r.rng.IntN(80))
		stop()
		if err != nil {
			return fmt.Errorf("generation %d: %w", generation, err)
		}
		crashes := d.end()
		for i := range crashes {
			if err := r.inspect(&crashes[i], 0); err != nil {
				return fmt.Errorf("generation %d, crash %d of %d (%s): %w", generation, i, len(crashes), crashes[i].how, err)
			}
		}
		last = &crashes[r.rng.IntN(len(crashes))]
		disk = last.disk.Clone()
	}
	return nil
}

// crash is a copy of the disk, and what may be on it.
type crash struct {
	disk *vfs.MemFS
	w    window
	how  string
}

// hook takes copies of a disk at some of the operations on it.
type hook struct {
	r       *crashRun
	mem     *vfs.MemFS
	mu      sync.Mutex
	rng     *rand.Rand
	l       *ledger // nil while the engine starts
	w       window  // the crash's that the engine starts from
	next    int
	count   int
	most    int
	crashes []crash
}

func (r *crashRun) hook(mem *vfs.MemFS, most, spread int) *hook {
	h := &hook{r: r, mem: mem, most: most, rng: rand.New(rand.NewPCG(r.rng.Uint64(), 3))}
	h.next = 1 + h.rng.IntN(spread)
	return h
}

func (h *hook) fs() vfs.FS {
	f := vfs.NewFault(h.mem)
	f.Add(vfs.Rule{Kinds: vfs.OpsChange, Before: h.before})
	return f
}

func (h *hook) before(vfs.Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count++; h.count < h.next || len(h.crashes) >= h.most {
		return
	}
	h.next = h.count + 1 + h.rng.IntN(80)
	h.take()
}

// soon has the next copy taken within so many file operations, if there is one left
// to take.
func (h *hook) soon(operations int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = h.count + 1 + h.rng.IntN(operations)
}

// take copies the disk. Called with h.mu held.
func (h *hook) take() {
	c := crash{w: h.w}
	if h.l != nil {
		c.w = h.l.open()
	}
	if m := h.rng.IntN(6); m == 5 {
		c.disk, c.how = h.mem.Clone(), "kill"
		h.r.tally.kills++
	} else {
		mode := vfs.CrashModes()[m]
		c.disk, c.how = h.mem.CrashClone(mode, h.rng), "power loss, "+mode.String()
		h.r.tally.powerLosses++
	}
	if h.l != nil {
		c.w.close()
	}
	h.crashes = append(h.crashes, c)
}

// inspect opens what a crash has left and compares, and does the same with
// crashes of that recovery.
func (r *crashRun) inspect(c *crash, depth int) error {
	h := r.hook(c.disk.Clone(), 1, 12)
	h.w = c.w
	config := durableConfig(h.fs(), newHandClock())
	config.Disk.ResidentBytes = 32 << 20 // all is read here, at once
	e, err := New(config)
	if err != nil {
		return fmt.Errorf("does not start: %w", err)
	}
	o := &observer{e: e, ids: map[place]uint64{}, whole: true}
	got := o.state()
	blobs := o.blobs(h.mem)
	e.Abandon()
	if o.bad != nil {
		return o.bad
	}
	r.tally.recovered += len(got.copies)
	r.tally.blobs += blobs
	if err := c.w.check(got); err != nil {
		if lost := (*lostError)(nil); errors.As(err, &lost) {
			err = fmt.Errorf("%w\n%soperations: %v", err, traces(c.disk.Clone(), lost.at), c.w.l.notes)
		}
		return err
	}
	if depth < 2 {
		h.mu.Lock()
		again := h.crashes
		h.mu.Unlock()
		for i := range again {
			r.tally.recoveryCrashes++
			if err := r.inspect(&again[i], depth+1); err != nil {
				return fmt.Errorf("crash of the recovery (%s): %w", again[i].how, err)
			}
		}
	}
	return nil
}

// driver works with one engine.
type driver struct {
	r     *crashRun
	rng   *rand.Rand
	e     *Engine
	clock *handClock
	hook  *hook
	l     *ledger
	o     *observer

	housekeeping chan struct{} // closed at the end, if the janitor runs beside the rest

	note string // what the last operation was

	pub, take, tx *crashClient
	lastID        uint64
}

// crashClient is a connection with one channel, and what its client knows.
type crashClient struct {
	d       *driver
	c       *Conn
	ch      *Channel
	tags    []uint64 // deliveries that are out
	numbers []uint64 // ids by publish number, from 1
	done    int      // of them confirmed
	inTx    []uint64
	ended   map[place]uint64 // acked in the open transaction
}

func (r *crashRun) start(disk *vfs.MemFS, from *crash) (*driver, error) {
	d := &driver{r: r, rng: r.rng, clock: newHandClock(), lastID: r.rng.Uint64() >> 16 << 16}
	d.hook = r.hook(disk, 2, 90)
	var err error
	config := durableConfig(d.hook.fs(), d.clock)
	config.Disk.BlobBytes = []uint64{100, 5000, 0}[r.rng.IntN(3)]
	if d.e, err = New(config); err != nil {
		return nil, fmt.Errorf("does not start: %w", err)
	}
	d.o = &observer{e: d.e, ids: map[place]uint64{}}
	first := d.o.state()
	if from != nil {
		if err := from.w.check(first); err != nil {
			return nil, err
		}
	}
	d.l = newLedger(first)
	d.hook.mu.Lock()
	d.hook.l, d.hook.crashes = d.l, nil
	d.hook.mu.Unlock()
	return d, d.o.bad
}

// work does that many operations.
func (d *driver) work(operations int) error {
	for range operations {
		d.l.mu.Lock()
		d.l.op = len(d.l.states)
		d.l.mu.Unlock()
		answered := d.step()
		d.l.notes = append(d.l.notes, d.note)
		d.settle()
		s := d.o.state()
		d.l.mu.Lock()
		d.l.states = append(d.l.states, s)
		if answered {
			d.l.floor = d.l.op
		}
		op := d.l.op
		d.l.mu.Unlock()
		if d.o.bad != nil {
			return fmt.Errorf("operation %d: %w", op, d.o.bad)
		}
		if err := d.e.Err(); err != nil {
			return err
		}
		if d.rng.IntN(8) == 0 {
			if err := d.e.settled(); err != nil {
				return err
			}
			d.l.mu.Lock()
			d.l.floor, d.l.deliveredFloor = op, op
			d.l.mu.Unlock()
		}
		d.r.tally.operations++
	}
	return nil
}

// settle waits until nothing is under way in the background, and reads what has
// been sent. Reading makes room, so that there may be more.
func (d *driver) settle() {
	for busy := true; busy; {
		busy = false
		for _, q := range d.e.allQueues() {
			q.mu.Lock()
			if q.fetching || q.m.MovingCount() > q.m.ParkedCount() {
				busy = true
				d.r.tally.fetched++
			}
			q.mu.Unlock()
		}
		for _, s := range []*crashClient{d.pub, d.take, d.tx} {
			if s != nil && s.read() {
				busy = true
			}
		}
		runtime.Gosched()
	}
}

// end takes a last copy, and closes the engine in order or lets it go.
func (d *driver) end() []crash {
	d.hook.mu.Lock()
	d.hook.take()
	d.hook.mu.Unlock()
	if d.rng.IntN(3) > 0 {
		d.e.Abandon()
		return d.hook.crashes
	}
	d.r.tally.closes++
	d.l.mu.Lock()
	d.l.op = len(d.l.states)
	d.l.mu.Unlock()
	for _, s := range []*crashClient{d.pub, d.take, d.tx} {
		if s != nil {
			s.c.Close()
		}
	}
	last := d.o.state()
	d.l.mu.Lock()
	d.l.states = append(d.l.states, last)
	d.l.mu.Unlock()
	if err := d.e.Close(); err != nil {
		panic(err)
	}
	d.l.mu.Lock()
	d.l.floor, d.l.deliveredFloor = d.l.op, d.l.op
	d.l.mu.Unlock()
	d.hook.mu.Lock()
	defer d.hook.mu.Unlock()
	d.hook.take()
	d.hook.crashes[len(d.hook.crashes)-1].how += ", after the end"
	return d.hook.crashes
}

func (d *driver) connect(s **crashClient) *crashClient {
	if *s == nil {
		c, err := d.e.Open("/", ConnInfo{User: "guest", FrameMax: 131072, CancelNotify: true})
		if err != nil {
			panic(err)
		}
		*s = &crashClient{d: d, c: c}
		(*s).reopen()
	}
	return *s
}

// reopen begins a new channel.
func (s *crashClient) reopen() {
	if s.ch != nil {
		s.ch.Close()
	}
	s.read()
	s.tags, s.numbers, s.done, s.inTx, s.ended = nil, nil, 0, nil, nil
	s.ch = s.c.OpenChannel(1)
	s.ch.Qos(5, false)
	switch s {
	case s.d.tx:
		s.ch.SelectTx()
	case s.d.pub:
		s.ch.SelectConfirm()
	}
}

// ok reopens the channel after an error.
func (s *crashClient) ok(err *wire.Error) bool {
	if err != nil {
		s.reopen()
	}
	return err == nil
}

// read takes what the broker has sent, and reports whether that was anything.
func (s *crashClient) read() (any bool) {
	for ; ; any = true {
		s.c.Out.mu.Lock()
		empty := len(s.c.Out.buf) == 0
		s.c.Out.mu.Unlock()
		if empty {
			return any
		}
		b, done, ok := turn(s.c.Out)
		if !ok {
			return any
		}
		list, err := parse(b)
		if err != nil {
			panic(err)
		}
		if done() {
			s.c.Refill()
		}
		for _, m := range list {
			s.receive(m.method)
		}
	}
}

func (s *crashClient) receive(m wire.Method) {
	switch m := m.(type) {
	case *wire.BasicDeliver:
		s.tags = append(s.tags, m.DeliveryTag)
	case *wire.BasicGetOk:
		s.tags = append(s.tags, m.DeliveryTag)
	case *wire.BasicAck:
		s.confirm(m.DeliveryTag, m.Multiple, true)
	case *wire.BasicNack:
		s.confirm(m.DeliveryTag, m.Multiple, false)
	}
}

func (s *crashClient) confirm(number uint64, multiple, ack bool) {
	l := s.d.l
	l.mu.Lock()
	defer l.mu.Unlock()
	from := number
	if multiple {
		from = uint64(s.done) + 1
	}
	for n := from; n <= number && ack && n <= uint64(len(s.numbers)); n++ {
		l.confirmed = append(l.confirmed, s.numbers[n-1])
		s.d.r.tally.confirmed++
	}
	s.done = int(number)
}

// publish sends one message with a body made of its id.
func (s *crashClient) publish(exchange, key string, expiration string, mandatory bool) *wire.Error {
	d := s.d
	bytes := 8 + d.rng.IntN(300)
	if d.rng.IntN(16) == 0 {
		bytes = d.rng.IntN(250_000) + 8
	}
	return s.send(exchange, key, expiration, mandatory, d.rng.IntN(5) > 0, bytes)
}

func (s *crashClient) send(exchange, key, expiration string, mandatory, persistent bool, bytes int) *wire.Error {
	d := s.d
	d.lastID++
	id := d.lastID << 2
	props := wire.Properties{Flags: wire.FlagDeliveryMode | wire.FlagPriority, DeliveryMode: 1, Priority: uint8(d.rng.IntN(5))}
	if persistent || exchange == "" && (key == "limit" || key == "sure") {
		id |= idPersistent
		props.DeliveryMode = 2
	}
	if exchange != "" {
		id |= idSpread
	}
	if expiration != "" {
		props.Flags |= wire.FlagExpiration
		props.Expiration = expiration
	}
	rec := message.Build(nil, exchange, key, props.AppendTo(nil), crashBody(id, bytes), 131072)
	d.l.mu.Lock()
	d.l.published[id] = d.l.op
	d.l.mu.Unlock()
	if err := publishRecord(s.ch, rec, mandatory); err != nil {
		return err
	}
	d.r.tally.published++
	switch s {
	case d.pub:
		s.numbers = append(s.numbers, id)
	case d.tx:
		s.inTx = append(s.inTx, id)
	}
	return nil
}
