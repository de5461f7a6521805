package engine

import (
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
