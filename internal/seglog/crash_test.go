package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
)

// The crash tests run a log step by step in one goroutine, so that a seed gives
// the same run every time, take its disk away at some operation in some way that
// a power loss or a kill allows, and open what is left: again and again, also in
// the middle of a recovery.

// seeds gives the seeds to run: SEGLOG_SEED=7 for one, SEGLOG_SEEDS=10000 for
// that many, else some that are quick.
func seeds(t *testing.T, quick uint64) (from, to uint64) {
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
		if err != nil && os.Getenv(name) != "" {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if os.Getenv("SEGLOG_SEED") != "" {
		n := number("SEGLOG_SEED")
		return n, n + 1
	}
	if n := number("SEGLOG_SEEDS"); n > 0 {
		return 0, n
	}
	return 0, quick
}

func TestCrash(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	from, to := seeds(t, 120)
	total := tally{}
	for seed := from; seed < to; seed++ {
		w := newWorld(seed)
		if err := w.run(); err != nil {
			t.Fatalf("seed %d: %v\nreplay: SEGLOG_SEED=%d go test -run 'TestCrash$' ./internal/seglog", seed, err, seed)
		}
		total.add(w.tally)
	}
	t.Logf("%d seeds: %+v", to-from, total)
	if to-from >= 100 {
		total.demandAll(t)
	}
}

// tally counts what the runs have come across, so that a test that never gets
// anywhere shows.
type tally struct {
	opens, crashes, recoveryCrashes, kills, faults, closes     int
	records, large, torn, reappended, drops, loads, rolls, cut int
	marks, marked                                              int
}

func (c *tally) each() map[string]*int {
	return map[string]*int{
		"opens": &c.opens, "crashes": &c.crashes, "crashes in recovery": &c.recoveryCrashes, "kills": &c.kills,
		"faults": &c.faults, "closes": &c.closes, "records": &c.records, "large regions": &c.large,
		"torn tails": &c.torn, "records written again": &c.reappended, "drops": &c.drops,
		"loads": &c.loads, "files": &c.rolls, "cut files": &c.cut,
		"marks": &c.marks, "starts at a mark": &c.marked,
	}
}

func (c *tally) add(o tally) {
	mine, theirs := c.each(), o.each()
	for name, n := range mine {
		*n += *theirs[name]
	}
}

func (c *tally) demandAll(t *testing.T) {
	for name, n := range c.each() {
		if *n == 0 {
			t.Errorf("no %s in all runs", name)
		}
	}
}

// entry is a record that was appended.
type entry struct {
	run       int
	bytes     int
	regionEnd LSN // its region is there as a whole or not at all
	place     Place
}

// fill writes the payload that a record of that run and number has.
func (e entry) fill(b []byte, lsn LSN) {
	x := uint64(lsn)*0x9e3779b97f4a7c15 + uint64(e.run)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, x)
		x += 0xbf58476d1ce4e5b9
	}
	for i := range b {
		b[i] = byte(x >> (i * 8))
	}
}

func (e entry) is(b []byte, lsn LSN, scratch *[]byte) bool {
	if len(b) != e.bytes {
		return false
	}
	if cap(*scratch) < len(b) {
		*scratch = make([]byte, len(b))
	}
	want := (*scratch)[:len(b)]
	e.fill(want, lsn)
	return string(want) == string(b)
}

// world is a disk, the log on it, and what is known about it.
type world struct {
	seed   uint64
	rng    *rand.Rand
	mem    *vfs.MemFS
	fault  *vfs.Fault
	after  *vfs.MemFS // what the crash left, once it has happened
	chance int        // an operation is the last one with a chance of one in that many
	runs   int

	log     *Log
	entries map[LSN]entry
	next    LSN // entries are below it
	floor   LSN // everything below has been durable
	gone    LSN // everything below has been dropped for good
	mayGo   LSN // everything below may be dropped
	open    []heldRegion
	marks   map[string]map[LSN]Place // places of all that was durable when a mark was set

	scratch []byte
	tally   tally
}

type heldRegion struct {
	r     *Region
	sizes []int
}

const worldDir = "/a/data"

func newWorld(seed uint64) *world {
	return &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), mem: vfs.NewMem(),
		entries: map[LSN]entry{}, marks: map[string]map[LSN]Place{}, next: 1, floor: 1, gone: 1, mayGo: 1,
	}
}

func (w *world) config() Config {
	c := Config{
		FS: w.fault, Dir: worldDir, FileBytes: 2 << 20, FirstFileBytes: 1 << 20, BatchBytes: 300_000,
		ResidentBytes: 1 << 20, FlushDelay: time.Hour, ClaimDelay: time.Hour, Spares: -1, Random: w.rng.Uint64,
	}
	if w.seed%3 == 0 {
		c.FileBytes, c.Spares = 1<<20+4096*7+5, 2
	}
	return c
}

// arm prepares a disk that will be gone at an operation that chance picks.
func (w *world) arm() {
	w.fault = vfs.NewFault(w.mem)
	w.after = nil
	w.chance = []int{10, 40, 200}[w.rng.IntN(3)]
	w.fault.Add(vfs.Rule{Before: func(vfs.Op) {
		if w.after == nil && w.rng.IntN(w.chance) == 0 {
			w.crash()
		}
	}})
	if w.rng.IntN(5) == 0 {
		kinds := []vfs.OpKind{vfs.OpsSync, vfs.OpWrite, vfs.OpsChange}[w.rng.IntN(3)]
		w.fault.Add(vfs.Rule{
			Kinds: kinds, Nth: 1 + w.rng.IntN(20), ShortBytes: int64(w.rng.IntN(3)) * 4096,
			Err: []error{syscall.EIO, syscall.ENOSPC}[w.rng.IntN(2)],
		})
	}
}

// crash takes what the disk holds at this instant.
func (w *world) crash() {
	if w.log != nil {
		w.floor = max(w.floor, w.log.Durable())
	} else {
		w.tally.recoveryCrashes++
	}
	if w.rng.IntN(4) == 0 {
		w.tally.kills++
		w.after = w.mem.Clone()
		return
	}
	w.tally.crashes++
	modes := vfs.CrashModes()
	w.after = w.mem.CrashClone(modes[w.rng.IntN(len(modes))], w.rng)
}

func (w *world) run() error {
	for range 4 + w.rng.IntN(4) {
		w.arm()
		w.runs++
		if err := w.generation(); err != nil {
			return fmt.Errorf("run %d: %w", w.runs, err)
		}
		w.mem = w.after
	}
	return nil
}

// generation opens the log, works with it until the disk is gone, and ends with
// a new disk in w.after.
func (w *world) generation() error {
	err := w.openLog()
	if w.after != nil {
		if err == nil {
			w.log.Abandon()
			w.log = nil
		}
		return nil
	}
	if err != nil {
		if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) {
			w.tally.faults++
			w.crash()
			return nil
		}
		return err
	}
	for range 5 + w.rng.IntN(60) {
		if err := w.step(); err != nil {
			return err
		}
		if w.after != nil {
			break
		}
		if err := w.log.Err(); err != nil {
			w.tally.faults++
			break
		}
	}
	return w.endLog()
}

func (w *world) endLog() error {
	for len(w.open) > 0 {
		w.finishRegion()
	}
	if w.after == nil && w.rng.IntN(3) == 0 {
		if err := w.log.Close(); err == nil && w.after == nil {
			w.tally.closes++
			w.floor = w.log.nextLSN
		}
	}
	if w.after == nil {
		w.crash()
	}
	w.log.Abandon()
	w.log, w.open = nil, nil
	return nil
}

// openLog opens the log and checks what it gives.
func (w *world) openLog() error {
	var wrong error
	first, next := LSN(0), LSN(0)
	c := w.config()
	var mark Mark
	c.OnMark = func(m Mark) error { mark = m; return nil }
	l, report, err := openInline(c, func(e Entry) error {
		want, ok := w.entries[e.LSN]
		switch {
		case first > 0 && e.LSN != next:
			wrong = fmt.Errorf("LSN %d comes after %d", e.LSN, next-1)
		case !ok:
			wrong = fmt.Errorf("LSN %d was never appended", e.LSN)
		case !want.is(e.Payload, e.LSN, &w.scratch):
			wrong = fmt.Errorf("LSN %d has wrong bytes", e.LSN)
		case e.Type != 7:
			wrong = fmt.Errorf("LSN %d has type %d", e.LSN, e.Type)
		}
		if first == 0 {
			first = e.LSN
		}
		next = e.LSN + 1
		want.place = e.Place
		w.entries[e.LSN] = want
		return wrong
	})
	if err == nil {
		err = wrong
	}
	if err != nil {
		return err
	}
	w.log = l
	w.tally.opens++
	if first == 0 {
		first, next = report.NextLSN, report.NextLSN
	}
	if mark.From > 0 {
		w.tally.marked++
	}
	if err := w.checkMark(mark); err != nil {
		return err
	}
	switch {
	case report.NextLSN != next:
		return fmt.Errorf("the log goes on at LSN %d after %d", report.NextLSN, next-1)
	case next < w.floor:
		return fmt.Errorf("durable up to LSN %d, only %d recovered", w.floor, next)
	case next > w.next:
		return fmt.Errorf("recovered up to LSN %d, only %d appended", next, w.next)
	case first > w.mayGo:
		return fmt.Errorf("begins at LSN %d, only what is below %d was dropped", first, w.mayGo)
	case first < w.gone:
		return fmt.Errorf("begins at LSN %d, what is below %d was dropped", first, w.gone)
	case l.Durable() != next:
		return fmt.Errorf("durable up to LSN %d after recovery up to %d", l.Durable(), next)
	case next > first && w.entries[next-1].regionEnd != next:
		return fmt.Errorf("a region that ends at LSN %d was split at %d", w.entries[next-1].regionEnd, next)
	}
	w.tally.reappended += report.Reappended
	if report.CutBytes > 0 {
		w.tally.torn++
	}
	for _, f := range l.files.manifest.files {
		w.tally.rolls++
		if f.cutAt > 0 {
			w.tally.cut++
		}
	}
	for lsn := next; lsn < w.next; lsn++ {
		delete(w.entries, lsn) // lost, and from now on never to be seen again
	}
	w.next = next
	if w.after == nil { // else the disk was gone before this was known
		w.floor, w.gone = next, first
	}
	return w.readSome(10)
}

func (w *world) step() error {
	before := w.log.Durable()
	var err error
	switch w.rng.IntN(13) {
	case 0, 1, 2, 3, 4:
		w.reserve()
		if w.rng.IntN(4) > 0 {
			w.finishRegion()
		}
	case 5:
		w.finishRegion()
	case 6, 7, 8:
		w.commit()
	case 9:
		w.log.mu.Lock()
		w.log.flush = true
		w.log.mu.Unlock()
		w.commit()
	case 10:
		w.log.mu.Lock()
		w.log.idle.fired, w.log.idle.since = true, w.log.synced
		w.log.mu.Unlock()
		w.commit()
		err = w.readSome(3)
	case 11:
		w.drop()
		err = w.readSome(3)
	case 12:
		w.mark()
	}
	if w.after == nil && w.rng.IntN(100) == 0 {
		w.crash()
	}
	if d := w.log.Durable(); err == nil && (d < before || d > w.next) {
		err = fmt.Errorf("the durable position goes from %d to %d, of %d", before, d, w.next)
	}
	return err
}

// commit lets the committer work, once all regions are filled: it would wait for
// them.
func (w *world) commit() {
	for len(w.open) > 0 {
		w.finishRegion()
	}
	w.log.step()
}

func (w *world) reserve() {
	sizes := make([]int, 1+w.rng.IntN(4))
	most := 300
	switch w.rng.IntN(30) {
	case 0, 1, 2:
		most = 200_000
	case 3:
		most, sizes = 700_000, make([]int, 3+w.rng.IntN(6))
		w.tally.large++
	case 4:
		sizes = make([]int, 40)
	}
	total := 0
	for i := range sizes {
		sizes[i] = w.rng.IntN(most)
		if w.rng.IntN(4) == 0 { // around the ends of blocks
			rest := blockBytes - (w.at()+int64(total))%blockBytes
			if rest < int64(most)*2 {
				sizes[i] = max(0, int(rest)-RecordOverhead*2+w.rng.IntN(2*RecordOverhead))
			}
		}
		total += sizes[i] + RecordOverhead
	}
	r := w.log.Reserve(len(sizes), total, w.rng.IntN(2) == 0)
	w.next += LSN(len(sizes))
	w.open = append(w.open, heldRegion{&r, sizes})
}

// at is where the next region would begin, if it fits there.
func (w *world) at() int64 {
	if g := w.log.gathering; g != nil {
		return g.end
	}
	return w.log.at + batchHeaderBytes
}

// finishRegion fills one of the regions that are open.
func (w *world) finishRegion() {
	if len(w.open) == 0 {
		return
	}
	i := w.rng.IntN(len(w.open))
	h := w.open[i]
	w.open = append(w.open[:i], w.open[i+1:]...)
	end := h.r.next + LSN(len(h.sizes))
	for _, n := range h.sizes {
		payload, at, lsn := h.r.Add(7, n)
		e := entry{run: w.runs, bytes: n, regionEnd: end, place: at}
		e.fill(payload, lsn)
		w.entries[lsn] = e
		w.tally.records++
	}
	h.r.Done()
}

func (w *world) drop() {
	files := w.log.Files()
	if len(files) < 2 {
		return
	}
	w.mayGo = max(w.mayGo, files[1].FirstLSN)
	if w.log.Durable() < files[1].FirstLSN || w.log.Drop(files[0].Number) != nil {
		return
	}
	w.tally.drops++
	if w.after == nil {
		w.gone = files[1].FirstLSN
	}
}

// mark sets a mark, as a checkpoint does that knows all records by place.
func (w *world) mark() {
	durable := w.log.Durable()
	files := w.log.Files()
	from := w.log.Marked().From
	if len(files) == 0 || durable <= max(from, files[0].FirstLSN) {
		return
	}
	from = max(from, durable-LSN(w.rng.Uint64N(uint64(min(20, durable-max(from, files[0].FirstLSN))))))
	places := map[LSN]Place{}
	for lsn := files[0].FirstLSN; lsn < durable; lsn++ {
		places[lsn] = w.entries[lsn].place
	}
	name := fmt.Sprintf("ckpt-%d", len(w.marks))
	w.marks[name] = places
	w.mayGo = max(w.mayGo, from)
	if w.log.SetMark(Mark{Name: name, From: from}) != nil {
		return
	}
	w.tally.marks++
	if w.after == nil {
		w.gone = max(w.gone, from)
	}
}

// checkMark reads what was there when the mark was set, by the places of then.
func (w *world) checkMark(m Mark) error {
	if m.From == 0 {
		return nil
	}
	files := w.log.Files()
	places := w.marks[m.Name]
	for _, lsn := range slices.Sorted(maps.Keys(places)) {
		at := places[lsn]
		if len(files) == 0 || lsn < files[0].FirstLSN || w.log.Err() != nil {
			continue
		}
		if w.rng.IntN(5) > 0 && lsn < m.From {
			continue
		}
		if err := w.log.Load(at); err != nil {
			return fmt.Errorf("load LSN %d where %s has it: %w", lsn, m.Name, err)
		}
		if r, ok := w.log.Resident(at); !ok || !w.entries[lsn].is(r.Payload, lsn, &w.scratch) {
			return fmt.Errorf("LSN %d has wrong bytes where %s has it", lsn, m.Name)
		}
	}
	return nil
}

// readSome reads records that are there.
func (w *world) readSome(count int) error {
	files := w.log.Files()
	if len(files) == 0 || w.log.Err() != nil {
		return nil
	}
	for range count {
		first := files[0].FirstLSN
		if first >= w.next {
			return nil
		}
		lsn := first + LSN(w.rng.Uint64N(uint64(w.next-first)))
		e, ok := w.entries[lsn]
		if !ok || e.place == 0 {
			continue // not filled yet
		}
		r, ok := w.log.Resident(e.place)
		if !ok {
			w.tally.loads++
			if err := w.log.Load(e.place); err != nil {
				return fmt.Errorf("load LSN %d: %w", lsn, err)
			}
			if r, ok = w.log.Resident(e.place); !ok {
				return fmt.Errorf("LSN %d is not resident after Load", lsn)
			}
		}
		if !e.is(r.Payload, lsn, &w.scratch) {
			return fmt.Errorf("LSN %d is read with wrong bytes", lsn)
		}
	}
	return nil
}
