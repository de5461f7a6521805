package engine

import (
	"sync"
	"time"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
)

// janitor keeps the data directory small and watches the free space: it gives up
// log files once nothing in them is needed, and when much of the log is dead moves
// what is left in the emptiest one to the end of the log.
type janitor struct {
	e          *Engine
	watch      *diskWatch
	slackBytes int64
	indexBytes int64 // budget
	w          worker
	// stuck are the files with a message that cannot be read: they stay.
	stuck         map[uint32]bool
	reserveFailed bool // and that has been logged

	mu      sync.Mutex
	stop    func() bool
	closed  bool
	running sync.WaitGroup
}

const (
	janitorInterval = time.Second
	// janitorFirst after the start, what is kept back for a full disk is made.
	janitorFirst = 100 * time.Millisecond
	// janitorHurry is for a disk that is full: publishers wait for what it frees.
	janitorHurry = 100 * time.Millisecond
	// compactSlackBytes: below this much dead log nothing is moved.
	compactSlackBytes = 1 << 30
	// moveBatch is how many messages one step of a move looks at.
	moveBatch = 256
)

func newJanitor(e *Engine, c *DiskConfig) *janitor {
	j := &janitor{e: e, watch: newDiskWatch(e, c.MinFreeBytes), slackBytes: c.CompactSlackBytes, indexBytes: c.IndexBytes, w: newWorker(e), stuck: map[uint32]bool{}}
	if j.slackBytes == 0 {
		j.slackBytes = compactSlackBytes
	}
	if j.indexBytes == 0 {
		j.indexBytes = defaultIndexBytes
	}
	j.stop = func() bool { return false }
	return j
}

// start lets the janitor work by itself.
func (j *janitor) start() {
	j.watch.start()
	j.schedule(janitorFirst)
}

// schedule has the janitor work once the interval is over, and again and again.
func (j *janitor) schedule(interval time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	j.running.Add(1)
	t := time.AfterFunc(interval, func() {
		defer j.running.Done()
		j.round()
		next := janitorInterval
		if j.e.alarm.disk.Load() {
			next = janitorHurry
		}
		j.schedule(next)
	})
	j.stop = t.Stop
}

func (j *janitor) close() {
	j.mu.Lock()
	j.closed = true
	if j.stop() {
		j.running.Done()
	}
	j.mu.Unlock()
	j.running.Wait()
	j.watch.close()
}

func (j *janitor) ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// round does what there is to do.
func (j *janitor) round() {
	j.watch.look()
	if j.e.Err() != nil {
		return
	}
	j.e.spill()
	j.e.arena.TidyScratch()
	// An error is that the log has stopped, which others tell.
	_ = j.e.disk.SweepBlobs()
	if !j.e.alarm.disk.Load() { // what little space there is, is for others
		j.e.spillIndex(j.indexBytes)
		j.tidyPages()
	}
	if j.checkpointDue() {
		if err := j.e.checkpointAnyway(j.ended); err != nil {
			j.e.logger.Warn("no checkpoint; the next start takes longer", "error", err)
		}
	}
	j.dropUnused()
	j.e.disk.Tidy()
	j.keepReserve()
	if number, ok := j.worthMoving(); ok {
		j.empty(number)
	}
}

// checkpointDue tells whether so much has been logged since the last checkpoint
// that another one is worth its cost: a start reads at most that much log, and
// what checkpoints write stays below half of what the log does.
// While the disk is full it is worth it if it frees more than it takes.
func (j *janitor) checkpointDue() bool {
	if j.e.alarm.disk.Load() && j.freeable() > j.checkpointBytes() {
		return true
	}
	return j.e.disk.Written()-j.e.checkpointed.Load() >= j.checkpointDueBytes()
}

func (j *janitor) checkpointDueBytes() int64 {
	return max(checkpointEveryBytes, 2*j.e.disk.CheckpointBytes())
}

// checkpointEveryBytes is the least log between two checkpoints.
const checkpointEveryBytes = 64 << 20

// dropUnused gives up the log files that nothing refers to and that a start does
// not read.
func (j *janitor) dropUnused() {
	d := j.e.disk
	for _, f := range d.Use() {
		if j.ended() || f.Refs > 0 || !d.Below(f.Number) {
			continue
		}
		// What made it unreferenced may not be on the disk yet: losing that, but
		// not the file, would bring back references into nothing.
		if d.WaitDurable(d.End()) != nil {
			return
		}
		if err := d.Drop(f.Number); err != nil {
			j.e.logger.Warn("a log file that is not needed stays", "error", err)
			return
		}
	}
}

func definitionsOf(vh *VHost) (defs []store.Definition) {
	for _, x := range vh.top.Exchanges() {
		if x.Durable && !topology.Predeclared(x.Name) {
			defs = append(defs, exchangeDefinition(vh, x))
		}
	}
	for _, q := range vh.top.Queues() {
		if q.Durable {
			defs = append(defs, queueDefinition(vh, q))
		}
	}
	for _, b := range vh.top.Bindings() {
		if b.Source != "" && durableBinding(vh.top, b) {
			defs = append(defs, bindingDefinition(store.Bound, vh, b))
		}
	}
	return defs
}

// worthMoving tells whether so much of the log is dead that the survivors of a
// file should move, and of which: the one with the least in it.
func (j *janitor) worthMoving() (number uint32, ok bool) {
	var total, live, least int64
	for _, f := range j.e.disk.Use() {
		if j.stuck[f.Number] {
			continue
		}
		total += f.Bytes
		live += f.LiveBytes
		// Without references it waits for a checkpoint only.
		if f.Refs > 0 && (!ok || f.LiveBytes < least) {
			number, least, ok = f.Number, f.LiveBytes, true
		}
	}
	return number, ok && total > 2*live+j.slack(least)
}

// empty appends a copy of every message in a file that is still needed, and lets
// the queues refer to the copies. The file goes with the next round.
func (j *janitor) empty(number uint32) {
	j.warmWhere(func(c *queue.Cold) bool { return !c.Lost && store.RefersTo(c, number) })
	for _, q := range j.e.allQueues() {
		var at queue.Cursor
		for more := true; more && !j.ended(); {
			var list []queue.Held
			q.mu.Lock()
			more = !q.dead && q.m.Walk(&at, func(h queue.Held) {
				if r := store.Ref(h.Entry.Ref); r.OnDisk() && r.File() == number {
					list = append(list, h)
				}
			})
			q.mu.Unlock()
			for len(list) > 0 {
				n := min(len(list), moveBatch)
				j.move(q, list[:n])
				list = list[n:]
			}
		}
	}
}

// move moves some messages of one queue.
func (j *janitor) move(q *Queue, list []queue.Held) {
	d := j.e.disk
	if d.WaitRoom() != nil {
		return
	}
	for _, h := range list {
		ref := store.Ref(h.Entry.Ref)
		if err := d.LoadRecord(ref); err != nil {
			if d.Err() != nil {
				return
			}
			j.stuck[ref.File()] = true
			j.e.logger.Error("a message cannot be moved and keeps its log file", "queue", q.def.Name, "error", err)
			continue
		}
		q.mu.Lock()
		if old, ok := d.Message(ref); ok && !q.dead && q.m.Holds(h.Seq, h.Entry.Ref) {
			p := store.Published{Flags: logFlags(h.Entry.Flags), Priority: h.Priority, Time: j.w.e.now(), TTLMillis: -1, Message: old}
			p.Time, p.TTLMillis = movedDeadline(h, p.Time)
			var blob *store.Blob
			if ref.Large() {
				if blob = d.Blob(ref); blob == nil {
					// It is lost; see Disk.Load.
					j.stuck[ref.File()] = true
					q.mu.Unlock()
					continue
				}
			}
			g := d.Reserve(1, store.PublishedBytes(1, len(old), blob), false)
			b, at := g.Publish(&p, 1, 1, blob)
			// A queue that is not durable needs the body too, but not after a start.
			store.PutQueue(b, 0, q.id, h.Seq, q.def.Durable, h.Tries.Returned)
			g.Done()
			q.m.Moved(h.Seq, uint64(at))
			d.Release(ref, 1)
		}
		q.mu.Unlock()
	}
}

// movedDeadline writes a deadline as an enqueue time and a time to live.
func movedDeadline(h queue.Held, now queue.Time) (queue.Time, int64) {
	if h.Deadline == queue.Never {
		return now, -1
	}
	// Counted from the deadline itself, so that nothing is rounded.
	return h.Deadline, 0
}

func seglogLSN[P ~uint64](p P) seglog.LSN { return seglog.LSN(p) }
