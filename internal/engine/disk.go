package engine

import (
	"fmt"
	"time"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
)

// DiskConfig says where an engine keeps what has to survive.
type DiskConfig struct {
	FS  vfs.FS
	Dir string
	// FileBytes is the size of a log file, ResidentBytes bounds the bodies kept in
	// memory besides being on the disk; 0 means the log's own defaults.
	FileBytes     int64
	ResidentBytes int64
	// MinFreeBytes is the free space below which publishers are blocked.
	MinFreeBytes uint64
	// CompactSlackBytes is how much of the log has to be dead before messages are
	// moved out of its oldest file; 0 means 1 GiB.
	CompactSlackBytes int64
	// IndexBytes bounds the memory in queues' indexes; 0 means 64 MiB.
	IndexBytes int64
	// BlobBytes is the size from which on persistent bodies have files of their own;
	// 0 means 256 KiB. Smaller in tests.
	BlobBytes uint64
	// HandJanitor leaves it to a test to call the janitor.
	HandJanitor bool
	// OnFailure hears that the disk has failed: nothing is confirmed any more,
	// and the owner has to close everything.
	OnFailure func(error)
}

// openDisk recovers what the data directory holds and goes on from there.
func (e *Engine) openDisk(c Config) error {
	if e.blobBytes = c.Disk.BlobBytes; e.blobBytes == 0 {
		e.blobBytes = blobBytes
	}
	r := &restorer{e: e, queues: make(map[queue.ID]*Queue), now: e.now()}
	e.recovering = true
	defer func() { e.recovering = false }()
	for _, vh := range e.vhosts {
		vh.top.Rebuild(true)
	}
	disk, report, err := store.OpenDisk(store.DiskConfig{
		FS: c.Disk.FS, Dir: c.Disk.Dir, FileBytes: c.Disk.FileBytes, ResidentBytes: c.Disk.ResidentBytes,
		OnDurable: func(seglog.LSN) { e.releaseConfirms() },
		OnFailure: func(err error) {
			e.failed.CompareAndSwap(nil, &err)
			if c.Disk.OnFailure != nil {
				c.Disk.OnFailure(err)
			}
		},
		Logger: c.Logger, Now: func() time.Time { return time.Unix(0, int64(e.now())) },
	}, r)
	if err != nil {
		return err
	}
	e.disk = disk
	e.openScratch(c)
	e.continueTime(report.LastTimeMillis)
	r.now = e.now()
	messages := r.finish()
	if !report.Fresh {
		e.logger.Info("recovered", "queues", len(r.queues), "messages", messages, "records", report.Records,
			"clean_shutdown", report.Clean, "torn_tail_bytes", report.CutBytes, "written_again", report.Reappended)
	}
	e.afterReplay(report, c.Disk)
	return nil
}

// afterReplay starts the janitor. What was read counts as logged since the last
// checkpoint, for it will be read again: else a broker that lives for a short
// while, again and again, would never make one.
func (e *Engine) afterReplay(report *seglog.Report, c *DiskConfig) {
	e.checkpointed.Store(-report.ReadBytes)
	if report.Records > longReplayRecords {
		e.checkpointed.Store(-1 << 60) // due at once: small records take long
	}
	e.janitor = newJanitor(e, c)
	if replayTooLong(report, e.janitor.checkpointDueBytes()) {
		// It has been due for long, and no life was long enough.
		e.logger.Info("a checkpoint before anything else: much of the log had to be read", "bytes", report.ReadBytes, "files", report.ReadFiles)
		if err := e.checkpointAnyway(func() bool { return false }); err != nil {
			e.logger.Warn("no checkpoint; the next start takes longer", "error", err)
		}
		e.janitor.dropUnused()
	}
	if !c.HandJanitor {
		e.janitor.start()
	}
}

// replayTooLong tells whether a start has had so much to read that the broker must
// not serve before the next one has less: twice of what makes a checkpoint due, or
// the files of many starts.
func replayTooLong(report *seglog.Report, dueBytes int64) bool {
	return report.ReadBytes > 2*dueBytes || report.ReadFiles > longReplayFiles
}

const (
	// longReplayRecords is how many records a start may read before it makes a
	// checkpoint of its own.
	longReplayRecords = 200_000
	// longReplayFiles is the same for log files, of which each start makes one.
	longReplayFiles = 64
)

// Err is why the engine has failed, nil if it has not.
func (e *Engine) Err() error {
	if err := e.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// record is the record at a reference; ok is false if it is on the disk only.
func (e *Engine) record(r store.Ref) (message.Record, bool) {
	if r.OnDisk() {
		b, ok := e.disk.Message(r)
		return b, ok
	}
	return e.arena.Record(r)
}

// resident is the machines' question whether a body is in memory.
func (e *Engine) resident(ref uint64) bool {
	if r := store.Ref(ref); r.OnDisk() {
		return e.disk.Resident(r)
	}
	return e.arena.Resident(store.Ref(ref))
}

// load brings a record into memory. It blocks on the disk. An error says that the
// record cannot be read.
func (e *Engine) load(r store.Ref) error {
	if r.OnDisk() {
		return e.disk.Load(r)
	}
	return e.arena.Load(r)
}

// loadRecord is load for those who do not need a body that is in a blob.
func (e *Engine) loadRecord(r store.Ref) error {
	if r.OnDisk() {
		return e.disk.LoadRecord(r)
	}
	return e.arena.Load(r)
}

// fetch brings the message at the head of a queue into memory, or its page of the
// index, on a goroutine of its own, and lets the queue go on. Called with q.mu held.
func (e *Engine) fetch(q *Queue, ref store.Ref, page bool) {
	if q.fetching {
		return
	}
	q.fetching = true
	e.background.Go(func() {
		var err error
		if page {
			e.bringPages(q)
		} else {
			err = e.load(ref)
		}
		w := newWorker(e)
		w.begin(e.now())
		q.mu.Lock()
		q.fetching = false
		// A log that has stopped says nothing about its messages.
		if !q.dead && e.disk.Err() == nil {
			if err != nil {
				e.setAside(q, ref, err)
			}
			if page {
				q.m.Requeued(w.now, &w.out) // what waited for it may have been a limit or a deadline
			} else {
				q.m.Dispatch(w.now, &w.out)
			}
			w.carry(q)
		}
		q.mu.Unlock()
		w.finish()
	})
}

// setAside takes a message that cannot be read out of the way of those behind
// it. It is not dropped: it stays in the queue, out with nobody, and a restart
// tries again. Called with q.mu held.
func (e *Engine) setAside(q *Queue, ref store.Ref, err error) {
	if q.m.SetAside(uint64(ref)) {
		e.logger.Error("a message cannot be read and is set aside", "queue", q.def.Name, "vhost", q.vh.name, "error", err)
	}
}

// Flags of a publish record.
const (
	logBCC = 1 << iota
	logDead
	logRedelivered
	logOneKey
)

func logFlags(f queue.Flags) (b uint8) {
	if f&flagBCC != 0 {
		b |= logBCC
	}
	if f&flagDead != 0 {
		b |= logDead
	}
	if f&queue.Redelivered != 0 {
		b |= logRedelivered
	}
	if f&flagOneKey != 0 {
		b |= logOneKey
	}
	return b
}

func entryFlags(b uint8) queue.Flags {
	f := queue.Persistent
	if b&logBCC != 0 {
		f |= flagBCC
	}
	if b&logDead != 0 {
		f |= flagDead
	}
	if b&logRedelivered != 0 {
		f |= queue.Redelivered
	}
	if b&logOneKey != 0 {
		f |= flagOneKey
	}
	return f
}

// restorer rebuilds queues and topology from the log.
type restorer struct {
	e      *Engine
	disk   store.Recovery
	queues map[queue.ID]*Queue
	now    queue.Time
	image  queue.Image
	pages  []queue.ColdPage
}

func (r *restorer) seen(id queue.ID) *Queue {
	r.e.lastQueueID.Store(max(r.e.lastQueueID.Load(), uint64(id)))
	return r.queues[id]
}

// Begin implements store.Restorer.
func (r *restorer) Begin(d store.Recovery) { r.disk = d }

// warm brings the pages that a fact is about into memory.
func (r *restorer) warm(q *Queue, from, to queue.Seq) error {
	r.pages = q.m.ColdIn(from, to, r.pages[:0])
	for _, at := range r.pages {
		if err := r.disk.LoadPage(q.id, at, &r.image); err != nil {
			return fmt.Errorf("the index of queue %q in virtual host %q: %w", q.def.Name, q.vh.name, err)
		}
		q.m.Warm(at, &r.image)
		r.disk.FreePage(at.Cold)
	}
	return nil
}

// Publish implements store.Restorer.
func (r *restorer) Publish(p *store.Published, at store.Ref) (references int, err error) {
	e := queue.Entry{Ref: uint64(at), BodyBytes: uint32(message.Record(p.Message).BodyBytes()), Flags: entryFlags(p.Flags)}
	if at.Large() {
		e.Flags |= queue.Pinned
	}
	p.Queues(func(id queue.ID, seq queue.Seq, count uint32) {
		q := r.seen(id)
		if q == nil || err != nil {
			return
		}
		if err = r.warm(q, seq, seq); err != nil {
			return
		}
		if !q.m.Restore(seq, e, p.Time, p.TTLMillis, count) {
			// There already: this copy is from a compaction that ended in a crash.
			old, ok := q.m.RestoreMoved(seq, uint64(at))
			if !ok {
				return
			}
			r.disk.Release(store.Ref(old), 1)
		}
		references++
	})
	return references, err
}

// Fact implements store.Restorer.
func (r *restorer) Fact(id queue.ID, f queue.Fact) error {
	q := r.seen(id)
	if q == nil {
		return nil
	}
	if err := r.warm(q, f.Seq, f.To); err != nil {
		return err
	}
	switch f.Kind {
	case queue.Settled:
		q.m.RestoreSettled(f.Seq, f.To, func(e queue.Entry) { r.disk.Release(store.Ref(e.Ref), 1) })
	case queue.Delivered:
		q.m.RestoreDelivered(f.Seq, f.To)
	case queue.Returned:
		q.m.RestoreReturned(f.Seq, f.Tries)
	case queue.Died:
		q.m.RestoreDied(f.Seq, f.Reason)
	}
	return nil
}

// Tails implements store.Restorer.
func (r *restorer) Tails(id queue.ID, tails []uint64) {
	if q := r.seen(id); q != nil {
		q.m.RestoreTails(tails)
	}
}

// Page implements store.Restorer.
func (r *restorer) Page(id queue.ID, img *queue.Image) bool {
	q := r.seen(id)
	return q != nil && q.m.RestoreImage(img)
}

// ColdPage implements store.Restorer.
func (r *restorer) ColdPage(id queue.ID, at queue.ColdPage) bool {
	q := r.seen(id)
	return q != nil && q.m.RestoreCold(at)
}

// finish opens the queues for work and returns how many messages they hold.
func (r *restorer) finish() (messages int) {
	var out queue.Output
	for _, q := range r.queues {
		q.m.Restored(r.now, &out)
		if len(out.Facts) > 0 {
			r.e.disk.Facts(q.id, out.Facts)
		}
		for _, e := range out.Released {
			r.e.disk.Release(store.Ref(e.Ref), 1)
		}
		out.Reset()
		q.m.Resident = r.e.resident
		messages += q.m.ReadyCount()
		q.mu.Lock()
		q.rearm(r.e)
		q.mu.Unlock()
	}
	for _, vh := range r.e.vhosts {
		vh.top.Rebuild(false)
		vh.changed()
	}
	return messages
}

func errDefinition(d *store.Definition, err error) error {
	return fmt.Errorf("the data directory defines %q in virtual host %q: %w", d.Name, d.VHost, err)
}
