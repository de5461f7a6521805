package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// declareQuorum declares a quorum queue with more arguments.
func declareQuorum(t testing.TB, ch *Channel, name string, more ...wire.Field) {
	t.Helper()
	args := append(wire.Table{{Key: "x-queue-type", Value: "quorum"}}, more...)
	declare(t, ch, &wire.QueueDeclare{Queue: name, Durable: true, Arguments: args})
}

// arriving are the arguments of a queue whose dead letters have to arrive.
func arriving(exchange string) []wire.Field {
	return []wire.Field{{Key: "x-dead-letter-exchange", Value: exchange},
		{Key: "x-dead-letter-strategy", Value: "at-least-once"}, {Key: "x-overflow", Value: "reject-publish"}}
}

func bind(t testing.TB, ch *Channel, queue, exchange string) {
	t.Helper()
	must(t, ch.DeclareExchange(&wire.ExchangeDeclare{Exchange: exchange, Type: "fanout", Durable: true}))
	must(t, ch.BindQueue(&wire.QueueBind{Queue: queue, Exchange: exchange}))
}

// publishIDs publishes to a queue, one message after the other.
func publishIDs(t testing.TB, ch *Channel, queue string, ids ...uint64) {
	t.Helper()
	for _, id := range ids {
		must(t, send(ch, publishing{key: queue, id: id}))
	}
	ch.conn.Flush()
}

// rejectAll takes everything out of a queue and rejects it.
func rejectAll(t testing.TB, e *Engine, name string) {
	t.Helper()
	c, ch := open(t, e)
	for {
		ok, err := ch.Get(name, false)
		must(t, err)
		if !ok {
			break
		}
	}
	must(t, ch.Nack(0, true, false))
	c.Close()
}

func sameIDs(t testing.TB, what string, got []uint64, want ...uint64) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// TestDeadLettersWaitForRoom has three dead letters for a queue with room for one,
// and then for none, and one that has room for all of them: each gets every one
// of them once.
func TestDeadLettersWaitForRoom(t *testing.T) {
	clock := newHandClock()
	e := newTestEngine(t, Config{Clock: clock})
	_, ch := open(t, e)
	declareQuorum(t, ch, "small", wire.Field{Key: "x-max-length", Value: int64(1)}, wire.Field{Key: "x-overflow", Value: "reject-publish"})
	declareQuorum(t, ch, "large")
	bind(t, ch, "small", "dlx")
	bind(t, ch, "large", "dlx")
	declareQuorum(t, ch, "q", arriving("dlx")...)
	publishIDs(t, ch, "q", 1, 2, 3)
	rejectAll(t, e, "q")
	sameIDs(t, "large at once", idsIn(t, e, "large"), 1, 2, 3)
	sameIDs(t, "source", idsIn(t, e, "q"))
	for want := uint64(1); want <= 3; want++ {
		sameIDs(t, "small", idsIn(t, e, "small"), want)
		clock.advance(time.Minute)
	}
	clock.advance(time.Minute)
	sameIDs(t, "small in the end", idsIn(t, e, "small"))
	sameIDs(t, "large in the end", idsIn(t, e, "large"))
	if refs, _ := e.Stored(); refs != 0 {
		t.Errorf("%d references are left", refs)
	}
}

// TestDeadLettersWaitForTheirQueue: no exchange, then no binding, then a queue.
// Meanwhile nobody else gets them, a restart changes nothing, and a purge ends them.
func TestDeadLettersWaitForTheirQueue(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declareQuorum(t, ch, "q", arriving("dlx")...)
	declareQuorum(t, ch, "purged", arriving("dlx")...)
	publishIDs(t, ch, "q", 1, 2, 3)
	publishIDs(t, ch, "purged", 7, 8)
	rejectAll(t, e, "q")
	rejectAll(t, e, "purged")
	publishIDs(t, ch, "purged", 9)
	for _, q := range e.allQueues() {
		s := q.Status()
		if got := fmt.Sprint(s.Ready, s.Unacked, s.Dying, s.DyingBytes); q.Name() == "q" && got != "0 0 3 24" {
			t.Errorf("ready, unacked, dying and their bytes are %s", got)
		}
	}
	if n, err := ch.Purge("purged"); n != 3 || err != nil {
		t.Errorf("purged %d, want 3: %v", n, err)
	}
	for _, name := range []string{"crash", "crash after a checkpoint"} {
		must(t, e.settled())
		clone := fsys.CrashClone(vfs.KeepNone, nil)
		e.Abandon()
		fsys = clone
		e = openDurable(t, fsys)
		sameIDs(t, "source after a "+name, idsIn(t, e, "q"))
		if err := e.checkpoint(func() bool { return false }); err != nil {
			t.Fatal(err)
		}
	}
	_, ch = open(t, e)
	declareQuorum(t, ch, "dead")
	e.clock.(*handClock).advance(time.Minute)
	sameIDs(t, "an exchange away", idsIn(t, e, "dead"))
	bind(t, ch, "dead", "dlx")
	e.clock.(*handClock).advance(time.Minute)
	sameIDs(t, "dead", idsIn(t, e, "dead"), 1, 2, 3)
	e.clock.(*handClock).advance(time.Minute)
	must(t, e.settled())
	clone := fsys.CrashClone(vfs.KeepNone, nil)
	e.Abandon()
	e = openDurable(t, clone)
	sameIDs(t, "dead in the end", idsIn(t, e, "dead"))
	sameIDs(t, "source in the end", idsIn(t, e, "q"))
	sameIDs(t, "purged in the end", idsIn(t, e, "purged"))
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestManyDeadLettersWait: once there is room for all, all move without a pause.
func TestManyDeadLettersWait(t *testing.T) {
	clock := newHandClock()
	e := newTestEngine(t, Config{Clock: clock})
	_, ch := open(t, e)
	declareQuorum(t, ch, "q", arriving("dlx")...)
	var want []uint64
	for id := range uint64(500) {
		want = append(want, id+1)
	}
	publishIDs(t, ch, "q", want...)
	rejectAll(t, e, "q")
	for range 100 {
		clock.advance(10 * time.Second) // the pause is as long as it gets
	}
	declareQuorum(t, ch, "dead")
	bind(t, ch, "dead", "dlx")
	clock.advance(30 * time.Second)
	sameIDs(t, "dead", idsIn(t, e, "dead"), want...)
}

// TestAtLeastOnceNeedsRoomToRefuse: with x-overflow drop-head it falls back to at
// most once, as in RabbitMQ.
func TestAtLeastOnceNeedsRoomToRefuse(t *testing.T) {
	e := newTestEngine(t, Config{})
	_, ch := open(t, e)
	declareQuorum(t, ch, "q", arriving("dlx")[:2]...)
	publishIDs(t, ch, "q", 1)
	rejectAll(t, e, "q")
	if refs, _ := e.Stored(); refs != 0 {
		t.Errorf("%d references are left", refs)
	}
}

// TestQuorumQueueKeepsTransientMessages sends transient messages to a quorum and a
// classic queue at once: only the quorum queue has them after a crash.
func TestQuorumQueueKeepsTransientMessages(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declareQuorum(t, ch, "quorum")
	declare(t, ch, &wire.QueueDeclare{Queue: "classic", Durable: true})
	bind(t, ch, "quorum", "x")
	bind(t, ch, "classic", "x")
	must(t, send(ch, publishing{exchange: "x", id: 1}))
	must(t, send(ch, publishing{exchange: "x", id: 2, persistent: true}))
	publishIDs(t, ch, "quorum", 3)
	must(t, ch.SelectTx())
	must(t, send(ch, publishing{key: "quorum", id: 4}))
	must(t, ch.CommitTx(func() {}))
	must(t, e.settled())
	clone := fsys.CrashClone(vfs.KeepNone, nil)
	e.Abandon()
	e = openDurable(t, clone)
	sameIDs(t, "quorum", idsIn(t, e, "quorum"), 1, 2, 3, 4)
	sameIDs(t, "classic", idsIn(t, e, "classic"), 2)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestDelayedRetryOverACrash: the delay of what failed begins anew after a crash.
func TestDelayedRetryOverACrash(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declareQuorum(t, ch, "q", wire.Field{Key: "x-delayed-retry-type", Value: "failed"}, wire.Field{Key: "x-delayed-retry-min", Value: int32(1000)})
	publishIDs(t, ch, "q", 1)
	if ok, err := ch.Get("q", false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	must(t, ch.Reject(1, true))
	sameIDs(t, "at once", idsIn(t, e, "q"))
	must(t, e.settled())
	clone := fsys.CrashClone(vfs.KeepNone, nil)
	e.Abandon()
	e = openDurable(t, clone)
	clock := e.clock.(*handClock)
	clock.advance(900 * time.Millisecond)
	sameIDs(t, "before its time", idsIn(t, e, "q"))
	clock.advance(200 * time.Millisecond)
	sameIDs(t, "after", idsIn(t, e, "q"), 1)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestCrashesAreCounted hands a message out, by poll and to a consumer, and kills
// the process as soon as the client has it: each time it comes with one more failed
// delivery, until the limit of three ends it.
func TestCrashesAreCounted(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declareQuorum(t, ch, "dead")
	declareQuorum(t, ch, "q", wire.Field{Key: "x-delivery-limit", Value: int32(3)},
		wire.Field{Key: "x-dead-letter-exchange", Value: ""}, wire.Field{Key: "x-dead-letter-routing-key", Value: "dead"})
	publishIDs(t, ch, "q", 1)
	must(t, e.settled())
	for crash := range 4 {
		c, ch := open(t, e)
		if crash%2 == 0 {
			if ok, err := ch.Get("q", false); !ok || err != nil {
				t.Fatalf("after %d crashes there is nothing to get: %v", crash, err)
			}
		} else {
			consume(t, ch, Consume{Queue: "q"})
		}
		if got := deliveryCount(t, c); got != int64(crash) {
			t.Fatalf("after %d crashes the count is %d", crash, got)
		}
		clone := fsys.CrashClone(vfs.KeepAll, nil) // a kill, and not a power loss
		e.Abandon()
		fsys = clone
		e = openDurable(t, fsys)
		if crash%2 == 1 {
			if err := e.checkpoint(func() bool { return false }); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.clock.(*handClock).advance(time.Second)
	sameIDs(t, "source", idsIn(t, e, "q"))
	sameIDs(t, "dead", idsIn(t, e, "dead"), 1)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// deliveryCount takes what a connection sends, which is one message, and returns
// its x-delivery-count, 0 if it has none.
func deliveryCount(t testing.TB, c *Conn) (count int64) {
	t.Helper()
	for messages := 0; messages == 0; {
		b, body, _ := c.Out.Next() // waits: the message may have to be read from the disk
		for rest := b; len(rest) > 0; {
			f, n, err := wire.ParseFrame(rest, 0)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if f.Type != wire.FrameHeader {
				continue
			}
			messages++
			p, err := wire.ParseProperties(f.Payload[12:])
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := p.Headers.Get("x-delivery-count"); ok {
				count = v.(int64)
			}
		}
		c.Out.Done(b, body)
	}
	return count
}
