package engine

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

func filesNamed(t testing.TB, fsys vfs.FS, prefix string) (list []string) {
	t.Helper()
	names, err := fsys.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			list = append(list, name)
		}
	}
	return list
}

// floodRun is how many messages flood flushes at once.
const floodRun = 16

// flood publishes messages with ids from 1 and returns the most memory that bodies
// took.
func flood(t *testing.T, ch *Channel, p publishing, n int) (most int64) {
	t.Helper()
	for id := range uint64(n) {
		p.id = id + 1
		must(t, send(ch, p))
		if id%floodRun == floodRun-1 {
			ch.conn.Flush()
			most = max(most, ch.conn.e.arena.Used())
		}
	}
	ch.conn.Flush()
	return most
}

// inOrder reads deliveries until n have come, from the given id on.
func inOrder(t *testing.T, c *Conn, from uint64, n int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	next := from
	for next < from+uint64(n) && time.Now().Before(deadline) {
		for _, r := range drain(t, c) {
			if _, is := r.method.(*wire.BasicDeliver); is {
				if r.id != next {
					t.Fatalf("message %d comes when it is the turn of %d", r.id, next)
				}
				next++
			}
		}
		yield()
	}
	if next != from+uint64(n) {
		t.Fatalf("after message %d nothing comes", next-1)
	}
}

// TestTransientMessagesSpill floods queues with what is in no log, beyond the
// memory that bodies may take: it stays flat, everything comes in order, and the
// files go with the last message.
func TestTransientMessagesSpill(t *testing.T) {
	for name, x := range map[string]struct {
		queue wire.QueueDeclare
		p     publishing
	}{
		"transient message, durable queue":    {wire.QueueDeclare{Queue: "q", Durable: true}, publishing{key: "q", bodyBytes: 20_000}},
		"transient queue, persistent message": {wire.QueueDeclare{Queue: "q"}, publishing{key: "q", bodyBytes: 20_000, persistent: true}},
		"transient queue and message, large":  {wire.QueueDeclare{Queue: "q"}, publishing{key: "q", bodyBytes: 400_000}},
		"transient queue, dead letters":       {wire.QueueDeclare{Queue: "q", Arguments: arguments("x-dead-letter-exchange", "")}, publishing{key: "q", bodyBytes: 20_000}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := vfs.NewMem()
			e := openDurable(t, fsys)
			conn, ch := open(t, e)
			declare(t, ch, &x.queue)
			n := 32 << 20 / x.p.bodyBytes
			if most := flood(t, ch, x.p, n); most > 4*store.ChunkBytes+2*floodRun*int64(x.p.bodyBytes) {
				t.Errorf("%d bytes in memory", most)
			}
			if len(filesNamed(t, fsys, "scratch-")) == 0 {
				t.Fatal("nothing has spilled")
			}
			if ok, err := ch.Get("q", true); !ok || err != nil {
				t.Fatal(ok, err)
			}
			drain(t, conn)
			consume(t, ch, Consume{Queue: "q", Tag: "t", NoAck: true})
			inOrder(t, conn, 2, n-1)
			conn.Close()
			e.janitor.round()
			if left := filesNamed(t, fsys, "scratch-"); len(left) > 0 || e.arena.References() != 0 {
				t.Errorf("%v and %d references are left", left, e.arena.References())
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSpilledMessagesEverywhere takes spilled messages on the other ways out of a
// queue: dead-lettered, given back, purged, deleted with it; and lets a crash
// leave the files.
func TestSpilledMessagesEverywhere(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	conn, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Arguments: arguments(
		"x-message-ttl", 60_000, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")})
	declare(t, ch, &wire.QueueDeclare{Queue: "dead", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "purged"})
	declare(t, ch, &wire.QueueDeclare{Queue: "deleted"})
	const n = 400
	for _, name := range []string{"purged", "deleted", "q"} {
		flood(t, ch, publishing{key: name, bodyBytes: 20_000}, n)
	}
	_, err := ch.Purge("purged")
	must(t, err)
	must(t, ch.DeleteQueue(&wire.QueueDelete{Queue: "deleted"}, func(uint32) {}))
	for range 20 { // out, and back again
		if ok, err := ch.Get("q", false); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	drain(t, conn)
	ch.Recover()
	e.clock.(*handClock).advance(time.Hour)
	ids := idsIn(t, e, "dead")
	if len(ids) != n {
		t.Fatalf("%d of %d dead letters", len(ids), n)
	}
	for i, id := range ids {
		if id != uint64(i+1) {
			t.Fatalf("dead letter %d is message %d", i+1, id)
		}
	}
	if e.arena.References() != 0 {
		t.Errorf("%d references are left", e.arena.References())
	}
	flood(t, ch, publishing{key: "purged", bodyBytes: 20_000}, n)
	clone := fsys.Clone()
	e.Abandon()
	if len(filesNamed(t, clone, "scratch-")) == 0 {
		t.Fatal("nothing has spilled")
	}
	e = openDurable(t, clone)
	if left := filesNamed(t, clone, "scratch-"); len(left) > 0 {
		t.Errorf("%v are left after a start", left)
	}
	e.Abandon()
}

// TestScratchOnAFullDisk: what cannot be written stays in memory until the memory
// alarm rises; with room on the disk again the janitor ends it, although nobody
// consumes.
func TestScratchOnAFullDisk(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	c := durableConfig(fault, newHandClock())
	c.MemoryLimitBytes = 12 << 20
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q"})
	fault.Add(vfs.Rule{Name: "scratch-*", Nth: 1, Sticky: true, Err: syscall.ENOSPC})
	sent := 0
	for !e.alarm.memory.Load() {
		if sent++; sent > 1000 {
			t.Fatal("no alarm")
		}
		must(t, send(ch, publishing{key: "q", id: uint64(sent), bodyBytes: 20_000}))
		ch.conn.Flush()
	}
	if sent < 11<<20/20_100 {
		t.Errorf("the alarm rises after %d messages", sent)
	}
	fault.Clear()
	e.janitor.round()
	ch.conn.Flush()
	e.alarm.check()
	if e.alarm.memory.Load() {
		t.Errorf("the alarm stays with %d bytes in memory", e.arena.Used())
	}
	if ids := idsIn(t, e, "q"); len(ids) != sent {
		t.Errorf("%d of %d messages", len(ids), sent)
	}
	e.Abandon()
}

// TestDamagedScratch sets messages aside that cannot be read back, and goes on
// with those behind them.
func TestDamagedScratch(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	conn, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q"})
	const n = 600
	flood(t, ch, publishing{key: "q", bodyBytes: 20_000}, n)
	if err := vfs.FlipBit(fsys, "/data/scratch-1", 8*(2<<20+100_000)); err != nil {
		t.Fatal(err)
	}
	got := map[uint64]bool{}
	consume(t, ch, Consume{Queue: "q", Tag: "t", NoAck: true})
	const perChunk = floodRun // a run of this size gets a chunk of its own
	waitIDs(t, conn, got, n-perChunk)
	if len(got) != n-perChunk {
		t.Errorf("%d of %d messages have come, want all but the %d of a chunk", len(got), n, perChunk)
	}
	e.Abandon()
}
