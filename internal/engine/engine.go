package engine

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/session"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// Config is what an engine needs to know.
type Config struct {
	VHosts []string
	// MemoryLimitBytes is where the memory alarm rises; 0 means none.
	MemoryLimitBytes int64
	// Disk is where persistent messages and durable definitions are kept; nil
	// keeps everything in memory.
	Disk   *DiskConfig
	Clock  Clock        // nil: SystemClock
	Logger *slog.Logger // nil: discarded
}

// Engine is a broker without its sockets. Two engines share nothing.
type Engine struct {
	clock   Clock
	logger  *slog.Logger
	arena   *store.Arena
	disk    *store.Disk     // nil without a data directory
	memory  store.MemoryLog // positions without one
	holding atomic.Bool     // a test holds the confirms
	janitor *janitor        // nil without a data directory
	// blobBytes is the size from which on persistent bodies go to blobs; uploads is
	// how many are on their way there.
	blobBytes uint64
	uploads   atomic.Int64
	// checkpointed is what the log had written when the last checkpoint began.
	checkpointed atomic.Int64
	failed       atomic.Pointer[error]
	timers       *timers
	alarm        *alarm
	replies      replies

	mu     sync.RWMutex
	vhosts map[string]*VHost
	conns  map[*Conn]struct{}

	// recovering, while the data directory is read: no queue is armed, because what
	// its timer finds is not what will be there.
	recovering bool

	started time.Time
	// timeBase is what now was at started, in Unix nanoseconds.
	timeBase atomic.Int64
	churn    churn
	// minFreeDisk is where the disk alarm rises, in bytes.
	minFreeDisk uint64
	dir         string // the data directory

	lastQueueID atomic.Uint64
	lastConnID  atomic.Uint64
	waitingMu   sync.Mutex
	waiting     map[*Channel]struct{} // channels with confirms that await a position
	sweeping    atomic.Bool
	background  sync.WaitGroup // goroutines that Close waits for
}

// VHost is one virtual host: its topology behind a lock. Queue machines have
// locks of their own and are reached through topology.Queue.Runtime.
type VHost struct {
	name  string
	mu    sync.RWMutex
	top   *topology.VHost
	epoch atomic.Uint64 // top.Epoch, readable without the lock

	e       *Engine
	totals  tallies
	traffic traffic // bytes only
	meter   sharedMeter
}

// New starts an engine. With a data directory it recovers what is there. Close
// ends it.
func New(c Config) (*Engine, error) {
	e := &Engine{
		clock: c.Clock, logger: c.Logger,
		arena:   store.NewArena(),
		vhosts:  make(map[string]*VHost),
		conns:   make(map[*Conn]struct{}),
		waiting: make(map[*Channel]struct{}),
	}
	if e.clock == nil {
		e.clock = SystemClock{}
	}
	if e.logger == nil {
		e.logger = slog.New(slog.DiscardHandler)
	}
	e.started = e.clock.Now()
	e.timeBase.Store(e.started.UnixNano())
	e.timers = newTimers(e)
	e.alarm = newAlarm(e, c.MemoryLimitBytes)
	e.replies.byToken = make(map[string]*Channel)
	for _, name := range c.VHosts {
		e.vhosts[name] = &VHost{e: e, name: name, top: topology.NewVHost(name)}
		e.vhosts[name].epoch.Store(e.vhosts[name].top.Epoch())
	}
	if c.Disk != nil {
		e.minFreeDisk, e.dir = c.Disk.MinFreeBytes, c.Disk.Dir
		e.timers.hold()
		err := e.openDisk(c)
		e.timers.release(err == nil)
		if err != nil {
			e.timers.close()
			return nil, err
		}
	}
	return e, nil
}

// Close stops the timers and, with a data directory, writes what is left and
// marks it as shut down in order. Connections are closed by their owners before.
func (e *Engine) Close() error {
	e.stop()
	if e.disk == nil {
		return nil
	}
	if e.Err() == nil && e.disk.Written()-e.checkpointed.Load() >= closeCheckpointBytes {
		if err := e.checkpoint(func() bool { return false }); err != nil {
			e.logger.Warn("no checkpoint; the next start takes longer", "error", err)
		}
	}
	e.arena.CloseScratch(true) // before the directory may have another owner
	return e.disk.Close()
}

// closeCheckpointBytes is how much log the next start may have to read without a
// checkpoint at the end of this run.
const closeCheckpointBytes = 16 << 20

// Freeze stops all writing at once, as a crash would: what happens after it is
// lost. Abandon ends the engine then.
func (e *Engine) Freeze() {
	if e.disk != nil {
		e.disk.Abandon()
	}
}

// Abandon ends the engine without writing anything more.
func (e *Engine) Abandon() {
	e.Freeze()
	e.stop()
	e.arena.CloseScratch(false)
}

func (e *Engine) stop() {
	e.timers.close()
	e.alarm.close()
	if e.janitor != nil {
		e.janitor.close()
	}
	e.background.Wait()
}

// HoldConfirms keeps every confirm back until ReleaseConfirms, as a disk that
// does not answer would.
func (e *Engine) HoldConfirms() { e.holding.Store(true) }

// ReleaseConfirms ends HoldConfirms.
func (e *Engine) ReleaseConfirms() {
	e.holding.Store(false)
	e.releaseConfirms()
}

// durable is the position up to which confirms may leave.
func (e *Engine) durable() session.Position {
	switch {
	case e.holding.Load():
		return 0
	case e.disk != nil:
		return session.Position(e.disk.Durable())
	}
	return e.memory.End()
}

// mark is a position that nothing durable has reached while confirms are held,
// and that is reached after.
func (e *Engine) mark() session.Position {
	if e.disk != nil {
		return session.Position(e.disk.End())
	}
	return e.memory.Append()
}

// now is the time that deadlines are counted in: that of the wall at the start, or
// what the log says (see continueTime), and from there on what has passed. Setting
// the clock while the engine runs changes nothing.
func (e *Engine) now() queue.Time {
	return queue.Time(e.timeBase.Load() + int64(e.clock.Now().Sub(e.started)))
}

// vhost returns the virtual host of that name, nil if there is none.
func (e *Engine) vhost(name string) *VHost {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.vhosts[name]
}

// HasVHost tells whether there is a virtual host of that name.
func (e *Engine) HasVHost(name string) bool { return e.vhost(name) != nil }

// changed publishes the epoch after a change of the topology. Called with vh.mu
// held for writing.
func (vh *VHost) changed() { vh.epoch.Store(vh.top.Epoch()) }

// releaseConfirms sends what may be confirmed by now.
func (e *Engine) releaseConfirms() { e.releaseUpTo(e.durable()) }

// releaseUpTo sends what waits for positions up to durable.
func (e *Engine) releaseUpTo(durable session.Position) {
	e.waitingMu.Lock()
	chs := make([]*Channel, 0, len(e.waiting))
	for ch := range e.waiting {
		chs = append(chs, ch)
	}
	clear(e.waiting)
	e.waitingMu.Unlock()
	for _, ch := range chs {
		e.releaseOrAwait(ch, durable)
	}
}

// releaseOrAwait sends what waits for positions up to durable, and puts a channel
// with later publishes on the list for releaseConfirms. Put there first, looked at
// second: a sync that ends in between has either seen the channel there or is seen
// here. What is left decides, not the position of the last run: that may have had
// nothing to write and wait for an earlier one, and HoldConfirms takes back what
// was durable a moment ago.
func (e *Engine) releaseOrAwait(ch *Channel, durable session.Position) {
	for ch.releaseConfirms(durable) {
		e.waitingMu.Lock()
		e.waiting[ch] = struct{}{}
		e.waitingMu.Unlock()
		now := e.durable()
		if now <= durable {
			return
		}
		durable = now
	}
}

// deleteUnused deletes a queue whose last consumer left, or that expired,
// unless it is in use again.
func (e *Engine) deleteUnused(w *worker, q *Queue, idle bool) {
	vh := q.vh
	vh.mu.Lock()
	q.mu.Lock()
	inUse := q.dead || q.m.ConsumerCount() > 0 || idle && !q.m.Idle(w.now)
	if inUse {
		q.rearm(e)
		q.mu.Unlock()
		vh.mu.Unlock()
		return
	}
	e.buryQueue(w, vh, q)
	q.mu.Unlock()
	vh.mu.Unlock()
}

// buryQueue deletes a queue from the topology and releases what it holds.
// Called with vh.mu and q.mu held. It returns the number of ready messages and
// the consumers that were on it.
func (e *Engine) buryQueue(w *worker, vh *VHost, q *Queue) (ready int, gone []*queue.Consumer) {
	_, exchanges := vh.top.DeleteQueue(q.def.Name)
	vh.changed()
	q.dead = true
	e.churn.queuesDeleted.Add(1)
	e.defineQueueGone(q.def)
	e.defineExchangesGone(vh, exchanges)
	e.timers.disarm(q)
	gone = append(gone, q.m.Consumers()...)
	ready = q.m.Close(&w.out)
	w.carry(q)
	return ready, gone
}

// ServerName makes a name for what a client did not name: prefix and 22 random
// characters, as RabbitMQ's amq.gen- and amq.ctag- names.
func ServerName(prefix string) string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// sortQueues puts queues in the order in which they are locked. Routing gives
// each queue once.
func sortQueues(qs []*Queue) {
	slices.SortFunc(qs, func(a, b *Queue) int { return cmp.Compare(a.id, b.id) })
}

// lockAll locks queues that sortQueues has sorted.
func lockAll(qs []*Queue) {
	for _, q := range qs {
		q.mu.Lock()
	}
}

func unlockAll(qs []*Queue) {
	for _, q := range qs {
		q.mu.Unlock()
	}
}

// ErrNoVHost is the error for a virtual host that is not there.
func ErrNoVHost(name string) *wire.Error {
	return wire.ConnectionError(wire.NotAllowed, "vhost %s not found", name)
}
