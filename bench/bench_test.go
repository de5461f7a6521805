package bench

import (
	"errors"
	"net"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/internal/wire"
)

// serve is listen that hands out connections.
func serve(t testing.TB, dir string) (dial func() *loadgen.Client) {
	addr := listen(t, dir)
	return func() *loadgen.Client {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := loadgen.Connect(nc)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// flow is a publisher and a consumer of one queue.
type flow struct {
	pub, con *loadgen.Client
	frames   []byte
	burst    int
	ack      bool
	confirm  uint64 // publishes so far, if confirms are on
}

func newFlow(t testing.TB, dial func() *loadgen.Client, bodyBytes, burst int, persistent, ack, confirm bool) *flow {
	f := &flow{pub: dial(), con: dial(), burst: burst, ack: ack, frames: loadgen.Publishes("bench", burst, bodyBytes, persistent)}
	must(t, f.con.Call(&wire.QueueDeclare{Queue: "bench", Durable: persistent, AutoDelete: !persistent}, wire.IDQueueDeclareOk))
	must(t, f.con.Call(&wire.BasicQos{PrefetchCount: 10000}, wire.IDBasicQosOk))
	must(t, f.con.Call(&wire.BasicConsume{Queue: "bench", ConsumerTag: "c", NoAck: !ack}, wire.IDBasicConsumeOk))
	if confirm {
		must(t, f.pub.Call(&wire.ConfirmSelect{}, wire.IDConfirmSelectOk))
		f.confirm = 1
	}
	return f
}

// run sends bursts and takes them at the other end.
func (f *flow) run(bursts int) error {
	failed := make(chan error, 1)
	go func() {
		for range bursts {
			if err := f.pub.Write(f.frames); err != nil {
				failed <- err
				return
			}
			if f.confirm > 0 {
				if err := f.pub.Confirms(f.confirm + uint64(f.burst) - 1); err != nil {
					failed <- err
					return
				}
				f.confirm += uint64(f.burst)
			}
		}
		failed <- nil
	}()
	err := f.con.Deliveries(bursts*f.burst, f.ack)
	return errors.Join(err, <-failed)
}

// TestNoAllocationPerMessage sends 10,000 messages through a warm broker over
// real sockets, with confirms and acks, and counts the allocations of the whole
// process: the client makes none, so what is left is the broker's.
func TestNoAllocationPerMessage(t *testing.T) {
	for name, c := range map[string]struct{ disk, persistent, ack, confirm bool }{
		"transient, no ack":                           {},
		"transient, acknowledged":                     {ack: true},
		"transient, confirmed":                        {confirm: true},
		"persistent, acknowledged, confirmed":         {false, true, true, true},
		"persistent on disk, acknowledged":            {true, true, true, false},
		"persistent on disk, acknowledged, confirmed": {true, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ""
			if c.disk {
				dir = t.TempDir()
			}
			f := newFlow(t, serve(t, dir), 100, 200, c.persistent, c.ack, c.confirm)
			must(t, f.run(100)) // warm up: buffers, pages and chunks reach their size
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			must(t, f.run(50))
			runtime.ReadMemStats(&after)
			// Some for starting the run and for log blocks, and on a busy machine for
			// each of more batches; none for each message, which would be 10,000.
			if n := after.Mallocs - before.Mallocs; n > 500 {
				t.Errorf("%d allocations (%d bytes) for 10,000 messages", n, after.TotalAlloc-before.TotalAlloc)
			}
		})
	}
}
