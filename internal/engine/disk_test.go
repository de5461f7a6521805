package engine

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// durableConfig is an engine with small files and next to no memory for bodies.
func durableConfig(fsys vfs.FS, clock Clock) Config {
	return Config{VHosts: []string{"/"}, Clock: clock, Disk: &DiskConfig{
		FS: fsys, Dir: "/data", FileBytes: 1 << 20, ResidentBytes: 1, CompactSlackBytes: 1, IndexBytes: 1, HandJanitor: true}}
}

func openDurable(t testing.TB, fsys vfs.FS) *Engine {
	t.Helper()
	e, err := New(durableConfig(fsys, newHandClock()))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// idsIn takes everything out of a queue.
func idsIn(t testing.TB, e *Engine, name string) (ids []uint64) {
	t.Helper()
	c, ch := open(t, e)
	for {
		ok, err := ch.Get(name, true)
		must(t, err)
		if !ok {
			break
		}
		for _, r := range drain(t, c) {
			ids = append(ids, r.id)
		}
	}
	c.Close()
	return ids
}

// TestFilesGoAndMessagesStay fills several log files, settles all of the first,
// lets the janitor work, and crashes: the messages in the files between have to
// find their queue, although the file that declared it is gone.
func TestFilesGoAndMessagesStay(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	must(t, ch.DeclareExchange(&wire.ExchangeDeclare{Exchange: "x", Type: "fanout", Durable: true}))
	for _, name := range []string{"q", "other"} {
		declare(t, ch, &wire.QueueDeclare{Queue: name, Durable: true})
		must(t, ch.BindQueue(&wire.QueueBind{Queue: name, Exchange: "x"}))
	}
	const n = 100
	for id := range uint64(n) {
		must(t, send(ch, publishing{key: "q", id: id + 1, bodyBytes: 100_000, persistent: true}))
		ch.conn.Flush()
		must(t, e.settled())
	}
	for range n / 2 {
		if ok, err := ch.Get("q", true); !ok || err != nil {
			t.Fatal(ok, err)
		}
		drain(t, ch.conn)
	}
	if err := e.checkpoint(func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	before := len(e.disk.Use())
	e.janitor.round()
	e.janitor.round()
	if after := len(e.disk.Use()); after >= before {
		t.Fatalf("%d log files after the janitor, %d before", after, before)
	}
	must(t, e.settled())
	clone := fsys.CrashClone(vfs.KeepNone, nil)
	e.Abandon()

	e = openDurable(t, clone)
	ids := idsIn(t, e, "q")
	if len(ids) != n/2 || ids[0] != n/2+1 {
		t.Errorf("%d messages are back, want %d: %v", len(ids), n/2, ids)
	}
	_, ch = open(t, e)
	must(t, send(ch, publishing{exchange: "x", id: 7, persistent: true}))
	ch.conn.Flush()
	if got := fmt.Sprint(idsIn(t, e, "q"), idsIn(t, e, "other")); got != "[7] [7]" {
		t.Errorf("the exchange leads to %s", got)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestExchangeThatLosesItsLastDurableBinding has an auto-delete exchange with a
// durable and a transient binding lose the durable one: it stays, although a
// start sees no binding left.
func TestExchangeThatLosesItsLastDurableBinding(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	must(t, ch.DeclareExchange(&wire.ExchangeDeclare{Exchange: "x", Type: "fanout", Durable: true, AutoDelete: true}))
	for _, name := range []string{"q", "transient"} {
		declare(t, ch, &wire.QueueDeclare{Queue: name, Durable: name == "q"})
		must(t, ch.BindQueue(&wire.QueueBind{Queue: name, Exchange: "x"}))
	}
	must(t, ch.UnbindQueue(&wire.QueueUnbind{Queue: "q", Exchange: "x"}))
	must(t, ch.BindQueue(&wire.QueueBind{Queue: "q", Exchange: "x", RoutingKey: "again"}))
	clone := fsys.CrashClone(vfs.KeepNone, nil)
	e.Abandon()
	e = openDurable(t, clone)
	_, ch = open(t, e)
	must(t, send(ch, publishing{exchange: "x", id: 7, persistent: true}))
	ch.conn.Flush()
	if got := idsIn(t, e, "q"); len(got) != 1 {
		t.Errorf("the exchange leads to nothing: %v", got)
	}
	e.Abandon()
}

// TestCommitWaitsForAllItsPublishes commits a transaction whose last publish
// needs no disk: the ones before it do.
func TestCommitWaitsForAllItsPublishes(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "memory"})
	must(t, ch.BindQueue(&wire.QueueBind{Queue: "q", Exchange: "amq.fanout"}))
	must(t, ch.BindQueue(&wire.QueueBind{Queue: "memory", Exchange: "amq.fanout"}))
	must(t, ch.SelectTx())
	must(t, send(ch, publishing{exchange: "amq.fanout", id: 1, persistent: true}))
	must(t, send(ch, publishing{key: "memory", id: 2}))
	var clone *vfs.MemFS
	must(t, ch.CommitTx(func() { clone = fsys.CrashClone(vfs.KeepNone, nil) }))
	e.Abandon()
	e = openDurable(t, clone)
	if got := idsIn(t, e, "q"); len(got) != 1 {
		t.Errorf("after commit-ok and a power loss the queue holds %v", got)
	}
	e.Abandon()
}

// walkAll lists a queue's messages.
func (q *Queue) walkAll() (list []queue.Held) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for c := (queue.Cursor{}); q.m.Walk(&c, func(h queue.Held) { list = append(list, h) }); {
	}
	return list
}

// refPlace is the log file of a record and its offset.
func refPlace(ref uint64) (name string, at int64) {
	r := store.Ref(ref)
	return fmt.Sprintf("log-%08d", r.File()), int64(ref & (1<<36 - 1))
}

func yield() { runtime.Gosched() }

// TestUnreadableMessageKeepsOneFileOnly damages a message among others that are
// few and far between: its file stays, the others are emptied and go.
func TestUnreadableMessageKeepsOneFileOnly(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	conn, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	var tags []uint64
	for id := range uint64(60) {
		must(t, send(ch, publishing{key: "q", id: id + 1, bodyBytes: 150_000, persistent: true}))
		conn.Flush()
		must(t, e.settled())
	}
	for range 60 {
		if ok, err := ch.Get("q", false); !ok || err != nil {
			t.Fatal(ok, err)
		}
		for _, r := range drain(t, conn) {
			if m, is := r.method.(*wire.BasicGetOk); is {
				tags = append(tags, m.DeliveryTag)
			}
		}
	}
	for i, tag := range tags {
		if i%6 != 2 {
			must(t, ch.Ack(tag, false))
		}
	}
	ch.Close()
	damageBody(t, e, fsys, "q", 1)
	before := len(e.disk.Use())
	for range 3 * before {
		if err := e.checkpoint(func() bool { return false }); err != nil {
			t.Fatal(err)
		}
		e.janitor.round()
	}
	left := e.disk.Use()
	if before < 8 || len(left) > 5 || left[0].Refs != 1 {
		t.Errorf("%d log files before, after %+v", before, left)
	}
	if ids := idsIn(t, e, "q"); len(ids) != 9 {
		t.Errorf("the queue gives %v, want 9 messages", ids)
	}
	e.Abandon()
}

// TestQueueOfTheSameNameOutlivesTheFirst: a start reads that a queue was declared,
// deleted and declared again; the first one's expiry is not the second one's.
func TestQueueOfTheSameNameOutlivesTheFirst(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	for _, expires := range []int{500, 3_600_000} {
		must(t, ch.DeleteQueue(&wire.QueueDelete{Queue: "w"}, func(uint32) {}))
		declare(t, ch, &wire.QueueDeclare{Queue: "w", Durable: true, Arguments: arguments("x-expires", expires)})
	}
	e.Abandon()
	e = openDurable(t, fsys)
	defer e.Abandon()
	if armed := len(e.timers.heap); armed != 1 {
		t.Errorf("%d timers for one queue", armed)
	}
	_, ch = open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "short", Durable: true, Arguments: arguments("x-expires", 600)})
	e.clock.(*handClock).advance(time.Second)
	for until := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		e.vhosts["/"].mu.RLock()
		top := e.vhosts["/"].top
		w, short := top.Queue("w"), top.Queue("short")
		e.vhosts["/"].mu.RUnlock()
		if w == nil {
			t.Fatal("the second queue went with the first")
		}
		if short == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("nothing expires")
		}
	}
}
