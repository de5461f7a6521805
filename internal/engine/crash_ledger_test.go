package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
)

// What a crash may leave is bounded by what the engine held before and after
// each operation. A ledger keeps these states, and up to which of them is known
// to be durable: a recovered engine has to be somewhere between that one and the
// one under way at the crash, message by message.

// place names a copy of a message: a queue and its number there.
type place struct {
	queue queue.ID
	seq   queue.Seq
}

// held is what is known of a copy.
type held struct {
	id        uint64 // bit 0: persistent; bit 1: went to several queues
	delivered bool
	died      bool // a dead letter
}

const (
	idPersistent = 1
	idSpread     = 2
)

// state is what an engine holds in durable queues, and their definitions.
type state struct {
	copies map[place]held
	defs   map[string]bool
}

// observer takes states of one engine.
type observer struct {
	e     *Engine
	ids   map[place]uint64
	whole bool // look at whole bodies, always
	bad   error
}

func (o *observer) state() state {
	s := state{copies: map[place]held{}, defs: map[string]bool{}}
	for _, vh := range o.e.vhosts {
		vh.mu.RLock()
		for _, d := range definitionsOf(vh) {
			s.defs[fmt.Sprint(d)] = true
		}
		vh.mu.RUnlock()
	}
	for _, q := range o.e.allQueues() {
		if q.def.Durable {
			o.queue(q, &s)
		}
	}
	return s
}

func (o *observer) queue(q *Queue, s *state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	see := func(h queue.Held) {
		n++
		at := place{q.id, h.Seq}
		id, known := o.ids[at]
		if !known || o.whole {
			id = o.read(q, h)
			o.ids[at] = id
		}
		s.copies[at] = held{id: id, delivered: h.Entry.Flags&queue.Redelivered != 0 || h.Out, died: h.Entry.Flags&flagDead != 0}
	}
	for c := (queue.Cursor{}); q.m.Walk(&c, see); {
	}
	o.cold(q, see)
	if all := q.m.ReadyCount() + q.m.UnackedCount() + q.m.ParkedCount() + q.m.DelayedCount(); n != all || q.m.MovingCount() > q.m.ParkedCount() {
		o.fail("queue %s counts %d messages, %d of them moving, and shows %d", q.def.Name, all, q.m.MovingCount(), n)
	}
}

// cold looks into the pages that are not in memory, and leaves them there. Called
// with q.mu held.
func (o *observer) cold(q *Queue, see func(queue.Held)) {
	var img queue.Image
	for c, more := (queue.Cursor{}), true; more; {
		var pages []queue.ColdPage
		pages, more = q.m.ColdWhere(&c, func(*queue.Cold) bool { return true }, nil)
		for _, at := range pages {
			if err := o.e.disk.LoadPage(q.id, at, &img); err != nil {
				o.fail("queue %s: page %d cannot be read: %v", q.def.Name, at.Number, err)
				continue
			}
			img.Each(func(i int) {
				see(queue.Held{Seq: queue.Seq(uint64(at.Level)<<56 | (at.Number*queue.PageLen + uint64(i))), Entry: img.Entries[i]})
			})
		}
	}
}

func (o *observer) fail(format string, args ...any) {
	if o.bad == nil {
		o.bad = fmt.Errorf(format, args...)
	}
}

// read returns the id of a message, and checks its body.
func (o *observer) read(q *Queue, h queue.Held) uint64 {
	ref := store.Ref(h.Entry.Ref)
	if ref.OnDisk() {
		if err := o.e.disk.Load(ref); err != nil {
			o.fail("queue %s: message %d cannot be read: %v", q.def.Name, h.Seq, err)
			return 0
		}
	}
	b, ok := o.e.record(ref)
	if !ok {
		o.fail("queue %s: message %d is not in memory", q.def.Name, h.Seq)
		return 0
	}
	body, err := bodyOf(o.e, ref, b)
	if err != nil {
		o.fail("queue %s: message %d cannot be read: %v", q.def.Name, h.Seq, err)
		return 0
	}
	if len(body) < 8 || uint32(len(body)) != h.Entry.BodyBytes {
		o.fail("queue %s: message %d has %d bytes, its entry says %d", q.def.Name, h.Seq, len(body), h.Entry.BodyBytes)
		return 0
	}
	id := binary.BigEndian.Uint64(body)
	if !slices.Equal(body, crashBody(id, len(body))) {
		o.fail("queue %s: message %d has the wrong bytes", q.def.Name, h.Seq)
	}
	return id
}

// blobs is how many blobs there are: just those that messages have.
func (o *observer) blobs(mem *vfs.MemFS) int {
	named := map[uint64]bool{}
	for _, q := range o.e.allQueues() {
		for _, h := range q.walkAll() {
			if ref := store.Ref(h.Entry.Ref); ref.Large() {
				named[o.e.disk.Blob(ref).ID()] = true
			}
		}
	}
	names, err := mem.List("/data")
	if err != nil {
		o.fail("%v", err)
	}
	n := 0
	for _, name := range names {
		if strings.HasPrefix(name, "blob-") {
			n++
		}
	}
	if n != len(named) {
		o.fail("after a start there are %d blobs, and messages have %d", n, len(named))
	}
	return n
}

// bodyOf is the body of a message, wherever it is.
func bodyOf(e *Engine, ref store.Ref, rec message.Record) ([]byte, error) {
	if !ref.Large() {
		return rec.AppendBody(nil), nil
	}
	r, err := e.disk.Blob(ref).Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var body []byte
	for {
		b, err := r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return body, err
		}
		body = append(body, b...)
	}
}

// crashBytes is what bodies are cut from.
var crashBytes = func() []byte {
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i) + byte(i>>8)*7 + byte(i>>16)*31
	}
	return b
}()

// crashBody is the body of that id and length.
func crashBody(id uint64, bytes int) []byte {
	from := int(id * 0x9e3779b97f4a7c15 >> 45)
	b := make([]byte, bytes)
	copy(b, crashBytes[from:from+bytes])
	binary.BigEndian.PutUint64(b, id)
	return b
}

// ledger is what happened to one engine.
type ledger struct {
	mu             sync.Mutex
	states         []state
	published      map[uint64]int // by which operation
	confirmed      []uint64
	floor          int // everything up to that state is durable
	deliveredFloor int // that of deliveries too
	op             int // under way, or the last one
	txs            []txBook
	notes          []string // of operations
}

// txBook is a transaction that was committed.
type txBook struct {
	op        int
	published []uint64
	ended     map[place]uint64 // acked, by where it was
}

func newLedger(first state) *ledger {
	return &ledger{states: []state{first}, published: map[uint64]int{}}
}

// lostError is a copy that should be there.
type lostError struct {
	at place
	id uint64
}

func (e *lostError) Error() string {
	return fmt.Sprintf("queue %d: message %d (%x) is lost", e.at.queue, e.at.seq, e.id)
}

// traces is everything that a directory says about one message, for whoever has to
// find out where it went: the engine's own goroutines make no two runs the same.
func traces(fsys vfs.FS, at place) string {
	var b strings.Builder
	names, err := fsys.List("/data")
	fmt.Fprintln(&b, "files:", names, err)
	in, err := store.Inspect(fsys, "/data")
	if err != nil {
		fmt.Fprintln(&b, err)
		return b.String()
	}
	defer in.Close()
	fmt.Fprintf(&b, "checkpoint %s, log read from LSN %d, bad %v\n", in.Checkpoint, in.Log.Mark.From, in.Bad)
	err = in.Records(func(e seglog.Entry) error {
		r, err := store.Decode(e)
		if err != nil {
			return nil // in.Bad has it
		}
		switch r := r.(type) {
		case *store.Published:
			r.Queues(func(q queue.ID, seq queue.Seq, count uint32) {
				if q == at.queue && seq == at.seq {
					fmt.Fprintf(&b, "LSN %d file %d: published\n", e.LSN, e.Place.File())
				}
			})
		case *store.Facts:
			for _, x := range r.Ranges {
				if r.Queue == at.queue && x.From <= at.seq && at.seq <= max(x.From, x.To) {
					fmt.Fprintf(&b, "LSN %d file %d: %s %+v\n", e.LSN, e.Place.File(), r.Name(), x)
				}
			}
		case *store.Definition:
			if r.ID == uint64(at.queue) {
				fmt.Fprintf(&b, "LSN %d: %+v\n", e.LSN, r)
			}
		}
		return nil
	})
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}

// window is what a crash may have left.
type window struct {
	l                            *ledger
	floor, deliveredFloor, begun int
	confirmed                    int
}

// open is the first half of a window, before the disk is copied; close the
// second, after.
func (l *ledger) open() window {
	l.mu.Lock()
	defer l.mu.Unlock()
	return window{l: l, floor: l.floor, deliveredFloor: l.deliveredFloor, confirmed: len(l.confirmed)}
}

func (w *window) close() {
	w.l.mu.Lock()
	w.begun = w.l.op
	w.l.mu.Unlock()
}

// touched are the messages that something happened to in the window.
func (w *window) touched() map[uint64]bool {
	ids := map[uint64]bool{}
	for id, op := range w.l.published {
		if op > w.floor && op <= w.begun {
			ids[id] = true
		}
	}
	for k := w.floor; k < w.begun; k++ {
		a, b := w.l.states[k].copies, w.l.states[k+1].copies
		for at, h := range a {
			if b[at].id != h.id {
				ids[h.id] = true
			}
		}
		for at, h := range b {
			if a[at].id != h.id {
				ids[h.id] = true
			}
		}
	}
	return ids
}

// always tells whether a copy is in all states of the window from one on.
func (w *window) always(at place, id uint64, from int) bool {
	for k := from; k <= w.begun; k++ {
		if w.l.states[k].copies[at].id != id {
			return false
		}
	}
	return true
}

// check compares what a start has found with what it may.
func (w *window) check(got state) error {
	for _, f := range []func(state) error{w.checkKept, w.checkNothingElse, w.checkOnce, w.checkConfirmed, w.checkDefinitions, w.checkTxs} {
		if err := f(got); err != nil {
			return fmt.Errorf("%w (window %d to %d)", err, w.floor, w.begun)
		}
	}
	return nil
}

func (w *window) checkKept(got state) error {
	for at, h := range w.l.states[w.floor].copies {
		if h.id&idPersistent == 0 || !w.always(at, h.id, w.floor) {
			continue
		}
		g, ok := got.copies[at]
		if !ok || g.id != h.id {
			return &lostError{at, h.id}
		}
		delivered := true
		for k := w.deliveredFloor; k <= w.begun; k++ {
			delivered = delivered && w.l.states[k].copies[at].id == h.id && w.l.states[k].copies[at].delivered
		}
		if delivered && !g.delivered {
			return fmt.Errorf("queue %d: message %d (%x) was delivered and is not marked as redelivered", at.queue, at.seq, h.id)
		}
	}
	return nil
}

func (w *window) checkNothingElse(got state) error {
	touched := w.touched()
	for at, g := range got.copies {
		known := false
		for k := w.floor; k <= w.begun; k++ {
			if h, ok := w.l.states[k].copies[at]; ok {
				if known = known || h.id == g.id; h.id != g.id && h.id&idPersistent != 0 {
					return fmt.Errorf("queue %d: message %d is %x, it was %x", at.queue, at.seq, g.id, h.id)
				}
			}
		}
		if !known && !touched[g.id] {
			return fmt.Errorf("queue %d: message %d (%x) is there and should not be", at.queue, at.seq, g.id)
		}
		if g.id&idPersistent == 0 {
			return fmt.Errorf("queue %d: transient message %d (%x) has survived", at.queue, at.seq, g.id)
		}
	}
	return nil
}

// checkOnce looks at messages that are in one queue at a time.
func (w *window) checkOnce(got state) error {
	count := func(s state) map[uint64]int {
		n := map[uint64]int{}
		for _, h := range s.copies {
			if h.id&idSpread == 0 && h.id&idPersistent != 0 {
				n[h.id]++
			}
		}
		return n
	}
	least, most := count(w.l.states[w.floor]), map[uint64]int{}
	for k := w.floor; k <= w.begun; k++ {
		c := count(w.l.states[k])
		for id := range least {
			least[id] = min(least[id], c[id])
		}
		for id, n := range c {
			most[id] = max(most[id], n)
		}
	}
	n := count(got)
	for id, want := range least {
		if n[id] < want {
			return fmt.Errorf("message %x is in %d queues, it was always in %d", id, n[id], want)
		}
	}
	for id := range n {
		if n[id] > max(1, most[id]) {
			return fmt.Errorf("message %x is there %d times", id, n[id])
		}
	}
	return nil
}

// checkConfirmed looks at messages that were confirmed, whatever else is durable.
// One may still be where it has moved on from, as a dead letter: nobody waits for
// that.
func (w *window) checkConfirmed(got state) error {
	there := map[uint64]int{}
	for _, h := range got.copies {
		there[h.id]++
	}
	for _, id := range w.l.confirmed[:w.confirmed] {
		op, ok := w.l.published[id]
		if !ok || op > w.begun || id&idPersistent == 0 {
			continue
		}
		want := 0
		for at, h := range w.l.states[op].copies {
			if h.id == id && w.always(at, id, op) {
				want++
			}
		}
		if there[id] < want {
			return fmt.Errorf("message %x was confirmed for %d queues and is in %d", id, want, there[id])
		}
	}
	return nil
}

func (w *window) checkDefinitions(got state) error {
	seen := map[string]int{}
	for k := w.floor; k <= w.begun; k++ {
		for d := range w.l.states[k].defs {
			seen[d]++
		}
	}
	for d, n := range seen {
		if n == w.begun-w.floor+1 && !got.defs[d] {
			return fmt.Errorf("definition %s is lost", d)
		}
	}
	for d := range got.defs {
		if seen[d] == 0 {
			return fmt.Errorf("definition %s is there and should not be", d)
		}
	}
	return nil
}

// checkTxs looks for transactions of which the crash has left a part.
func (w *window) checkTxs(got state) error {
	there := map[uint64]bool{}
	for _, h := range got.copies {
		there[h.id] = true
	}
	for i := range w.l.txs {
		tx := &w.l.txs[i]
		if tx.op <= w.floor || tx.op > w.begun {
			continue
		}
		var done, undone string
		for _, id := range tx.published {
			if there[id] {
				done = fmt.Sprintf("message %x is there", id)
			}
		}
		for at, h := range w.l.states[tx.op].copies {
			// Where a full queue has sent it on is no part of the transaction.
			if h.id&idPersistent != 0 && !h.died && slices.Contains(tx.published, h.id) && w.always(at, h.id, tx.op) && got.copies[at].id != h.id {
				undone = fmt.Sprintf("queue %d: message %d (%x) is not", at.queue, at.seq, h.id)
			}
		}
		for at, id := range tx.ended {
			if got.copies[at].id == id {
				undone = fmt.Sprintf("queue %d: message %d (%x) is still there", at.queue, at.seq, id)
			} else if w.since(at, id, tx.op) {
				done = fmt.Sprintf("queue %d: message %d (%x) has ended", at.queue, at.seq, id)
			}
		}
		if done != "" && undone != "" {
			return fmt.Errorf("half of the transaction of operation %d: %s, %s", tx.op, done, undone)
		}
	}
	return nil
}

// since tells whether a copy is in all states of the window before an operation.
func (w *window) since(at place, id uint64, op int) bool {
	for k := w.floor; k < op; k++ {
		if w.l.states[k].copies[at].id != id {
			return false
		}
	}
	return true
}
