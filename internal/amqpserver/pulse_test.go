package amqpserver

import (
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// beatAlong sends heartbeats, as a client that lives, until the connection or the
// test ends. How long that took comes when the connection has ended.
func (c *raw) beatAlong(t *testing.T, every time.Duration) <-chan time.Duration {
	began := time.Now()
	cut := make(chan time.Duration, 1)
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { // no ticker wakes it any more in a bubble whose test has returned
		close(stop)
		c.Close()
		<-done
	})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if _, err := c.Write(wire.AppendHeartbeat(nil)); err != nil {
				cut <- time.Since(began)
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return cut
}

// TestHeartbeats: with an interval of 1 s the server beats in each, and gives up a
// client that is silent for two, or never reads.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 100 * time.Millisecond
		r := newPipeRig(t, quietBeat)
		deafCut := r.consumeDeaf(t, 1).beatAlong(t, every)
		silent := r.open(t, tuning{heartbeatSeconds: 1})
		c := r.open(t, tuning{heartbeatSeconds: 1})
		c.beatAlong(t, every)

		began := time.Now()
		silentCut := make(chan time.Duration, 1)
		go func() {
			io.Copy(io.Discard, silent) // until it ends
			silentCut <- time.Since(began)
		}()
		for last := began; last.Sub(began) < 10*time.Second; last = time.Now() {
			f, err := c.frame()
			if err != nil {
				t.Fatalf("a client that beats is cut after %s: %v", time.Since(began), err)
			}
			if f.Type != wire.FrameHeartbeat || f.Channel != 0 || len(f.Payload) != 0 {
				t.Fatalf("%+v, want a heartbeat", f)
			}
			if gap := time.Since(last); gap > time.Second {
				t.Errorf("silent for %s with heartbeats of 1 s", gap)
			}
		}
		if took := <-silentCut; took < 2*time.Second || took > 2500*time.Millisecond {
			t.Errorf("a silent client was cut after %s, want two intervals of 1 s", took)
		}
		if took := <-deafCut; took < 2*time.Second || took > 2500*time.Millisecond+every {
			t.Errorf("a client that does not read was cut after %s, want two intervals of 1 s", took)
		}
		if n := r.ConnCount(); n != 2 {
			t.Errorf("%d connections, want the one that beats and the one without heartbeats", n)
		}
		c.sync(1)
	})
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
