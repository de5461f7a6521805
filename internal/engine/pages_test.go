package engine

import (
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// longQueue is an engine with n small messages, ids from 1 on, in queue q, and all
// pages cold that may be.
func longQueue(t *testing.T, fsys vfs.FS, n int, args ...any) *Engine {
	t.Helper()
	e := openDurable(t, fsys)
	conn, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: arguments(args...)})
	for id := range uint64(n) {
		must(t, send(ch, publishing{key: "q", id: id + 1, bodyBytes: 20, persistent: true}))
	}
	conn.Flush()
	conn.Close()
	e.janitor.round()
	if coldPages(e) < n/256-2 {
		t.Fatalf("only %d pages are cold", coldPages(e))
	}
	return e
}

func coldPages(e *Engine) (n int) {
	for _, q := range e.allQueues() {
		q.mu.Lock()
		n += q.m.ColdPages()
		q.mu.Unlock()
	}
	return n
}

func wantIDs(t *testing.T, got []uint64, from, to uint64) {
	t.Helper()
	var want []uint64
	for id := from; id <= to; id++ {
		want = append(want, id)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d messages come, not %d to %d in order: %v", len(got), from, to, got)
	}
}

// TestColdPagesSurvive: through consumers, a checkpoint and a kill, and their files
// go with them.
func TestColdPagesSurvive(t *testing.T) {
	const n = 20 * 256
	fsys := vfs.NewMem()
	e := longQueue(t, fsys, n)
	if err := e.checkpoint(func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	left := fsys.CrashClone(vfs.KeepNone, nil)
	wantIDs(t, idsIn(t, e, "q"), 1, n)
	if err := e.settled(); err != nil {
		t.Fatal(err)
	}
	e.Abandon()

	e = openDurable(t, left)
	if coldPages(e) == 0 {
		t.Error("a start brings all pages into memory")
	}
	conn, ch := open(t, e)
	got := map[uint64]bool{}
	consume(t, ch, Consume{Queue: "q", Tag: "t", NoAck: true})
	waitIDs(t, conn, got, n)
	if err := e.settled(); err != nil {
		t.Fatal(err)
	}
	if n := e.disk.References(); n != 0 {
		t.Errorf("%d references into the log are left", n)
	}
	for range 2 { // the first one still has a file that is being written to
		if err := e.checkpoint(func() bool { return false }); err != nil {
			t.Fatal(err)
		}
	}
	if files := pageFiles(t, left); len(files) > 0 {
		t.Errorf("page files stay: %v", files)
	}
	e.Abandon()
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pageFiles(t *testing.T, fsys *vfs.MemFS) (files []string) {
	t.Helper()
	names, err := fsys.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "pages-") {
			files = append(files, name)
		}
	}
	return files
}

// TestPurgeAndDeleteOfColdPages: no page is read, nothing is left referenced, and
// nothing comes back.
func TestPurgeAndDeleteOfColdPages(t *testing.T) {
	for _, how := range []string{"purge", "delete"} {
		t.Run(how, func(t *testing.T) {
			fsys := vfs.NewMem()
			e := longQueue(t, fsys, 10*256)
			noError(t, e.checkpoint(func() bool { return false }))
			_, ch := open(t, e)
			if how == "purge" {
				if n, err := ch.Purge("q"); err != nil || n != 10*256 {
					t.Fatalf("purged %d: %v", n, err)
				}
			} else if err := ch.DeleteQueue(&wire.QueueDelete{Queue: "q"}, func(uint32) {}); err != nil {
				t.Fatal(err)
			}
			if n := e.disk.References(); n != 0 {
				t.Errorf("%d references into the log are left", n)
			}
			left := fsys.CrashClone(vfs.KeepNone, nil)
			e.Abandon()
			e = openDurable(t, left)
			defer e.Abandon()
			if n := e.disk.References(); n != 0 {
				t.Errorf("%d references after a start", n)
			}
			if how == "purge" {
				wantIDs(t, idsIn(t, e, "q"), 1, 0)
			}
		})
	}
}

// TestDamagedPageIsSetAside: the messages behind it come, none comes wrong, and a
// start from the checkpoint still knows that there are some.
func TestDamagedPageIsSetAside(t *testing.T) {
	const n = 5 * 256
	fsys := vfs.NewMem()
	e := longQueue(t, fsys, n)
	noError(t, e.checkpoint(func() bool { return false }))
	name := path.Join("/data", pageFiles(t, fsys)[0])
	f, err := fsys.Open(name)
	noError(t, err)
	_, err = f.WriteAt([]byte{0xff}, 30+4200) // in the second page of the file: messages 513 to 768
	noError(t, err)
	noError(t, f.Sync())
	left := fsys.Clone()
	check := func(e *Engine) {
		t.Helper()
		var want []uint64
		for id := uint64(1); id <= n; id++ {
			if id <= 512 || id > 768 {
				want = append(want, id)
			}
		}
		if got := idsIn(t, e, "q"); !slices.Equal(got, want) {
			t.Errorf("%d messages come: %v", len(got), got)
		}
		if got := setAside(e, "q"); got != 256 {
			t.Errorf("%d messages are set aside", got)
		}
	}
	check(e)
	e.Abandon()
	e = openDurable(t, left)
	check(e)
	e.Abandon()
}

// TestMessagesInColdPagesMove: the janitor empties a log file that only cold pages
// refer to.
func TestMessagesInColdPagesMove(t *testing.T) {
	const n = 4 * 256 // less than half a file
	fsys := vfs.NewMem()
	e := longQueue(t, fsys, n)
	conn, ch := open(t, e)
	// The rest of the file, and more, is dead soon.
	declare(t, ch, &wire.QueueDeclare{Queue: "other", Durable: true})
	for id := range uint64(20_000) {
		must(t, send(ch, publishing{key: "other", id: id + 10_000, bodyBytes: 20, persistent: true}))
	}
	conn.Flush()
	must(t, e.settled())
	if _, err := ch.Purge("other"); err != nil {
		t.Fatal(err)
	}
	first := e.disk.Use()[0].Number
	for range 6 {
		noError(t, e.checkpoint(func() bool { return false }))
		e.janitor.round()
	}
	for _, f := range e.disk.Use() {
		if f.Number == first {
			t.Errorf("log file %d stays", first)
		}
	}
	left := fsys.CrashClone(vfs.KeepNone, nil)
	e.Abandon()
	e = openDurable(t, left)
	defer e.Abandon()
	wantIDs(t, idsIn(t, e, "q"), 1, n)
}

// TestColdMessagesExpireOnTime: the timers ask for the page, although nobody
// consumes.
func TestColdMessagesExpireOnTime(t *testing.T) {
	const n = 6 * 256
	fsys := vfs.NewMem()
	e := longQueue(t, fsys, n, "x-message-ttl", 1000, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")
	defer e.Abandon()
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "dead", Durable: true})
	e.clock.(*handClock).advance(2e9)
	dead := e.vhosts["/"].top.Queue("dead").Runtime.(*Queue)
	for got, until := uint32(0), time.Now().Add(20*time.Second); got != n; got, _ = dead.counts() {
		if time.Now().After(until) {
			t.Fatalf("%d of %d are dead", got, n)
		}
		runtime.Gosched()
	}
	wantIDs(t, idsIn(t, e, "dead"), 1, n) // in order, although several goroutines meet them
}
