package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// TestCommitWaitsForItsAcks moves a message in a transaction: after commit-ok and
// a power loss it is where it went, and nowhere else.
func TestCommitWaitsForItsAcks(t *testing.T) {
	fsys := vfs.NewMem()
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	declare(t, ch, &wire.QueueDeclare{Queue: "from", Durable: true})
	declare(t, ch, &wire.QueueDeclare{Queue: "to", Durable: true})
	must(t, ch.SelectTx())
	must(t, send(ch, publishing{key: "from", id: 1, persistent: true}))
	must(t, ch.CommitTx(func() {}))
	if ok, err := ch.Get("from", false); err != nil || !ok {
		t.Fatal(ok, err)
	}
	must(t, send(ch, publishing{key: "to", id: 2, persistent: true}))
	must(t, ch.Ack(1, false))
	var clone *vfs.MemFS
	must(t, ch.CommitTx(func() { clone = fsys.CrashClone(vfs.KeepNone, nil) }))
	e.Abandon()
	e = openDurable(t, clone)
	if got := idsIn(t, e, "from"); len(got) != 0 {
		t.Errorf("acknowledged in the transaction and back: %v", got)
	}
	if got := idsIn(t, e, "to"); len(got) != 1 {
		t.Errorf("published in the transaction: %v", got)
	}
	e.Abandon()
}

// TestCommitIsAllOrNothing copies the disk before every file operation of a
// commit that is larger than a batch of the log, over several queues, with acks,
// returns and rejections.
func TestCommitIsAllOrNothing(t *testing.T) {
	mem := vfs.NewMem()
	var mu sync.Mutex
	var clones []*vfs.MemFS
	watching := false
	rng := rand.New(rand.NewPCG(1, 2))
	fsys := vfs.NewFault(mem)
	fsys.Add(vfs.Rule{Kinds: vfs.OpsChange, Before: func(vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		for n := 0; watching && n < 3; n++ {
			clones = append(clones, mem.CrashClone(vfs.CrashModes()[rng.IntN(len(vfs.CrashModes()))], rng))
		}
	}})
	e := openDurable(t, fsys)
	_, ch := open(t, e)
	for _, name := range []string{"from", "back", "gone", "x", "y", "z"} {
		declare(t, ch, &wire.QueueDeclare{Queue: name, Durable: true})
		must(t, ch.BindQueue(&wire.QueueBind{Queue: name, Exchange: "amq.direct", RoutingKey: "all"}))
	}
	for id, key := range []string{"from", "from", "from", "back", "gone"} {
		must(t, send(ch, publishing{key: key, id: uint64(id) + 1, persistent: true}))
	}
	ch.conn.Flush()
	must(t, e.settled())
	must(t, ch.SelectTx())
	for tag, key := range []string{"from", "from", "from", "back", "gone"} {
		ok, err := ch.Get(key, false)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if tag := uint64(tag) + 1; key == "from" {
			must(t, ch.Ack(tag, false))
		} else {
			must(t, ch.Nack(tag, false, key == "back"))
		}
	}
	const published = 20
	for id := range uint64(published) {
		p := publishing{key: []string{"x", "y", "z"}[id%3], id: 100 + id, bodyBytes: 250_000, persistent: true}
		if id%5 == 4 {
			p.exchange, p.key = "amq.direct", "all"
		}
		must(t, send(ch, p))
	}
	mu.Lock()
	watching = true
	mu.Unlock()
	must(t, ch.CommitTx(func() {
		mu.Lock()
		watching = false
		clones = append(clones, mem.CrashClone(vfs.KeepNone, nil))
		mu.Unlock()
	}))
	e.Abandon()
	done := 0
	for i, clone := range clones {
		e := openDurable(t, clone)
		got := map[uint64]int{}
		for _, name := range []string{"from", "back", "gone", "x", "y", "z"} {
			for _, id := range idsIn(t, e, name) {
				got[id]++
			}
		}
		e.Abandon()
		want := map[uint64]int{1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
		if got[100] > 0 || i+1 == len(clones) {
			done++
			want = map[uint64]int{4: 1}
			for id := range uint64(published) {
				if want[100+id] = 1; id%5 == 4 {
					want[100+id] = 6
				}
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("copy %d of %d: a part of the transaction: %v, want %v", i, len(clones), got, want)
		}
	}
	t.Logf("%d copies, in %d the transaction was done", len(clones), done)
	if len(clones) < 10 {
		t.Error("the commit wrote hardly anything")
	}
}

// TestTransactionTooLarge fills a transaction with publishes, with publishes that
// go to many queues, and with acks.
func TestTransactionTooLarge(t *testing.T) {
	e := newTestEngine(t, Config{})
	_, ch := open(t, e)
	for n := range 40 {
		name := fmt.Sprint("q", n)
		declare(t, ch, &wire.QueueDeclare{Queue: name})
		must(t, ch.BindQueue(&wire.QueueBind{Queue: name, Exchange: "amq.fanout"}))
	}
	fill := func(what string, least, most int, grow func(ch *Channel) *wire.Error) {
		t.Helper()
		_, ch := open(t, e)
		must(t, ch.SelectTx())
		for n := range most {
			if err := grow(ch); err != nil {
				if n < least || err.Code != wire.PreconditionFailed || err.Scope != wire.ScopeChannel ||
					err.Text != "transaction is larger than configured max size 33554432" {
					t.Errorf("%s: after %d: %v", what, n, err)
				}
				ch.conn.Close()
				return
			}
		}
		t.Errorf("%s: %d are taken", what, most)
	}
	fill("large bodies", 30, 34, func(ch *Channel) *wire.Error {
		return send(ch, publishing{key: "q0", id: 1, bodyBytes: 1 << 20})
	})
	fill("many queues", 30_000, 40_000, func(ch *Channel) *wire.Error {
		return send(ch, publishing{exchange: "amq.fanout", id: 1})
	})
	acks := tx{alarm: e.alarm}
	must(t, acks.settle(make([]out, MaxTxBytes/txSettledBytes), ack))
	if err := acks.settle(make([]out, 1), ack); err == nil || err.Code != wire.PreconditionFailed {
		t.Errorf("one ack too many: %v", err)
	}
	if back := acks.giveBack(nil); len(back) != MaxTxBytes/txSettledBytes+1 {
		t.Errorf("%d deliveries return with the channel", len(back))
	}
}

// TestOpenTransactionsTogether: all of them have a bound that follows the memory
// limit, and give back what they have counted, however they end.
func TestOpenTransactionsTogether(t *testing.T) {
	e := newTestEngine(t, Config{MemoryLimitBytes: 80 << 20}) // so 40 MiB
	conn, first := open(t, e)
	declare(t, first, &wire.QueueDeclare{Queue: "q"})
	begin := func(id uint16, messages int) (*Channel, *wire.Error) {
		ch := conn.OpenChannel(id)
		must(t, ch.SelectTx())
		for range messages {
			if err := send(ch, publishing{key: "q", id: 1, bodyBytes: 1 << 20}); err != nil {
				return ch, err
			}
		}
		return ch, nil
	}
	for round, end := range []func(ch *Channel){
		func(ch *Channel) { must(t, ch.CommitTx(func() {})) },
		func(ch *Channel) { must(t, ch.RollbackTx()) },
		func(ch *Channel) { ch.Close() },
	} {
		large, err := begin(10, 30)
		must(t, err)
		other, err := begin(11, 30)
		if err == nil || err.Scope != wire.ScopeChannel || err.Text != "all open transactions together are larger than 41943040" {
			t.Errorf("round %d: two of 30 MB: %v", round, err)
		}
		other.Close()
		end(large)
		if _, err := begin(12, 30); err != nil {
			t.Errorf("round %d: after the end of the first: %v", round, err)
		}
		conn.Channel(12).Close()
		if n := e.alarm.inTx.Load(); n != 0 {
			t.Fatalf("round %d: %d bytes are counted still", round, n)
		}
		large.Close()
		_, err = first.Purge("q")
		must(t, err)
	}
	must(t, conn.Coming(50<<20, 0))
	other, _ := open(t, e)
	must(t, other.Coming(10<<20, 100<<20))
	if err := other.Coming(31<<20, 0); err == nil || err.Code != wire.ResourceError || err.Scope != wire.ScopeConnection {
		t.Errorf("81 of 80 MiB in halves of bodies: %v", err)
	}
	other.Close()
	must(t, conn.Coming(0, 0))
	if n := e.alarm.coming.Load(); n != 0 {
		t.Errorf("%d bytes are still to come from nobody", n)
	}
}
