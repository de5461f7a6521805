package engine

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

const largeBytes = 300_000

func large(key string, id uint64) publishing {
	return publishing{key: key, id: id, bodyBytes: largeBytes, persistent: true}
}

func blobsOf(t testing.TB, fsys vfs.FS) int { t.Helper(); return len(filesNamed(t, fsys, "blob-")) }

// contentsOf takes what a connection has to send apart, with whole bodies, by the
// delivery's id.
func contentsOf(t testing.TB, c *Conn) map[uint64][]byte {
	t.Helper()
	got := map[uint64][]byte{}
	var body []byte
	flush := func() {
		if len(body) >= 8 {
			got[uint64(body[7])|uint64(body[6])<<8] = body
		}
		body = nil
	}
	for {
		c.Out.mu.Lock()
		empty := len(c.Out.buf) == 0 || c.Out.closed
		c.Out.mu.Unlock()
		if empty {
			flush()
			return got
		}
		b, done, ok := turn(c.Out)
		if !ok {
			flush()
			return got
		}
		for rest := b; len(rest) > 0; {
			f, n, err := wire.ParseFrame(rest, 131072)
			if err != nil || n == 0 {
				t.Fatalf("output is not whole frames: %v", err)
			}
			if rest = rest[n:]; f.Type == wire.FrameBody {
				body = append(body, f.Payload...)
			} else if f.Type == wire.FrameMethod {
				flush()
			}
		}
		if done() {
			c.Refill()
		}
	}
}

// whole fails unless the body is that of the publish.
func whole(t testing.TB, p publishing, body []byte) {
	t.Helper()
	if !bytes.Equal(body, p.record().AppendBody(nil)) {
		t.Errorf("message %d has come with %d bytes, or other ones", p.id, len(body))
	}
}

// TestLargeBodies sends one body to several queues, in the way of a dead letter too,
// over restarts: there is one file, and it goes with the last message.
func TestLargeBodies(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "a", Durable: true, Arguments: arguments("x-dead-letter-exchange", "", "x-dead-letter-routing-key", "dead")})
	declare(t, ch, &wire.QueueDeclare{Queue: "b", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "dead", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "passing"})
	for _, q := range []string{"a", "b", "passing"} {
		must(t, ch.BindQueue(&wire.QueueBind{Queue: q, Exchange: "amq.fanout"}))
	}
	p := large("", 7)
	p.exchange = "amq.fanout"
	must(t, send(ch, p))
	ch.conn.Flush()
	must(t, e.settled())
	if n := blobsOf(t, fsys); n != 1 {
		t.Fatalf("%d files for one body", n)
	}
	if written := e.disk.Written(); written > largeBytes {
		t.Errorf("the log has %d bytes", written)
	}
	get := func(name string, noAck bool) {
		t.Helper()
		conn, ch := open(t, e)
		defer conn.Close()
		ok, err := ch.Get(name, noAck)
		if must(t, err); !ok {
			t.Fatalf("queue %s is empty", name)
		}
		whole(t, p, contentsOf(t, conn)[7])
		if !noAck {
			must(t, ch.Nack(1, false, false))
		}
	}
	get("passing", true)
	get("a", false) // rejected: a dead letter
	get("b", true)
	for _, how := range []string{"crash", "checkpoint and crash", "moved and crash", "close"} {
		must(t, e.settled())
		switch how {
		case "checkpoint and crash":
			if err := e.checkpoint(func() bool { return false }); err != nil {
				t.Fatal(err)
			}
		case "moved and crash":
			// What is behind the checkpoint does not matter to the log's first file.
			if err := e.checkpoint(func() bool { return false }); err != nil {
				t.Fatal(err)
			}
			q := queueNamed(e, "dead")
			e.janitor.move(q, q.walkAll())
			e.janitor.round()
			must(t, e.settled())
		}
		if how == "close" {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		} else {
			fsys = fsys.CrashClone(vfs.KeepNone, nil)
			e.Abandon()
		}
		e = openDurable(t, fsys)
		if n := blobsOf(t, fsys); n != 1 {
			t.Fatalf("%d files after %s", n, how)
		}
		conn, ch := open(t, e)
		if ok, err := ch.Get("dead", false); !ok || err != nil {
			t.Fatalf("after %s: %v, %v", how, ok, err)
		}
		whole(t, p, contentsOf(t, conn)[7])
		conn.Close()
	}
	get("dead", true)
	e.janitor.round()
	if n := blobsOf(t, fsys); n > 0 || e.disk.References() != 0 {
		t.Errorf("%d files and %d references are left", n, e.disk.References())
	}
	e.Abandon()
}

// TestLargeBodiesInOrder has small messages, replies and large bodies in one
// connection's output: they come in order, and whole, and no more than the budget
// waits at once.
func TestLargeBodiesInOrder(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	for id := range uint64(40) {
		p := publishing{key: "q", id: id + 1, bodyBytes: 200, persistent: true}
		if id%3 == 1 {
			p.bodyBytes = largeBytes
		}
		must(t, send(ch, p))
	}
	ch.conn.Flush()
	conn, taker := open(t, e)
	consume(t, taker, Consume{Queue: "q", Tag: "t"})
	if n := len(conn.Out.bodies); n > outputBudgetBytes/bodyHeldBytes {
		t.Errorf("%d bodies wait at once", n)
	}
	next := uint64(1)
	for next <= 40 {
		list, any := drainOnce(t, conn)
		if !any {
			t.Fatalf("after message %d nothing comes", next-1)
		}
		for _, r := range list {
			if m, is := r.method.(*wire.BasicDeliver); is {
				if r.id != next {
					t.Fatalf("message %d comes when it is the turn of %d", r.id, next)
				}
				must(t, taker.Ack(m.DeliveryTag, false))
				next++
			}
		}
		conn.Flush()
	}
	if held := conn.Out.held.Load(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
	e.janitor.round()
	if n := blobsOf(t, fsys); n > 0 {
		t.Errorf("%d files are left", n)
	}
	e.Abandon()
}

// TestLargeBodiesThatGoNowhere: returned, dropped, aborted, rolled back, refused by
// a full queue, replied. None of them leaves a file.
func TestLargeBodiesThatGoNowhere(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	conn, ch := open(t, e)
	p := large("nowhere", 1)
	must(t, send(ch, p))
	p.id, p.mandatory = 2, true
	must(t, send(ch, p))
	conn.Flush()
	whole(t, p, contentsOf(t, conn)[2])

	for _, end := range []func(*Channel){(*Channel).Close, func(ch *Channel) { ch.conn.Close() }} {
		other, och := open(t, e)
		props, err := wire.ScanProps(p.record().Props())
		if err != nil {
			t.Fatal(err)
		}
		if !och.BeginUpload(1<<20, &props) {
			t.Fatal("no upload")
		}
		och.Upload(make([]byte, 400_000))
		if blobsOf(t, fsys) == 0 {
			t.Fatal("the body is not on its way to a file")
		}
		end(och)
		other.Close()
	}

	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "full", Durable: true, Arguments: arguments("x-max-length", 0, "x-overflow", "reject-publish")})
	must(t, send(ch, large("full", 3)))
	conn.Flush()
	for _, end := range []func(*Channel){func(ch *Channel) { must(t, ch.RollbackTx()) }, (*Channel).Close} {
		other, tch := open(t, e)
		must(t, tch.SelectTx())
		must(t, send(tch, large("q", 4)))
		end(tch)
		other.Close()
	}
	asker, ach := open(t, e)
	var address string
	must(t, ach.Consume(Consume{Queue: directReplyTo, Tag: "r", NoAck: true}))
	address = directReplyTo + "." + ach.reply.token
	must(t, send(ch, large(address, 5)))
	conn.Flush()
	whole(t, large(address, 5), contentsOf(t, asker)[5])
	asker.Close()
	must(t, send(ch, large(address, 6))) // nobody there any more
	conn.Flush()

	e.janitor.round()
	if n := blobsOf(t, fsys); n > 0 || e.uploads.Load() != 0 || e.disk.References() != 0 {
		t.Errorf("%d files, %d uploads and %d references are left", n, e.uploads.Load(), e.disk.References())
	}
	e.Abandon()
}

// TestLargeBodiesInATransaction commits some, and crashes.
func TestLargeBodiesInATransaction(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "passing"})
	must(t, ch.SelectTx())
	for id := range uint64(5) {
		must(t, send(ch, large("q", id+1)))
		must(t, send(ch, large("passing", id+1)))
	}
	must(t, ch.CommitTx(func() { fsys = fsys.CrashClone(vfs.KeepNone, nil) }))
	if got := idsIn(t, e, "passing"); len(got) != 5 {
		t.Errorf("the transient queue has %v", got)
	}
	e.Abandon()
	e = openDurable(t, fsys)
	if n := blobsOf(t, fsys); n != 5 {
		t.Errorf("%d files after the start", n)
	}
	if got := fmt.Sprint(idsIn(t, e, "q")); got != "[1 2 3 4 5]" {
		t.Errorf("after the start the queue has %v", got)
	}
	e.Abandon()
}

// TestTooManyUploads: beyond the bound bodies gather in memory as small ones do.
func TestTooManyUploads(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	e.uploads.Store(maxUploads)
	must(t, send(ch, large("q", 1)))
	ch.conn.Flush()
	if n := blobsOf(t, fsys); n != 0 || e.uploads.Load() != maxUploads {
		t.Errorf("%d files, %d uploads", n, e.uploads.Load())
	}
	if got := idsIn(t, e, "q"); len(got) != 1 {
		t.Errorf("the queue has %v", got)
	}
	e.Abandon()
	m := newTestEngine(t, Config{})
	_, ch = open(t, m)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	must(t, send(ch, large("q", 1)))
	ch.conn.Flush()
	if got := idsIn(t, m, "q"); len(got) != 1 {
		t.Errorf("in memory the queue has %v", got)
	}
}

// TestUploadDuringAnAlarm: the reader is held in the middle of the body.
func TestUploadDuringAnAlarm(t *testing.T) {
	e := openDurable(t, vfs.NewMem())
	conn, ch := open(t, e)
	props, err := wire.ScanProps(large("", 1).record().Props())
	if err != nil {
		t.Fatal(err)
	}
	ch.BeginUpload(1<<20, &props)
	ch.Upload(make([]byte, 1000))
	if conn.publishedInAlarm {
		t.Error("held without an alarm")
	}
	e.alarm.setDisk(true)
	ch.Upload(make([]byte, 1000))
	if !conn.publishedInAlarm {
		t.Error("a body goes on during an alarm")
	}
	conn.Close()
	e.Abandon()
}

// TestDamagedBlobIsNeverDelivered damages a body: on the disk before anybody asks
// for it, and while it is on its way. Nobody gets wrong bytes; the message is set
// aside, and those behind it come.
func TestDamagedBlobIsNeverDelivered(t *testing.T) {
	for _, how := range []string{"damaged, get", "damaged, consume", "missing, get", "missing, consume", "under way"} {
		t.Run(how, func(t *testing.T) {
			fsys := vfs.NewMem()
			e := openDurable(t, fsys)
			_, ch := open(t, e)
			declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
			must(t, send(ch, large("q", 1)))
			ch.conn.Flush()
			damaged := filesNamed(t, fsys, "blob-")[0]
			must(t, send(ch, large("q", 2)))
			ch.conn.Flush()
			must(t, e.settled())
			if how != "under way" {
				fsys = fsys.Clone()
				e.Abandon()
			}
			var err error
			if how[:7] == "missing" {
				err = fsys.Remove("/data/" + damaged)
			} else {
				err = vfs.FlipBit(fsys, "/data/"+damaged, 8*(store.BlobBytes(largeBytes)-50_000))
			}
			if err != nil {
				t.Fatal(err)
			}
			if how != "under way" {
				e = openDurable(t, fsys)
			}
			conn, taker := open(t, e)
			switch how {
			case "damaged, get", "missing, get":
				if got := idsIn(t, e, "q"); len(got) != 1 || got[0] != 2 {
					t.Errorf("got %v", got)
				}
			case "under way":
				consume(t, taker, Consume{Queue: "q", Tag: "t"})
				for id, body := range contentsOf(t, conn) {
					t.Errorf("message %d has come with %d bytes", id, len(body))
				}
				if !conn.Out.closed {
					t.Error("the connection goes on after half a body")
				}
				conn.Close()
				conn, taker = open(t, e)
				fallthrough
			default:
				consume(t, taker, Consume{Queue: "q", Tag: "t"})
				got := map[uint64]bool{}
				waitIDs(t, conn, got, 1)
				if len(got) != 1 || !got[2] {
					t.Errorf("got %v", got)
				}
			}
			q := queueNamed(e, "q")
			q.mu.Lock()
			if n := q.m.UnackedCount() + q.m.ReadyCount(); n < 1 {
				t.Error("the damaged message is gone")
			}
			q.mu.Unlock()
			e.Abandon()
		})
	}
}

// TestUploadThatFails: the publisher hears of it, the broker goes on, and no file
// is left.
func TestUploadThatFails(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir} {
		for _, confirming := range []bool{false, true} {
			mem := vfs.NewMem()
			fault := vfs.NewFault(mem)
			e := openDurable(t, fault)
			conn, ch := open(t, e)
			declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
			name := "blob-*"
			if kind == vfs.OpSyncDir {
				name = ""
			}
			fault.Add(vfs.Rule{Kinds: kind, Name: name, Nth: 1, Err: syscall.ENOSPC})
			if confirming {
				must(t, ch.SelectConfirm())
			}
			err := send(ch, large("q", 1))
			if confirming == (err != nil) || err != nil && err.Code != wire.ContentTooLarge {
				t.Errorf("%v, confirming %t: %v", kind, confirming, err)
			}
			conn.Flush()
			if confirming {
				must(t, send(ch, large("q", 2)))
				conn.Flush()
				must(t, e.settled())
				acks, nacks := 0, 0
				for deadline := time.Now().Add(10 * time.Second); acks+nacks < 2 && time.Now().Before(deadline); {
					list := drain(t, conn)
					acks, nacks = acks+countOf[*wire.BasicAck](list), nacks+countOf[*wire.BasicNack](list)
				}
				if acks != 1 || nacks != 1 {
					t.Errorf("%v: %d acks and %d nacks", kind, acks, nacks)
				}
			}
			conn.Close()
			e.janitor.round()
			want := 0
			if confirming {
				want = 1
			}
			if n := blobsOf(t, mem); n != want || e.uploads.Load() != 0 || e.Err() != nil {
				t.Errorf("%v, confirming %t: %d files, %d uploads, %v", kind, confirming, n, e.uploads.Load(), e.Err())
			}
			if got := idsIn(t, e, "q"); len(got) != want {
				t.Errorf("%v, confirming %t: the queue has %v", kind, confirming, got)
			}
			e.Abandon()
		}
	}
}
