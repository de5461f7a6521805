package store

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// Inspection is what a data directory holds, found without changing it.
type Inspection struct {
	Log *seglog.Checked
	// Checkpoint is the file that the log's mark names, "" if there is none.
	Checkpoint string
	// Bad are stretches that cannot be read, of the checkpoint and the log, and
	// records that do not say what they should.
	Bad       []seglog.BadSpot
	Queues    []*InspectedQueue // by vhost and name
	Exchanges []Definition
	Bindings  []Definition
	LastID    uint64 // the highest queue id given out
	// Blobs are files with a large body each that messages have, and their bytes;
	// LeftBlobs those that no message has any more: a start removes them.
	Blobs, LeftBlobs int
	BlobBytes        int64

	fs      vfs.FS
	dir     string
	checker *seglog.Checker
	byID    map[queue.ID]*InspectedQueue
	gone    map[queue.ID]bool
	names   map[queue.ID]string // of deleted queues too
	topo    map[string]Definition
	order   []string // keys of topo
	from    seglog.LSN
	known   map[pageKey]bool // pages that a damaged checkpoint still had
	partial bool             // the checkpoint is damaged: all of the log is replayed
	// topology says that the checkpoint has all definitions, whatever else it lacks.
	topology bool
	image    queue.Image // the page being read
	blobs    inspectedBlobs
}

// InspectedQueue is a durable queue as a start would find it.
type InspectedQueue struct {
	Definition
	Orphan      bool  // its definition is lost; VHost and Name are made up
	Messages    int   // that can be read
	BodyBytes   int64 // of those
	Redelivered int   // of those, delivered before
	Unreadable  []Unreadable

	m *queue.Machine
}

// Unreadable is a message that the index names and that cannot be read.
type Unreadable struct {
	File   string
	Offset int64
}

type pageKey struct {
	q      queue.ID
	level  int
	number uint64
}

// Damaged tells whether anything durable cannot be read.
func (in *Inspection) Damaged() bool {
	for _, q := range in.Queues {
		if len(q.Unreadable) > 0 || q.Orphan {
			return true
		}
	}
	return len(in.Bad) > 0
}

// Inspect reads a data directory. Its errors are those of seglog.OpenChecker;
// damage is in what it returns.
func Inspect(fsys vfs.FS, dir string) (*Inspection, error) {
	in := &Inspection{fs: fsys, dir: dir, byID: map[queue.ID]*InspectedQueue{}, gone: map[queue.ID]bool{},
		names: map[queue.ID]string{}, topo: map[string]Definition{}, known: map[pageKey]bool{}}
	var err error
	if in.checker, err = seglog.OpenChecker(fsys, dir); err != nil {
		return nil, err
	}
	in.blobs = inspectBlobs(fsys, dir)
	in.readCheckpoint()
	if in.Log, err = in.checker.Scan(in.replay); err != nil {
		in.Close()
		return nil, err
	}
	in.Bad = append(in.Bad, in.Log.Bad...)
	if err := in.verify(); err != nil {
		in.Close()
		return nil, err
	}
	in.Blobs, in.BlobBytes, in.LeftBlobs = in.blobs.sum()
	for _, q := range in.byID {
		in.Queues = append(in.Queues, q)
	}
	slices.SortFunc(in.Queues, func(a, b *InspectedQueue) int {
		return strings.Compare(a.VHost+"\x00"+a.Name, b.VHost+"\x00"+b.Name)
	})
	for _, key := range in.order {
		if d, ok := in.topo[key]; ok {
			if d.Kind == ExchangeDeclared {
				in.Exchanges = append(in.Exchanges, d)
			} else {
				in.Bindings = append(in.Bindings, d)
			}
		}
	}
	return in, nil
}

// Close lets go of the directory.
func (in *Inspection) Close() { in.checker.Close() }

// QueueName is the name that an id has or had, "" if it is not known.
func (in *Inspection) QueueName(id queue.ID) string { return in.names[id] }

func (in *Inspection) problem(file string, at int64, format string, args ...any) {
	in.Bad = append(in.Bad, seglog.BadSpot{File: file, Offset: at, Why: fmt.Sprintf(format, args...)})
}

// readCheckpoint takes from the checkpoint what can be read.
func (in *Inspection) readCheckpoint() {
	mark := in.checker.Mark()
	if in.checker.Rebuilt() {
		mark = in.newestCheckpoint()
		in.checker.Assume(mark)
	}
	if mark.Name == "" {
		return
	}
	in.Checkpoint, in.from = mark.Name, mark.From
	if !in.readSections(mark.Name) {
		in.partial = true
	}
}

// newestCheckpoint looks for a whole checkpoint, for want of a mark.
func (in *Inspection) newestCheckpoint() (mark seglog.Mark) {
	names, err := in.fs.List(in.dir)
	if err != nil {
		return mark
	}
	newest := 0
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, checkpointPrefix)
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || n <= newest {
			continue
		}
		if from, ok := in.wholeCheckpoint(name); ok {
			newest, mark = n, seglog.Mark{Name: name, From: from}
		}
	}
	return mark
}

// wholeCheckpoint reports where a checkpoint begins, if it has its end.
func (in *Inspection) wholeCheckpoint(name string) (from seglog.LSN, ok bool) {
	s, closeFile, err := in.sections(name)
	if err != nil {
		return 0, false
	}
	defer closeFile()
	for {
		typ, payload, err := s.next()
		switch {
		case err != nil:
			return 0, false
		case typ == secBegin && len(payload) == 12:
			r := definitionReader{b: payload[4:]}
			from = seglog.LSN(r.u64())
		case typ == secEnd:
			return from, from > 0
		}
	}
}

func (in *Inspection) sections(name string) (s *sectionReader, closeFile func(), err error) {
	f, err := in.fs.OpenRead(filepath.Join(in.dir, name))
	if err != nil {
		return nil, nil, err
	}
	size, err := f.Size()
	if err != nil {
		f.Close() // read only
		return nil, nil, err
	}
	return &sectionReader{name: name, in: io.NewSectionReader(f, 0, size)}, func() { f.Close() }, nil
}

// readSections applies the sections that can be read, and reports whether these
// are all.
func (in *Inspection) readSections(name string) (whole bool) {
	s, closeFile, err := in.sections(name)
	if err != nil {
		in.problem(name, 0, "the checkpoint cannot be opened: %v", err)
		return false
	}
	defer closeFile()
	whole = true
	for {
		at := s.at
		typ, payload, err := s.next()
		if err != nil {
			in.problem(name, at, "%v", err)
			whole = false
			if !s.skip() {
				return false
			}
			continue
		}
		if typ == secEnd {
			return whole
		}
		if typ == secDefinition && whole && len(payload) > 0 && payload[0] == recCounters {
			in.topology = true // it is the last definition
		}
		if err := in.section(typ, payload); err != nil {
			in.problem(name, at, "%v", err)
			whole = false
		}
	}
}

// skip passes over a section whose checksum is wrong, if its length looks right.
func (s *sectionReader) skip() bool {
	if s.need(secHeaderBytes) != nil {
		return false
	}
	r := definitionReader{b: s.buf[s.r:][:4]}
	n := int(r.u8()) | int(r.u8())<<8 | int(r.u8())<<16 | int(r.u8())<<24
	n += secHeaderBytes + secCRCBytes
	if n > maxSectionBytes || s.need(n) != nil {
		return false
	}
	s.r += n
	s.at += int64(n)
	return true
}

func (in *Inspection) section(typ uint8, payload []byte) error {
	switch typ {
	case secBegin, secTails, secBlobs: // each record says which blob it names
		return nil // tails do not matter to what is there
	case secDefinition:
		if len(payload) == 0 {
			return fmt.Errorf("%w: an empty definition", ErrFormat)
		}
		d, err := parseDefinition(payload[0], payload[1:])
		if err == nil {
			in.define(&d)
		}
		return err
	case secPage:
		id, ok := parsePage(payload, &in.image)
		if !ok {
			return fmt.Errorf("%w: a page of %d bytes", ErrFormat, len(payload))
		}
		return in.page(id)
	case secColdPage:
		id, at, ok := parseColdSection(payload)
		if !ok {
			return fmt.Errorf("%w: a cold page of %d bytes", ErrFormat, len(payload))
		}
		if err := in.loadPage(id, at); err != nil {
			return err
		}
		return in.page(id)
	}
	return fmt.Errorf("%w: a section of type %d", ErrFormat, typ)
}

// page puts in.image back.
func (in *Inspection) page(id queue.ID) error {
	in.known[pageKey{id, in.image.Level, in.image.Number}] = true
	if !in.queue(id).m.RestoreImage(&in.image) {
		return fmt.Errorf("%w: a page of priority %d of a queue without it", ErrFormat, in.image.Level)
	}
	return nil
}

// loadPage reads a cold page into in.image.
func (in *Inspection) loadPage(id queue.ID, at queue.ColdPage) error {
	f, err := in.fs.OpenRead(filepath.Join(in.dir, pageFileName(pagePlaceFile(at.Cold.Place))))
	if err != nil {
		return fmt.Errorf("a page of this queue: %w", err)
	}
	defer f.Close()
	return readColdPage(f, id, at, &in.image)
}

// anyPriority is more than a queue of unknown arguments can have.
const anyPriority = 255

// queue is the queue of that id; one that nothing defines is made up.
func (in *Inspection) queue(id queue.ID) *InspectedQueue {
	q := in.byID[id]
	if q == nil {
		q = &InspectedQueue{Definition: Definition{Kind: QueueDeclared, ID: uint64(id), VHost: "/",
			Name: fmt.Sprintf("salvaged-queue-%d", id)}, Orphan: true,
			m: queue.New(queue.Config{Durable: true, MaxPriority: anyPriority}, 0)}
		in.byID[id] = q
		in.LastID = max(in.LastID, uint64(id))
	}
	return q
}

func (in *Inspection) define(d *Definition) {
	switch d.Kind {
	case Counters:
		in.LastID = max(in.LastID, d.ID)
	case QueueDeclared:
		in.defineQueue(d)
	case QueueDeleted:
		in.gone[queue.ID(d.ID)] = true
		if q := in.byID[queue.ID(d.ID)]; q != nil {
			delete(in.byID, queue.ID(d.ID))
			in.unbind(func(b *Definition) bool { return !b.ToExchange && b.VHost == q.VHost && b.Name == q.Name })
		}
	case ExchangeDeclared, Bound:
		key := topologyKey(d)
		if _, ok := in.topo[key]; !ok {
			in.order = append(in.order, key)
		}
		in.topo[key] = *d
	case ExchangeDeleted:
		x := *d
		x.Kind = ExchangeDeclared
		delete(in.topo, topologyKey(&x))
		in.unbind(func(b *Definition) bool {
			return b.VHost == d.VHost && (b.Source == d.Name || b.ToExchange && b.Name == d.Name)
		})
	case Unbound:
		b := *d
		b.Kind = Bound
		delete(in.topo, topologyKey(&b))
	}
}

func (in *Inspection) defineQueue(d *Definition) {
	id := queue.ID(d.ID)
	in.LastID = max(in.LastID, d.ID)
	in.names[id] = d.Name
	if q := in.byID[id]; q != nil {
		if q.Orphan { // messages came first: the log before them is gone
			q.Definition, q.Orphan = *d, false
		}
		return
	}
	priority := 0
	if v, ok := d.Args.Get("x-max-priority"); ok {
		priority = min(wholeNumber(v), anyPriority)
	}
	in.byID[id] = &InspectedQueue{Definition: *d, m: queue.New(queue.Config{Durable: true, MaxPriority: priority}, 0)}
}

func wholeNumber(v any) int {
	n, err := strconv.Atoi(fmt.Sprint(v)) // the table has eight kinds of them
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (in *Inspection) unbind(gone func(*Definition) bool) {
	for key, d := range in.topo {
		if d.Kind == Bound && gone(&d) {
			delete(in.topo, key)
		}
	}
}

func topologyKey(d *Definition) string {
	return fmt.Sprintf("%d\x00%s\x00%s\x00%s\x00%s\x00%t\x00%x", d.Kind, d.VHost, d.Name, d.Source, d.Key, d.ToExchange,
		wire.AppendTable(nil, bindingArgs(d)))
}

func bindingArgs(d *Definition) wire.Table {
	if d.Kind == Bound {
		return d.Args
	}
	return nil
}

// replay applies a record as a start would, or, if the checkpoint is damaged,
// those before it as well.
func (in *Inspection) replay(e seglog.Entry) error {
	r, err := Decode(e)
	if err != nil {
		in.problem(entryFile(e), e.Place.Offset(), "LSN %d: %v", e.LSN, err)
		return nil
	}
	before := e.LSN < in.from
	if before && !in.partial {
		return nil
	}
	switch r := r.(type) {
	case *Definition:
		if !before || !in.topology {
			in.define(r)
		}
	case *Published:
		in.publish(r, publishRef(e), before)
	case *Facts:
		in.facts(r, before)
	}
	return nil
}

func entryFile(e seglog.Entry) string { return fmt.Sprintf("log-%08d", e.Place.File()) }

// passed tells whether a page of the checkpoint knows better than the log before
// it.
func (in *Inspection) passed(q queue.ID, s queue.Seq, before bool) bool {
	level, pos := s.Split()
	return before && in.known[pageKey{q, level, pos / queue.PageLen}]
}

func (in *Inspection) publish(p *Published, at Ref, before bool) {
	e := queue.Entry{Ref: uint64(at), BodyBytes: uint32(message.Record(p.Message).BodyBytes()), Flags: queue.Persistent}
	p.Queues(func(id queue.ID, seq queue.Seq, count uint32) {
		if in.gone[id] || in.passed(id, seq, before) || before && in.topology && in.byID[id] == nil {
			return // deleted, or known better
		}
		q := in.queue(id)
		if !q.m.Restore(seq, e, p.Time, p.TTLMillis, count) {
			q.m.RestoreMoved(seq, uint64(at))
		}
	})
}

func (in *Inspection) facts(f *Facts, before bool) {
	q := in.byID[f.Queue]
	if q == nil {
		return
	}
	for _, r := range f.Ranges {
		if in.passed(f.Queue, r.From, before) {
			continue
		}
		switch f.Type {
		case recSettled:
			q.m.RestoreSettled(r.From, r.To, func(queue.Entry) {})
		case recDelivered:
			q.m.RestoreDelivered(r.From, r.To)
		case recReturned:
			q.m.RestoreReturned(r.From, r.Tries)
		case recDied:
			q.m.RestoreDied(r.From, r.Died)
		}
	}
}

// verify reads the log again and compares it with the queues: every message must
// stand where its queue says.
func (in *Inspection) verify() error {
	_, err := in.checker.Scan(func(e seglog.Entry) error {
		return in.eachHeld(e, func(p *Published, holders []holder) error {
			for _, h := range holders {
				h.q.Messages++
				h.q.BodyBytes += int64(message.Record(p.Message).BodyBytes())
			}
			return nil
		})
	})
	for _, q := range in.byID {
		var at queue.Cursor
		for more := true; more; {
			more = q.m.Walk(&at, func(h queue.Held) {
				if h.Entry.Flags&queue.Redelivered != 0 {
					q.Redelivered++
				}
			})
		}
		if q.Messages < q.m.ReadyCount() {
			in.findUnreadable(q)
		}
	}
	return err
}

// holder is a queue that holds a message.
type holder struct {
	q     *InspectedQueue
	seq   queue.Seq
	count uint32
}

// eachHeld calls f for a publish record that some queue still needs.
func (in *Inspection) eachHeld(e seglog.Entry, f func(p *Published, holders []holder) error) error {
	if e.Type != recPublish && e.Type != recPublishLarge {
		return nil
	}
	p, err := parsePublish(e.Type, e.Payload)
	if err != nil {
		return nil // replay has reported it
	}
	var holders []holder
	p.Queues(func(id queue.ID, seq queue.Seq, count uint32) {
		if q := in.byID[id]; q != nil && q.m.Holds(seq, uint64(publishRef(e))) {
			holders = append(holders, holder{q, seq, count})
		}
	})
	if len(holders) == 0 || !in.blobs.whole(&p, publishRef(e)) {
		return nil
	}
	return f(&p, holders)
}

// findUnreadable lists which messages of a queue the log does not have.
func (in *Inspection) findUnreadable(q *InspectedQueue) {
	have := map[uint64]bool{}
	_, err := in.checker.Scan(func(e seglog.Entry) error {
		return in.eachHeld(e, func(_ *Published, holders []holder) error {
			for _, h := range holders {
				if h.q == q {
					have[uint64(publishRef(e))] = true
				}
			}
			return nil
		})
	})
	if err != nil {
		return // the visitor returns none
	}
	var at queue.Cursor
	for more := true; more; {
		more = q.m.Walk(&at, func(h queue.Held) {
			r := Ref(h.Entry.Ref)
			if u, ok := in.blobs.lost[r]; ok {
				q.Unreadable = append(q.Unreadable, u)
			} else if !have[uint64(r)] {
				q.Unreadable = append(q.Unreadable, Unreadable{logFileName(r), r.place().Offset()})
			}
		})
	}
}
