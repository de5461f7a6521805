package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// In testdata/data-vN stands a data directory as a crash has left it, with a
// checkpoint of version N and log behind it. Every later version of the program
// has to read it: a change of the format adds a directory and changes none.
//
//	ENGINE_FIXTURE=testdata/data-v3 go test ./internal/engine -run TestMakeFixture
//	ENGINE_GOLDEN=1 go test ./internal/engine -run TestFixtures
//
// The second writes down what a start finds; read it before it is committed.

// TestMakeFixture makes such a directory, if it is told to.
func TestMakeFixture(t *testing.T) {
	dir := os.Getenv("ENGINE_FIXTURE")
	if dir == "" {
		t.Skip("ENGINE_FIXTURE says where to")
	}
	fsys := vfs.NewMem()
	fillFixture(t, fsys)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	names, err := fsys.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "LOCK" || strings.HasPrefix(name, "RESERVE") || strings.HasPrefix(name, "spare") {
			continue // nothing is in them
		}
		b := readWhole(t, fsys, "/data/"+name)
		if strings.HasPrefix(name, "log-") {
			const page = 4096 // what is not there reads as zeros
			b = b[:(len(bytes.TrimRight(b, "\x00"))+page-1)/page*page]
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readWhole(t *testing.T, fsys vfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.OpenRead(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	b := make([]byte, size)
	if err == nil && size > 0 {
		_, err = f.ReadAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fillFixture does a bit of everything, makes a checkpoint, does some more, and
// crashes.
func fillFixture(t *testing.T, fsys vfs.FS) {
	clock := newHandClock()
	config := durableConfig(fsys, clock)
	config.Disk.BlobBytes = 500
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	conn, ch := open(t, e)
	must(t, ch.DeclareExchange(&wire.ExchangeDeclare{Exchange: "events", Type: "topic", Durable: true, Arguments: arguments("alternate-exchange", "other")}))
	must(t, ch.DeclareExchange(&wire.ExchangeDeclare{Exchange: "inner", Type: "fanout", Durable: true, AutoDelete: true, Internal: true}))
	for _, q := range []wire.QueueDeclare{
		{Queue: "gone"}, {Queue: "plain"}, {Queue: "levels", Arguments: arguments("x-max-priority", 3)},
		{Queue: "expiring", Arguments: arguments("x-message-ttl", 100_000, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")},
		{Queue: "dead", Arguments: arguments("x-max-length", 50)}, {Queue: "long"},
	} {
		q.Durable = true
		declare(t, ch, &q)
	}
	for _, name := range []string{"plain", "levels"} {
		must(t, ch.BindQueue(&wire.QueueBind{Queue: name, Exchange: "events", RoutingKey: "a.#"}))
	}
	must(t, ch.BindExchange(&wire.ExchangeBind{Source: "events", Destination: "inner", RoutingKey: "*", Arguments: arguments("key", 7)}))
	id := uint64(0)
	publish := func(p publishing) {
		id++
		p.id, p.persistent = id, true
		must(t, send(ch, p))
	}
	take := func(queue string, n int) (tags []uint64) {
		for range n {
			ok, err := ch.Get(queue, false)
			if must(t, err); !ok {
				t.Fatalf("%s is empty", queue)
			}
			for _, r := range drain(t, conn) {
				if m, is := r.method.(*wire.BasicGetOk); is {
					tags = append(tags, m.DeliveryTag)
				}
			}
		}
		return tags
	}
	for n := range 3 {
		publish(publishing{key: "gone"})
		publish(publishing{key: "plain", bodyBytes: 30 * n})
		publish(publishing{key: "levels", priority: uint8(n)})
		publish(publishing{exchange: "events", key: "a.b"})
		publish(publishing{key: "expiring", expiration: fmt.Sprint(200_000 - 60_000*n)})
	}
	publish(publishing{exchange: "events", key: "a.b", bodyBytes: 700}) // in a blob, for two queues
	for range 530 {
		publish(publishing{key: "long"})
	}
	conn.Flush()
	must(t, ch.DeleteQueue(&wire.QueueDelete{Queue: "gone"}, func(uint32) {}))
	tags := take("plain", 4) // one acked, two returned of which one comes again, one out
	must(t, ch.Ack(tags[0], false))
	must(t, ch.Nack(tags[1], false, true))
	must(t, ch.Nack(tags[2], false, true))
	must(t, ch.Nack(take("plain", 1)[0], false, true))
	must(t, ch.Nack(take("expiring", 1)[0], false, false)) // a dead letter
	conn.Flush()
	must(t, e.settled())
	e.janitor.round()
	if err := e.checkpoint(func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	clock.advance(5 * time.Second)
	declare(t, ch, &wire.QueueDeclare{Queue: "late", Durable: true})
	must(t, ch.UnbindQueue(&wire.QueueUnbind{Queue: "levels", Exchange: "events", RoutingKey: "a.#"}))
	publish(publishing{key: "late"})
	publish(publishing{key: "late", bodyBytes: 800}) // in a blob too
	publish(publishing{exchange: "events", key: "a.c"})
	must(t, ch.Ack(take("levels", 1)[0], false))
	must(t, ch.Nack(take("expiring", 1)[0], false, false))
	take("late", 1)
	conn.Flush()
	must(t, e.settled())
	e.Abandon()
}

// checkpointVersions is the number of versions there have been.
const checkpointVersions = 3

// TestFixtures reads the directories of all versions.
func TestFixtures(t *testing.T) {
	dirs, err := filepath.Glob("testdata/data-v?")
	if err != nil || len(dirs) != checkpointVersions {
		t.Fatalf("%v, %v: want one for each version", dirs, err)
	}
	for _, dir := range dirs {
		fsys := vfs.NewMem()
		loadDir(t, fsys, dir)
		got := foundIn(t, fsys)
		if os.Getenv("ENGINE_GOLDEN") != "" {
			if err := os.WriteFile(dir+".golden", []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(dir + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s holds\n%s", dir, got)
		}
		// A start has written: the next one finds the same.
		if again := foundIn(t, fsys); again != got {
			t.Errorf("%s holds, at the second start,\n%s", dir, again)
		}
	}
}

func loadDir(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	for _, x := range entries {
		b, err := os.ReadFile(filepath.Join(dir, x.Name()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := fsys.Create("/data/" + x.Name())
		if err == nil {
			_, err = f.WriteAt(b, 0)
			err = errors.Join(err, f.Sync(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// foundIn opens a directory and writes down all that it holds.
func foundIn(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	e := openDurable(t, fsys)
	defer e.Abandon()
	var lines []string
	vh := e.vhosts["/"]
	vh.mu.RLock()
	for _, d := range definitionsOf(vh) {
		lines = append(lines, fmt.Sprintf("%+v", d))
	}
	vh.mu.RUnlock()
	slices.Sort(lines)
	for _, q := range e.allQueues() {
		for cold := true; cold; {
			e.warm(q, allCold(q))
			cold = len(allCold(q)) > 0
		}
		for _, h := range q.walkAll() {
			lines = append(lines, describe(t, e, q, h))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func allCold(q *Queue) (pages []queue.ColdPage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var at queue.Cursor
	for more := true; more; {
		pages, more = q.m.ColdWhere(&at, func(*queue.Cold) bool { return true }, pages)
	}
	return pages
}

// describe is a line about one message. Deadlines are in seconds after the time at
// which the directory was begun.
func describe(t *testing.T, e *Engine, q *Queue, h queue.Held) string {
	t.Helper()
	ref := store.Ref(h.Entry.Ref)
	if err := e.disk.Load(ref); err != nil {
		t.Fatal(err)
	}
	rec, ok := e.record(ref)
	if !ok {
		t.Fatalf("message %d of %s is not in memory", h.Seq, q.def.Name)
	}
	body, err := bodyOf(e, ref, rec)
	if err != nil {
		t.Fatal(err)
	}
	_, pos := h.Seq.Split()
	line := fmt.Sprintf("%s/%d: message %d, %d bytes, exchange %q, key %q, flags %d", q.def.Name, pos,
		binary.BigEndian.Uint64(body), h.Entry.BodyBytes, rec.Exchange(), rec.Key(), h.Entry.Flags)
	if ref.Large() {
		line += ", in a blob"
	}
	if h.Priority > 0 {
		line += fmt.Sprintf(", priority %d", h.Priority)
	}
	if h.Deadline != queue.Never {
		line += fmt.Sprintf(", until %g s", time.Duration(int64(h.Deadline)-newHandClock().at.UnixNano()).Seconds())
	}
	if h.Tries != (queue.Tries{}) {
		line += fmt.Sprintf(", tries %+v", h.Tries)
	}
	return line
}
