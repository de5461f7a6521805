package store

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// listener writes down what recovery tells it, and takes every message.
type listener struct{ heard []string }

func (l *listener) add(format string, args ...any) {
	l.heard = append(l.heard, fmt.Sprintf(format, args...))
}

func (l *listener) Publish(p *Published, _ Ref) (n int, err error) {
	p.Queues(func(id queue.ID, seq queue.Seq, count uint32) {
		n++
		l.add("publish %d/%d %q flags %d priority %d at %d ttl %d count %d", id, seq, p.Message, p.Flags, p.Priority, p.Time, p.TTLMillis, count)
	})
	return n, nil
}

func (l *listener) Fact(q queue.ID, f queue.Fact) error {
	switch f.Kind {
	case queue.Settled:
		l.add("settled %d/%d-%d", q, f.Seq, f.To)
	case queue.Delivered:
		l.add("delivered %d/%d-%d", q, f.Seq, f.To)
	case queue.Returned:
		l.add("returned %d/%d %d failed %d", q, f.Seq, f.Tries.Returned, f.Tries.Failed)
	case queue.Died:
		l.add("died %d/%d %s", q, f.Seq, f.Reason)
	}
	return nil
}
func (l *listener) Begin(Recovery)                         {}
func (l *listener) Define(d *Definition) error             { l.add("define %+v", *d); return nil }
func (l *listener) Tails(queue.ID, []uint64)               {}
func (l *listener) Page(queue.ID, *queue.Image) bool       { return false }
func (l *listener) ColdPage(queue.ID, queue.ColdPage) bool { return false }

func openListening(t *testing.T, fsys vfs.FS) (*Disk, *listener) {
	t.Helper()
	l := &listener{}
	d, _, err := OpenDisk(DiskConfig{FS: fsys, Dir: "/data"}, l)
	if err != nil {
		t.Fatal(err)
	}
	return d, l
}

// heardBack appends with f and returns what the next start hears of it.
func heardBack(t *testing.T, f func(*Disk)) []string {
	t.Helper()
	fsys := vfs.NewMem()
	d, _ := openListening(t, fsys)
	f(d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, l := openListening(t, fsys)
	d.Abandon()
	return l.heard
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("heard\n%q, want\n%q", got, want)
	}
}

func TestPublishesComeBack(t *testing.T) {
	got := heardBack(t, func(d *Disk) {
		body := []byte("body")
		g := d.Reserve(1, PublishBytes(3, len(body)), true)
		b, _ := g.Add(PublishBytes(3, len(body)), 3)
		PutPublish(b, &Published{Flags: 5, Priority: 7, Time: 99, TTLMillis: -1, Message: body}, 3)
		PutQueue(b, 0, 11, 0, true, 2)
		PutQueue(b, 1, 12, 8, false, 0) // it was full
		PutQueue(b, 2, 13, 1<<63, true, 0)
		g.Done()
	})
	same(t, got, []string{
		`publish 11/0 "body" flags 5 priority 7 at 99 ttl -1 count 2`,
		`publish 13/9223372036854775808 "body" flags 5 priority 7 at 99 ttl -1 count 0`,
	})
}

// TestFactsKeepTheirOrder: of a message that is handed out, taken back before it
// got anywhere, and handed out to somebody else, the last is what counts.
func TestFactsKeepTheirOrder(t *testing.T) {
	got := heardBack(t, func(d *Disk) {
		d.Facts(3, []queue.Fact{
			{Kind: queue.Delivered, Seq: 4, To: 9},
			{Kind: queue.Returned, Seq: 4, Tries: queue.Tries{Returned: 9, Failed: 3}},
			{Kind: queue.Settled, Seq: 5, To: 6},
			{Kind: queue.Delivered, Seq: 4, To: 4},
		})
		d.Facts(4, []queue.Fact{{Kind: queue.Enqueued, Seq: 4}})
	})
	same(t, got, []string{"delivered 3/4-9", "returned 3/4 9 failed 3", "settled 3/5-6", "delivered 3/4-4"})
}

func TestDefinitionsComeBack(t *testing.T) {
	args := wire.Table{{Key: "x-max-length", Value: int32(3)}}
	defs := []Definition{
		{Kind: QueueDeclared, ID: 1 << 60, VHost: "/", Name: "q", AutoDelete: true, Args: args},
		{Kind: ExchangeDeclared, VHost: "/", Name: "x", Type: "topic", Internal: true, Args: args},
		{Kind: Bound, VHost: "/", Source: "x", Name: "q", Key: "a.#", Args: args},
		{Kind: Bound, VHost: "/", Source: "x", Name: "x", ToExchange: true},
		{Kind: Unbound, VHost: "/", Source: "x", Name: "x", ToExchange: true},
		{Kind: ExchangeDeleted, VHost: "v", Name: "x"},
		{Kind: QueueDeleted, ID: 1 << 60},
		{Kind: Counters, ID: 77},
	}
	var want []string
	for _, d := range defs {
		want = append(want, fmt.Sprintf("define %+v", d))
	}
	same(t, heardBack(t, func(d *Disk) { d.Define(defs...) }), want)
}

// TestFileAccounting counts references into log files as messages come and go.
func TestFileAccounting(t *testing.T) {
	fsys := vfs.NewMem()
	d, _, err := OpenDisk(DiskConfig{FS: fsys, Dir: "/data", FileBytes: 1 << 20}, &listener{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abandon()
	body := make([]byte, 200_000)
	var refs []Ref
	for seq := range queue.Seq(12) {
		size := PublishBytes(2, len(body))
		g := d.Reserve(1, size, true)
		b, ref := g.Add(size, 2)
		PutPublish(b, &Published{Message: body, TTLMillis: -1}, 2)
		PutQueue(b, 0, 1, seq, true, 0)
		PutQueue(b, 1, 2, seq, true, 0)
		if err := d.WaitDurable(g.Done()); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	use := d.Use()
	if len(use) < 2 || use[0].Refs == 0 || use[0].LiveBytes < 200_000 {
		t.Fatalf("files in use: %+v", use)
	}
	for _, r := range refs {
		if r.File() == use[0].Number {
			d.Release(r, 2)
		}
	}
	if after := d.Use(); after[0].Refs != 0 || after[0].LiveBytes != 0 || after[1] != use[1] {
		t.Errorf("files in use: %+v, after one is released %+v", use, after)
	}
	if d.Below(use[0].Number) {
		t.Error("a file without a checkpoint is not read at a start")
	}
}

// TestCheckpointAfterOneThatMayCount: the manifest may name a checkpoint although
// writing it down has failed. The next one must not be made in its place.
func TestCheckpointAfterOneThatMayCount(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	d, _, err := OpenDisk(DiskConfig{FS: fault, Dir: "/data"}, &listener{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abandon()
	if err := d.WaitDurable(d.Define(Definition{Kind: Counters, ID: 5})); err != nil {
		t.Fatal(err)
	}
	fault.Add(vfs.Rule{Kinds: vfs.OpSyncDir, Nth: 2, Err: syscall.EIO}) // after the rename of the manifest
	c, err := d.BeginCheckpoint(d.End())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err == nil {
		t.Fatal("the checkpoint says it is durable")
	}
	if _, err := d.BeginCheckpoint(d.End()); err != nil {
		t.Fatal(err)
	}
	again, _, err := OpenDisk(DiskConfig{FS: mem.Clone(), Dir: "/data"}, &listener{})
	if err != nil {
		t.Fatalf("killed in the next checkpoint, it does not start: %v", err)
	}
	again.Abandon()
}

// FuzzPublish: whatever stands in a publish record, reading it does not panic,
// and what was written is what is read.
func FuzzPublish(f *testing.F) {
	b := make([]byte, PublishBytes(2, 3))
	PutPublish(b, &Published{Flags: 1, Priority: 2, Time: 3, TTLMillis: 4, Message: []byte("abc")}, 2)
	PutQueue(b, 0, 5, 6, true, 7)
	f.Add(b)
	f.Add([]byte{})
	f.Add(make([]byte, publishFixedBytes-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		typ := uint8(recPublish)
		if len(b) > 0 && b[0]&0x80 != 0 {
			typ = recPublishLarge
		}
		p, err := parsePublish(typ, b)
		if err != nil {
			return
		}
		n := 0
		p.Queues(func(queue.ID, queue.Seq, uint32) { n++ })
		if string(messageOf(typ, b)) != string(p.Message) || n > len(b)/publishQueueBytes {
			t.Errorf("%d queues and message %q in a record of %d bytes", n, p.Message, len(b))
		}
	})
}

// FuzzDefinition: what parses, parses to the same again once it is written.
func FuzzDefinition(f *testing.F) {
	for _, d := range []Definition{
		{Kind: QueueDeclared, ID: 3, VHost: "/", Name: "q", Args: wire.Table{{Key: "a", Value: "b"}}},
		{Kind: ExchangeDeclared, VHost: "/", Name: "x", Type: "topic"},
		{Kind: Bound, VHost: "/", Source: "x", Name: "q", Key: "k"},
		{Kind: Counters, ID: 9},
	} {
		f.Add(uint8(d.Kind), d.encode())
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		d, err := parseDefinition(kind, b)
		if err != nil {
			return
		}
		again, err := parseDefinition(kind, d.encode())
		if err != nil {
			t.Fatalf("%+v does not parse once written: %v", d, err)
		}
		if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", d) {
			t.Errorf("%+v is %+v once written", d, again)
		}
	})
}

// FuzzFacts: a record of facts reads without panic, or is refused.
func FuzzFacts(f *testing.F) {
	f.Add(make([]byte, factsFixedBytes+2*factBytes))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		if err := parseFacts(b, func(queue.ID, uint64, uint64) error { n++; return nil }); err == nil && n*factBytes+factsFixedBytes != len(b) {
			t.Errorf("%d facts in %d bytes", n, len(b))
		}
	})
}
