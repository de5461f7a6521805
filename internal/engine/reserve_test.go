package engine

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// fullDisk is an engine with ten files of messages, on a disk that has become full
// to the last byte.
func fullDisk(t *testing.T) (fsys *vfs.Fault, e *Engine, said *strings.Builder) {
	t.Helper()
	fsys = vfs.NewFault(vfs.NewMem())
	config := durableConfig(fsys, newHandClock())
	said = &strings.Builder{}
	config.Logger = slog.New(slog.NewTextHandler(said, nil))
	config.Disk.MinFreeBytes = 2 << 20
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	conn, ch := open(t, e)
	for _, name := range []string{"consumed", "deleted"} {
		declare(t, ch, &wire.QueueDeclare{Queue: name, Durable: true})
		for id := range uint64(25) {
			must(t, send(ch, publishing{key: name, id: id + 1, bodyBytes: 200_000, persistent: true}))
			conn.Flush()
			must(t, e.settled())
		}
	}
	e.janitor.round()
	if e.disk.Reserved() < 1<<20 {
		t.Fatalf("%d bytes are kept back", e.disk.Reserved())
	}
	fsys.SetFree(0)
	e.janitor.round()
	if !e.alarm.up.Load() {
		t.Fatal("publishers are not blocked on a full disk")
	}
	return fsys, e, said
}

// TestFullDisk frees a full disk by what clients do: acks, and the deletion of a
// queue. It takes a checkpoint that is not due otherwise, and the reserve; and
// then publishers go on and the reserve comes back.
func TestFullDisk(t *testing.T) {
	for _, how := range []string{"acks", "delete", "purge"} {
		t.Run(how, func(t *testing.T) {
			fsys, e, said := fullDisk(t)
			conn, ch := open(t, e)
			switch how {
			case "acks":
				takeAll(t, conn, ch, "consumed")
			case "delete":
				must(t, ch.DeleteQueue(&wire.QueueDelete{Queue: "deleted"}, func(uint32) {}))
			case "purge":
				_, err := ch.Purge("deleted")
				must(t, err)
			}
			for range 3 {
				e.janitor.round()
			}
			if err := e.Err(); err != nil {
				t.Fatal(err)
			}
			if e.alarm.up.Load() {
				free, _ := e.disk.Free()
				t.Fatalf("publishers are blocked still, with %d bytes free and %d kept back: %s", free, e.disk.Reserved(), said)
			}
			if strings.Contains(said.String(), "no checkpoint") || !strings.Contains(said.String(), "kept back for that is given up") {
				t.Errorf("not by the reserve: %s", said)
			}
			fsys.SetFree(64 << 20)
			e.janitor.round()
			if e.disk.Reserved() < 1<<20 {
				t.Errorf("with space again, %d bytes are kept back", e.disk.Reserved())
			}
			must(t, send(ch, publishing{key: "consumed", id: 99, persistent: true}))
			conn.Flush()
			must(t, e.settled())
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// takeAll consumes a queue with acks.
func takeAll(t *testing.T, conn *Conn, ch *Channel, name string) {
	t.Helper()
	for {
		ok, err := ch.Get(name, false)
		must(t, err)
		if !ok {
			break
		}
		for _, r := range drain(t, conn) {
			if m, is := r.method.(*wire.BasicGetOk); is {
				must(t, ch.Ack(m.DeliveryTag, false))
			}
		}
	}
	conn.Flush()
	must(t, ch.conn.e.settled())
}

// TestNoReserveOnASmallDisk: it does not take what publishers need.
func TestNoReserveOnASmallDisk(t *testing.T) {
	fsys := vfs.NewFault(vfs.NewMem())
	config := durableConfig(fsys, newHandClock())
	config.Disk.MinFreeBytes = 2 << 20
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Abandon()
	fsys.SetFree(4 << 20)
	e.janitor.round()
	if e.disk.Reserved() != 0 || e.alarm.up.Load() {
		t.Errorf("%d bytes are kept back; alarm %t", e.disk.Reserved(), e.alarm.up.Load())
	}
}
