package engine

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// A publish that makes the run before it be applied is not confirmed with that
// run: a full queue may still refuse it.
func TestConfirmWaitsForItsOwnPublish(t *testing.T) {
	e := newTestEngine(t, Config{})
	c, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "one"})
	declare(t, ch, &wire.QueueDeclare{Queue: "full", Arguments: wire.Table{
		{Key: "x-max-length", Value: int32(0)}, {Key: "x-overflow", Value: "reject-publish"}}})
	for _, name := range []string{"one", "full"} {
		must(t, ch.BindQueue(&wire.QueueBind{Queue: name, Exchange: "amq.fanout"}))
	}
	must(t, ch.SelectConfirm())
	must(t, send(ch, publishing{key: "one", id: 1}))
	must(t, send(ch, publishing{exchange: "amq.fanout", id: 2}))
	c.Flush()
	var got []string
	for _, r := range drain(t, c) {
		switch m := r.method.(type) {
		case *wire.BasicAck:
			got = append(got, fmt.Sprint("ack ", m.DeliveryTag))
		case *wire.BasicNack:
			got = append(got, fmt.Sprint("nack ", m.DeliveryTag))
		}
	}
	if want := []string{"ack 1", "nack 2"}; !slices.Equal(got, want) {
		t.Errorf("confirms %q, want %q", got, want)
	}
}

// What a connection that ends does not take goes to the next consumer at once.
func TestDeliveryRefusedByAClosedOutboxGoesToAnotherConsumer(t *testing.T) {
	e := newTestEngine(t, Config{})
	dying, dyingCh := open(t, e)
	alive, aliveCh := open(t, e)
	declare(t, dyingCh, &wire.QueueDeclare{Queue: "q"})
	consume(t, dyingCh, Consume{Queue: "q", Tag: "dying"})
	consume(t, aliveCh, Consume{Queue: "q", Tag: "alive"})
	dying.Out.Close() // the write failed; the reader has not noticed
	for id := range uint64(4) {
		must(t, send(aliveCh, publishing{key: "q", id: id + 1}))
	}
	alive.Flush()
	if n := countOf[*wire.BasicDeliver](drain(t, alive)); n != 4 {
		t.Errorf("the live consumer got %d of 4 messages", n)
	}
	dying.Close()
	if n := countOf[*wire.BasicDeliver](drain(t, alive)); n != 0 {
		t.Errorf("the live consumer got %d messages twice", n)
	}
}

// A channel with publishes beyond a durable position hears of the next one.
func TestConfirmsOfLaterPositionsAreNotForgotten(t *testing.T) {
	e := newTestEngine(t, Config{})
	c, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Durable: true})
	must(t, ch.SelectConfirm())
	e.HoldConfirms()
	must(t, send(ch, publishing{key: "q", id: 1, persistent: true}))
	c.Flush()
	first := e.memory.End() // as far as the log has come
	must(t, send(ch, publishing{key: "q", id: 2, persistent: true}))
	c.Flush()
	e.releaseUpTo(first) // a sync that covers the first publish only
	if n := countOf[*wire.BasicAck](drain(t, c)); n != 1 {
		t.Fatalf("%d confirms after the first sync, want 1", n)
	}
	e.ReleaseConfirms()
	if n := countOf[*wire.BasicAck](drain(t, c)); n != 1 {
		t.Errorf("%d confirms after the second sync, want 1", n)
	}
	e.HoldConfirms()
	must(t, send(ch, publishing{key: "q", id: 3, persistent: true}))
	c.Flush()
	ch.Close()
	e.ReleaseConfirms()
	if len(e.waiting) != 0 {
		t.Error("a closed channel still waits for confirms")
	}
}

// Consumers of one connection that share its output share it fairly, whether
// they are on one queue or on several.
func TestRefillIsFair(t *testing.T) {
	const messages, bodyBytes = 300, 16384 // a full output holds 16
	for name, queues := range map[string][]string{"one queue": {"a"}, "two queues": {"a", "b"}, "three queues": {"a", "b", "c"}} {
		t.Run(name, func(t *testing.T) {
			e := newTestEngine(t, Config{})
			c, ch := open(t, e)
			p, pch := open(t, e)
			for _, q := range queues {
				declare(t, ch, &wire.QueueDeclare{Queue: q})
				for id := range messages {
					must(t, send(pch, publishing{key: q, id: uint64(id + 1), bodyBytes: bodyBytes}))
				}
				p.Flush()
			}
			for i := range 3 {
				consume(t, ch, Consume{Queue: queues[i%len(queues)], Tag: fmt.Sprint(i), NoAck: true})
			}
			total, seen, last := len(queues)*messages, 0, map[string]int{}
			for {
				some, any := drainOnce(t, c)
				if !any {
					break
				}
				for _, r := range some {
					if m, ok := r.method.(*wire.BasicDeliver); ok {
						seen++
						last[m.ConsumerTag] = seen
					}
				}
				for i := range 3 {
					if at := last[fmt.Sprint(i)]; seen < total/3 && seen-at > 60 {
						t.Fatalf("consumer %d got nothing of the last %d messages", i, seen-at)
					}
				}
			}
			if seen != total {
				t.Errorf("%d messages delivered, want %d", seen, total)
			}
			if held := c.Out.held.Load(); held != 0 {
				t.Errorf("%d bytes of output budget are held with nothing to write", held)
			}
		})
	}
}

// A deleted queue leaves nothing in the timers, however far its deadline was.
func TestTimersForgetDeletedQueues(t *testing.T) {
	clock := newHandClock()
	e := newTestEngine(t, Config{Clock: clock})
	_, ch := open(t, e)
	for range 100 {
		declare(t, ch, &wire.QueueDeclare{Queue: "q", Arguments: wire.Table{{Key: "x-expires", Value: int32(1 << 30)}}})
		must(t, ch.DeleteQueue(&wire.QueueDelete{Queue: "q"}, func(uint32) {}))
	}
	if n := len(e.timers.heap); n != 0 {
		t.Errorf("%d entries in the timers' heap, want none", n)
	}
	declare(t, ch, &wire.QueueDeclare{Queue: "short", Arguments: wire.Table{{Key: "x-expires", Value: int32(10)}}})
	clock.advance(time.Second)
	if e.vhosts["/"].top.QueueCount() != 0 {
		t.Error("a queue past its x-expires is still there")
	}
}

// Deadlines that come nearer move a queue's one entry.
func TestTimersHoldOneEntryForEachQueue(t *testing.T) {
	clock := newHandClock()
	e := newTestEngine(t, Config{Clock: clock})
	c, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q"})
	for i := range 50 {
		must(t, send(ch, publishing{key: "q", id: 1, expiration: fmt.Sprint(100_000 - i)}))
		c.Flush()
		if _, err := ch.Purge("q"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.timers.heap); n != 1 {
		t.Errorf("%d entries in the timers' heap, want 1", n)
	}
}

// A channel that polls queue after queue does not keep them all.
func TestGetForgetsQueues(t *testing.T) {
	e := newTestEngine(t, Config{})
	c, ch := open(t, e)
	for i := range 3 * maxGetSources {
		name := fmt.Sprint(i)
		declare(t, ch, &wire.QueueDeclare{Queue: name})
		must(t, send(ch, publishing{key: name, id: 1}))
		c.Flush()
		if ok, err := ch.Get(name, false); !ok || err != nil {
			t.Fatalf("Get(%s) = %t, %v", name, ok, err)
		}
	}
	if len(ch.gets) > maxGetSources {
		t.Errorf("%d queues are remembered, want at most %d", len(ch.gets), maxGetSources)
	}
	must(t, ch.Ack(0, true))
	c.Flush()
	if n := e.arena.References(); n != 0 {
		t.Errorf("%d messages are left after all were acknowledged", n)
	}
}

// An alarm below the smallest unit of memory comes down again.
func TestTinyMemoryLimitDoesNotBlockForEver(t *testing.T) {
	e := newTestEngine(t, Config{MemoryLimitBytes: 1000})
	c, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q"})
	for id := range uint64(40) {
		must(t, send(ch, publishing{key: "q", id: id + 1, bodyBytes: 100_000}))
		c.Flush()
	}
	if !e.alarm.up.Load() {
		t.Fatal("four megabytes do not raise the alarm")
	}
	if _, err := ch.Purge("q"); err != nil {
		t.Fatal(err)
	}
	if e.alarm.up.Load() {
		t.Error("the alarm stays up with no message left")
	}
}

// A persistent message is persistent in its dead-letter queue even if the queue
// it died in was not durable.
func TestDeadLetterKeepsItsDeliveryMode(t *testing.T) {
	e := newTestEngine(t, Config{})
	c, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "dead", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "q", Arguments: wire.Table{
		{Key: "x-dead-letter-exchange", Value: ""}, {Key: "x-dead-letter-routing-key", Value: "dead"}}})
	must(t, send(ch, publishing{key: "q", id: 1, persistent: true}))
	c.Flush()
	if ok, err := ch.Get("q", false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	must(t, ch.Nack(1, false, false))
	var flags queue.Flags
	q := queueNamed(e, "dead")
	q.m.Relocate(new(queue.Cursor), func(x queue.Entry) uint64 { flags = x.Flags; return x.Ref })
	if q.m.ReadyCount() != 1 || flags&queue.Persistent == 0 {
		t.Errorf("%d dead letters, flags %b, want one that is persistent", q.m.ReadyCount(), flags)
	}
}

// The one message left of a large transaction does not pin the rest of it.
func TestSurvivorOfALargeRunIsMoved(t *testing.T) {
	e := newTestEngine(t, Config{})
	c, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "q"})
	must(t, ch.SelectTx())
	for id := range uint64(100) {
		must(t, send(ch, publishing{key: "q", id: id + 1, bodyBytes: 100_000}))
	}
	must(t, ch.CommitTx(func() {}))
	for range 99 {
		if _, err := ch.Get("q", true); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, c)
	e.sweep()
	if used := e.arena.Used(); used > 2*store.ChunkBytes {
		t.Errorf("one message of 100 kB holds %d bytes", used)
	}
}

func queueNamed(e *Engine, name string) *Queue {
	vh := e.vhosts["/"]
	vh.mu.RLock()
	defer vh.mu.RUnlock()
	if def := vh.top.Queue(name); def != nil {
		return def.Runtime.(*Queue)
	}
	return nil
}

// An outbox may close between the moment its consumer took a message and the
// moment the message would be written there.
func TestDeliveryTakenBackGoesToAnotherConsumer(t *testing.T) {
	e := newTestEngine(t, Config{})
	dying, dyingCh := open(t, e)
	alive, aliveCh := open(t, e)
	declare(t, dyingCh, &wire.QueueDeclare{Queue: "q"})
	consume(t, dyingCh, Consume{Queue: "q", Tag: "dying"})
	consume(t, aliveCh, Consume{Queue: "q", Tag: "alive"})
	q := queueNamed(e, "q")
	w := newWorker(e)
	w.begin(e.now())
	q.mu.Lock()
	for id := range uint64(4) {
		it := newItem(aliveCh, publishing{id: id + 1}.record(), &wire.PropsView{}, false)
		span := e.arena.Reserve(store.SpanBytes(1, len(it.rec)), 1, 1)
		it.ref = span.Put(it.rec)
		span.Done()
		w.offer(q, &it, 0)
	}
	dying.Out.Close()
	w.carry(q)
	q.mu.Unlock()
	w.finish()
	var got []uint64
	for _, r := range drain(t, alive) {
		if _, ok := r.method.(*wire.BasicDeliver); ok {
			got = append(got, r.id)
		}
	}
	slices.Sort(got)
	if want := []uint64{1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("the live consumer got %d, want %d", got, want)
	}
	dying.Close()
	must(t, aliveCh.Ack(0, true))
	alive.Flush()
	if n := e.arena.References(); n != 0 {
		t.Errorf("%d messages are left after all were acknowledged", n)
	}
}

// Consumers without a prefetch limit that read slowly get every message once,
// however often their outputs fill up.
func TestSlowReadersMissNothing(t *testing.T) {
	const publishers, readers, consumers, messages = 2, 3, 4, 3000
	e := newTestEngine(t, Config{})
	setup, setupCh := open(t, e)
	for i := range consumers {
		declare(t, setupCh, &wire.QueueDeclare{Queue: fmt.Sprint("q", i%2)})
	}
	var got atomic.Int64
	var writers, senders sync.WaitGroup
	var conns []*Conn
	for range readers {
		c, ch := open(t, e)
		conns = append(conns, c)
		for i := range consumers {
			consume(t, ch, Consume{Queue: fmt.Sprint("q", i%2), Tag: fmt.Sprint(i), NoAck: true})
		}
		writers.Go(func() {
			for {
				b, done, ok := turn(c.Out)
				if !ok {
					return
				}
				list, err := parse(b)
				if err != nil {
					t.Error(err)
				}
				for range 50 {
					runtime.Gosched() // others fill the output meanwhile
				}
				got.Add(int64(countOf[*wire.BasicDeliver](list)))
				if done() {
					c.Refill()
				}
			}
		})
	}
	for n := range publishers {
		c, ch := open(t, e)
		senders.Go(func() {
			for i := range messages {
				if err := send(ch, publishing{key: fmt.Sprint("q", i%2), id: uint64(n*messages + i + 1), bodyBytes: 1 + i%9000}); err != nil {
					t.Error(err)
				}
				if i%7 == 0 {
					c.Flush()
				}
			}
			c.Flush()
		})
	}
	senders.Wait()
	for deadline := time.Now().Add(20 * time.Second); got.Load() < publishers*messages && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	for _, c := range conns {
		c.Close()
	}
	writers.Wait()
	setup.Close()
	if n := got.Load(); n != publishers*messages {
		t.Errorf("%d messages delivered, want %d", n, publishers*messages)
	}
	if n := e.arena.References(); n != 0 {
		t.Errorf("%d references to bodies are left", n)
	}
}

// The route cache is bounded by the queues that its routes lead to, not only by
// their number.
func TestRouteCacheIsBoundedByQueues(t *testing.T) {
	const queues = 64
	e := newTestEngine(t, Config{})
	c, ch := open(t, e)
	for i := range queues {
		declare(t, ch, &wire.QueueDeclare{Queue: fmt.Sprint(i), Arguments: arguments("x-max-length", 1)})
		must(t, ch.BindQueue(&wire.QueueBind{Queue: fmt.Sprint(i), Exchange: "amq.fanout"}))
	}
	for i := range 2 * maxRoutedQueues / queues {
		must(t, send(ch, publishing{exchange: "amq.fanout", key: fmt.Sprint(i), id: 1}))
		c.Flush()
		if n := len(c.routes) * queues; n > maxRoutedQueues {
			t.Fatalf("%d queues in the route cache, want at most %d", n, maxRoutedQueues)
		}
	}
}
