package store

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
)

// diskRef marks a Ref that is a place in the log; the rest of it is the place.
const diskRef Ref = 1 << 63

// blobRef marks a place in the log whose record has its body in a blob. No file
// is so large that an offset needs this bit.
const blobRef Ref = 1 << 35

// OnDisk tells whether the record stands in the log.
func (r Ref) OnDisk() bool { return r&diskRef != 0 }

// Large tells whether the body of the record is in a blob.
func (r Ref) Large() bool { return r&(diskRef|blobRef) == diskRef|blobRef }

func (r Ref) place() seglog.Place { return seglog.Place(r &^ (diskRef | blobRef)) }

// refAt is the Ref of a record in the log.
func refAt(p seglog.Place) Ref { return diskRef | Ref(p) }

// File is the number of the log file that holds the record.
func (r Ref) File() uint32 { return r.place().File() }

// DiskConfig is what a Disk needs. FS and Dir are required.
type DiskConfig struct {
	FS            vfs.FS
	Dir           string
	FileBytes     int64 // 0: seglog's default; smaller in tests
	ResidentBytes int64 // bodies kept in memory, 0: seglog's default
	OnDurable     func(seglog.LSN)
	OnFailure     func(error)
	Logger        *slog.Logger
	Now           func() time.Time
}

// Disk keeps facts and bodies in a log. Its methods are safe for concurrent use.
type Disk struct {
	log    *seglog.Log
	cfg    DiskConfig
	filesM sync.Mutex
	files  atomic.Pointer[[]*fileRefs] // index is the file number
	image  queue.Image                 // while a checkpoint is read
	pages  pageFiles
	blobs  *blobs
	// checkpoints is the number of the last one begun in this run; under filesM.
	checkpoints int
}

// fileRefs counts what still refers into a log file.
type fileRefs struct {
	refs  atomic.Int64 // messages of queues
	bytes atomic.Int64 // of all records ever placed there
	total atomic.Int64 // references ever placed there
}

// Restorer takes what recovery reads, in the order it happened. What it is told
// of queues it does not know, it ignores: they have been deleted.
type Restorer interface {
	// Begin comes first. The disk can do what Recovery offers, and nothing else yet.
	Begin(d Recovery)
	// Publish puts a message back into its queues. at is where it stands. It
	// returns how many took it: the references to at.
	Publish(p *Published, at Ref) (references int, err error)
	// Fact takes what happened to messages of a queue.
	Fact(q queue.ID, f queue.Fact) error
	// Define takes a definition.
	Define(d *Definition) error
	// Tails, Page and ColdPage are a queue's index from a checkpoint. The latter
	// two report whether it was taken; the image is the caller's.
	Tails(q queue.ID, tails []uint64)
	Page(q queue.ID, img *queue.Image) bool
	ColdPage(q queue.ID, at queue.ColdPage) bool
}

// Recovery is what a Restorer needs of the disk.
type Recovery interface {
	// Release drops references into a log file, ReleasePage all those of a cold
	// page, and FreePage the page itself once it is in memory.
	Release(r Ref, n int)
	ReleasePage(c *queue.Cold)
	FreePage(c *queue.Cold)
	LoadPage(q queue.ID, at queue.ColdPage, img *queue.Image) error
}

// OpenDisk opens the log in a directory and hands everything in it to r.
func OpenDisk(c DiskConfig, r Restorer) (*Disk, *seglog.Report, error) {
	d := &Disk{cfg: c, blobs: newBlobs(c.FS, c.Dir)}
	d.files.Store(&[]*fileRefs{})
	d.pages.files = map[uint32]*pageFile{}
	r.Begin(d)
	log, report, err := seglog.Open(seglog.Config{
		FS: c.FS, Dir: c.Dir, FileBytes: c.FileBytes, FirstFileBytes: firstFileBytes(c.FileBytes), ResidentBytes: c.ResidentBytes,
		OnDurable: c.OnDurable, OnFailure: c.OnFailure, Logger: c.Logger, Now: c.Now,
		OnMark: func(m seglog.Mark) error { return d.loadCheckpoint(m, r) },
	}, func(e seglog.Entry) error { return d.restore(e, r) })
	if err != nil {
		d.pages.close()
		return nil, nil, err
	}
	d.log = log
	d.tidyCheckpoints()
	d.pages.tidy(d)
	d.tidyBlobs()
	return d, report, nil
}

// firstFileBytes keeps the first file of a run from being larger than the others;
// 0 is the log's own default.
func firstFileBytes(fileBytes int64) int64 {
	const usualBytes = 4 << 20
	if fileBytes < usualBytes {
		return fileBytes
	}
	return 0
}

func (d *Disk) restore(e seglog.Entry, r Restorer) error {
	if e.Version != 0 {
		return fmt.Errorf("%w: type %d, version %d", ErrFormat, e.Type, e.Version)
	}
	switch e.Type {
	case recPublish, recPublishLarge:
		p, err := parsePublish(e.Type, e.Payload)
		if err != nil {
			return err
		}
		at := publishRef(e)
		n, err := r.Publish(&p, at)
		d.placed(e.Place.File(), len(e.Payload), n)
		if at.Large() {
			d.blobs.restore(at, p.Blob, n)
		}
		return err
	case recSettled, recDelivered:
		kind := queue.Settled
		if e.Type == recDelivered {
			kind = queue.Delivered
		}
		return parseFacts(e.Payload, func(q queue.ID, a, b uint64) error {
			return r.Fact(q, queue.Fact{Kind: kind, Seq: queue.Seq(a), To: queue.Seq(b)})
		})
	case recReturned:
		return parseFacts(e.Payload, func(q queue.ID, a, b uint64) error {
			return r.Fact(q, queue.Fact{Kind: queue.Returned, Seq: queue.Seq(a), To: queue.Seq(a), Tries: triesOf(b)})
		})
	case recDied:
		return parseFacts(e.Payload, func(q queue.ID, a, b uint64) error {
			return r.Fact(q, queue.Fact{Kind: queue.Died, Seq: queue.Seq(a), To: queue.Seq(a), Reason: queue.Reason(b)})
		})
	}
	def, err := parseDefinition(e.Type, e.Payload)
	if err != nil {
		return err
	}
	return r.Define(&def)
}

// file returns the counters of a log file.
func (d *Disk) file(number uint32) *fileRefs {
	if t := *d.files.Load(); int(number) < len(t) {
		return t[number]
	}
	d.filesM.Lock()
	defer d.filesM.Unlock()
	t := *d.files.Load()
	for int(number) >= len(t) {
		t = append(t, &fileRefs{})
	}
	d.files.Store(&t)
	return t[number]
}

func (d *Disk) placed(file uint32, bytes, references int) {
	f := d.file(file)
	f.refs.Add(int64(references))
	f.total.Add(int64(references))
	f.bytes.Add(int64(bytes))
}

// SettledBytes is the payload of a settled record of one message, for a group
// that moves it: it is written where it goes and settled where it was, or
// neither.
const SettledBytes = factsFixedBytes + factBytes

// Settle adds a settled record of one message.
func (g *Group) Settle(q queue.ID, seq queue.Seq) {
	b, _, _ := g.r.Add(recSettled, SettledBytes)
	putFacts(b, q, []queue.Fact{{Kind: queue.Settled, Seq: seq, To: seq}}, 0)
}

// FactsBytes is how many records, and how much payload in them, Group.Facts adds
// for facts of one queue.
func FactsBytes(facts []queue.Fact) (records, payloadBytes int) {
	for _, n := range factRecords(facts) {
		if n > 0 {
			records++
			payloadBytes += factsFixedBytes + n*factBytes
		}
	}
	return records, payloadBytes
}

// Facts adds what happened to messages of one queue. No message may be in it
// twice: what is returned and what is settled are records of their own.
func (g *Group) Facts(q queue.ID, facts []queue.Fact) {
	for typ, n := range factRecords(facts) {
		if n > 0 {
			b, _, _ := g.r.Add(factTypes[typ], factsFixedBytes+n*factBytes)
			putFacts(b, q, facts, typ)
		}
	}
}

// Group is room for the records of one run, which become durable together.
type Group struct {
	d *Disk
	r seglog.Region
}

// Reserve makes room for records: payload bytes from PublishBytes, SettledBytes
// and FactsBytes. force says that somebody waits for them: the caller has to call
// Commit soon, or WaitDurable.
func (d *Disk) Reserve(records, payloadBytes int, force bool) Group {
	return Group{d, d.log.Reserve(records, payloadBytes+records*seglog.RecordOverhead, force)}
}

// Add begins a publish record with that many references and returns its payload,
// for PutPublish and PutQueue, and its place.
func (g *Group) Add(payloadBytes, references int) ([]byte, Ref) {
	b, at, _ := g.r.Add(recPublish, payloadBytes)
	g.d.placed(at.File(), payloadBytes, references)
	return b, refAt(at)
}

// PublishedBytes is the payload of the publish record of a message whose body is
// in that blob, nil for one that has it.
func PublishedBytes(queues, messageBytes int, b *Blob) int {
	n := PublishBytes(queues, messageBytes)
	if b != nil {
		n += blobIDBytes
	}
	return n
}

// Publish adds the publish record of a message with that many references, whose
// body is in that blob, which is durable, or nil for one that has it. It returns
// the payload, for PutQueue, and the place.
func (g *Group) Publish(p *Published, queues, references int, blob *Blob) ([]byte, Ref) {
	bytes := PublishedBytes(queues, len(p.Message), blob)
	if blob == nil {
		p.Blob = 0
		b, at := g.Add(bytes, references)
		PutPublish(b, p, queues)
		return b, at
	}
	p.Blob = blob.id
	b, place, _ := g.r.Add(recPublishLarge, bytes)
	at := refAt(place) | blobRef
	g.d.placed(place.File(), bytes, references)
	g.d.blobs.name(at, blob, references)
	PutPublish(b, p, queues)
	return b, at
}

// Done ends the group and returns the position at which it is durable.
func (g *Group) Done() seglog.LSN { return g.r.Done() }

// Facts appends what happened to persistent messages of a durable queue and
// returns the position at which that is durable. Enqueued facts are left out:
// the publish record holds them. They force no sync.
func (d *Disk) Facts(q queue.ID, facts []queue.Fact) seglog.LSN {
	counts := factRecords(facts)
	if counts[factType(queue.Delivered)] > 0 && counts[factType(queue.Returned)] > 0 {
		return d.factsInOrder(q, facts)
	}
	records, bytes := FactsBytes(facts)
	if records == 0 {
		return 0
	}
	g := d.Reserve(records, bytes, false)
	g.Facts(q, facts)
	return g.Done()
}

// factsInOrder appends facts among which a message may be taken back and handed
// out again: which came last says whether it has been delivered.
func (d *Disk) factsInOrder(q queue.ID, facts []queue.Fact) (p seglog.LSN) {
	for len(facts) > 0 {
		n := 1
		for n < len(facts) && factType(facts[n].Kind) == factType(facts[0].Kind) {
			n++
		}
		p = max(p, d.Facts(q, facts[:n]))
		facts = facts[n:]
	}
	return p
}

// Message is the message at a place if it is in memory.
func (d *Disk) Message(r Ref) ([]byte, bool) {
	rec, ok := d.log.Resident(r.place())
	if !ok || rec.Type != recPublish && rec.Type != recPublishLarge {
		return nil, false
	}
	return messageOf(rec.Type, rec.Payload), true
}

// Resident tells whether a message can be handed out: Message would find it, and
// its blob, if it has one, has been verified.
func (d *Disk) Resident(r Ref) bool {
	_, ok := d.log.Resident(r.place())
	return ok && (!r.Large() || d.blobs.verified(r))
}

// Load makes a message Resident: it reads the record, and what stands around it,
// into memory, and reads through its blob. It blocks on the disk. An error says
// that the message cannot be read.
func (d *Disk) Load(r Ref) error {
	if err := d.log.Load(r.place()); err != nil {
		return err
	}
	if r.Large() {
		return d.blobs.load(r)
	}
	return nil
}

// LoadRecord is Load without the blob, for those who only move the message.
func (d *Disk) LoadRecord(r Ref) error { return d.log.Load(r.place()) }

// Blob is that of a Large message to which the caller has a reference. It is nil
// if recovery has not found out which it is.
func (d *Disk) Blob(r Ref) *Blob {
	b, _ := d.blobs.of(r)
	return b
}

// Release drops n references to a message.
func (d *Disk) Release(r Ref, n int) {
	d.file(r.File()).refs.Add(int64(-n))
	if r.Large() {
		d.blobs.drop(r, n)
	}
}

// Durable is the position below which everything survives a crash.
func (d *Disk) Durable() seglog.LSN { return d.log.Durable() }

// End is the position behind everything appended so far.
func (d *Disk) End() seglog.LSN { return d.log.End() }

// Commit sees to it that what was reserved with force is written, in the caller's
// goroutine if here is set and that is quicker; see seglog.Log.Commit.
func (d *Disk) Commit(here bool) { d.log.Commit(here) }

// WaitDurable waits until everything below the position is durable.
func (d *Disk) WaitDurable(p seglog.LSN) error { return d.log.WaitDurable(p) }

// WaitWritten waits until everything below the position survives this process.
func (d *Disk) WaitWritten(p seglog.LSN) error { return d.log.WaitWritten(p) }

// HasRoom tells whether WaitRoom would return at once.
func (d *Disk) HasRoom() bool { return d.log.HasRoom() }

// WaitRoom waits while too much is waiting for the disk.
func (d *Disk) WaitRoom() error { return d.log.WaitRoom() }

// Err is why the log takes nothing more: it has failed, or it is closed.
func (d *Disk) Err() error { return d.log.Err() }

// Free is the free space on the disk in bytes.
func (d *Disk) Free() (uint64, error) { return d.cfg.FS.Free(d.cfg.Dir) }

// Close writes what is left and marks the log as shut down in order.
func (d *Disk) Close() error {
	idle, dead := d.blobs.takeUnused()
	if d.Err() == nil && d.WaitDurable(d.End()) == nil {
		d.blobs.discard(idle, dead)
	}
	err := d.log.Close()
	d.pages.close()
	return err
}

// Abandon ends the log as a crash would.
func (d *Disk) Abandon() {
	d.log.Abandon()
	d.pages.close()
}
