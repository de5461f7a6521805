package amqpserver

import (
	"slices"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

// TestCutWhileHeld cuts a publisher that an alarm holds. Its socket is not read,
// so that nothing but the cut itself tells its reader, and without heartbeats
// nothing would later.
func TestCutWhileHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 4<<20)
	c := r.open(t, tuning{})
	c.call(1, &wire.QueueDeclare{Queue: "q", Exclusive: true}, wire.IDQueueDeclareOk)
	c.pipelined(slices.Concat(slices.Repeat([][]byte{publishFrames(1, "q", make([]byte, 64<<10))}, 200)...))
	eventually(t, "the publisher is held", func() bool { return r.heldReaders() == 1 })
	r.CutAll()
	eventually(t, "the connection is gone", func() bool { return r.ConnCount() == 0 })
}
