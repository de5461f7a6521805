package amqpserver

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// beatAlong sends heartbeats until the connection ends, as a client that lives.
func (c *raw) beatAlong(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := c.Write(wire.AppendHeartbeat(nil)); err != nil {
			return
		}
		<-tick.C
	}
}

// TestHeartbeats runs in real time with the shortest interval there is, 1 s, on
// several connections at once.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 0)
	deaf := r.consumeDeaf(t, 1)
	go deaf.beatAlong(400 * time.Millisecond)
	silent := r.open(t, tuning{heartbeatSeconds: 1})
	c := r.open(t, tuning{heartbeatSeconds: 1})
	go c.beatAlong(400 * time.Millisecond)

	began := time.Now()
	cut := make(chan time.Duration, 1)
	go func() {
		io.Copy(io.Discard, silent) // until it ends
		cut <- time.Since(began)
	}()
	// Something comes at least once per interval, and a client that only sends
	// heartbeats lives.
	for last := began; last.Sub(began) < 3*time.Second; last = time.Now() {
		f, err := c.frame()
		if err != nil {
			t.Fatalf("cut after %s: %v", time.Since(began), err)
		}
		if f.Type != wire.FrameHeartbeat || f.Channel != 0 || len(f.Payload) != 0 {
			t.Fatalf("%+v, want a heartbeat", f)
		}
		if gap := time.Since(last); gap >= 2*time.Second { // a client cuts then
			t.Errorf("silent for %s with heartbeats of 1 s", gap)
		}
	}
	c.sync(1)
	// A client that is silent is cut after two intervals, and not before.
	if took := <-cut; took < 1500*time.Millisecond || took > 6*time.Second {
		t.Errorf("a silent client was cut after %s, want two intervals of 1 s", took)
	}
	// One that beats but does not read is cut in the end.
	eventually(t, "the deaf client is cut", func() bool { return r.ConnCount() == 2 })
}

// TestNoHeartbeat: a client that negotiated none hears none, however long it is
// silent.
func TestNoHeartbeat(t *testing.T) {
	t.Parallel()
	r := newQuietRig(t, Config{}, 0, 10*time.Millisecond)
	c := r.open(t, tuning{})
	c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if f, err := c.frame(); err == nil || r.ConnCount() != 1 {
		t.Errorf("%+v %v, want nothing", f, err)
	}
}

// TestStalledWrite: a client that does not read is cut in the end, without
// heartbeats too.
func TestStalledWrite(t *testing.T) {
	t.Parallel()
	r := newQuietRig(t, Config{}, 0, 50*time.Millisecond)
	r.consumeDeaf(t, 0)
	eventually(t, "it is cut", func() bool { return r.ConnCount() == 1 })
}

// consumeDeaf makes a connection that consumes more than sockets hold and never
// reads. A second connection, which filled the queue, stays open.
func (r *rig) consumeDeaf(t *testing.T, heartbeatSeconds uint16) *raw {
	t.Helper()
	other := r.open(t, tuning{})
	other.call(1, &wire.QueueDeclare{Queue: "long"}, wire.IDQueueDeclareOk)
	message := publishFrames(1, "long", make([]byte, 1<<20))
	other.write(slices.Concat(slices.Repeat([][]byte{message}, 24)...))
	other.sync(1)
	deaf := r.open(t, tuning{heartbeatSeconds: heartbeatSeconds})
	deaf.send(1, &wire.BasicConsume{Queue: "long", NoAck: true})
	return deaf
}
