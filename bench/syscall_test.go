package bench

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/internal/vfs"
)

// calls are the system calls that a broker makes for messages.
type calls struct {
	reads, writes atomic.Int64 // of sockets
	files         atomic.Int64 // reads and writes of files
	syncs         atomic.Int64
}

// perMessage is how many calls there may be for each message.
type perMessage struct{ reads, writes, files, syncs float64 }

// countedListener counts what a broker's connections do.
type countedListener struct {
	net.Listener
	calls *calls
}

func (l countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{nc, l.calls}, nil
}

type countedConn struct {
	net.Conn
	calls *calls
}

func (c countedConn) Read(b []byte) (int, error)  { c.calls.reads.Add(1); return c.Conn.Read(b) }
func (c countedConn) Write(b []byte) (int, error) { c.calls.writes.Add(1); return c.Conn.Write(b) }

// countedFS counts what a broker does to the files of its data directory.
type countedFS struct {
	vfs.FS
	calls *calls
}

func (f countedFS) Create(name string) (vfs.File, error) { return f.count(f.FS.Create(name)) }
func (f countedFS) Open(name string) (vfs.File, error)   { return f.count(f.FS.Open(name)) }
func (f countedFS) OpenRead(name string) (vfs.File, error) {
	return f.count(f.FS.OpenRead(name))
}

func (f countedFS) count(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return countedFile{file, f.calls}, nil
}

type countedFile struct {
	vfs.File
	calls *calls
}

func (f countedFile) ReadAt(b []byte, at int64) (int, error) {
	f.calls.files.Add(1)
	return f.File.ReadAt(b, at)
}

func (f countedFile) WriteAt(b []byte, at int64) (int, error) {
	f.calls.files.Add(1)
	return f.File.WriteAt(b, at)
}
func (f countedFile) Sync() error     { f.calls.syncs.Add(1); return f.File.Sync() }
func (f countedFile) Datasync() error { f.calls.syncs.Add(1); return f.File.Datasync() }

// TestSystemCallsPerMessage: where clients write many messages at once, the broker
// reads and writes many at once, on each way that a message takes. It gathers what there
// is, so it makes fewer calls the busier it is, and the bounds hold on any machine; they
// are some times what an idle one needs. One call for each message would be 1.
func TestSystemCallsPerMessage(t *testing.T) {
	const n = 100_000
	batched := func(c loadgen.Config) loadgen.Config {
		c.Queues, c.BodyBytes, c.Batched = []string{"q"}, 16, true
		if c.Prefill == 0 {
			c.Producers, c.PublishCount = 1, n
		}
		return c
	}
	for name, c := range map[string]struct {
		cfg  loadgen.Config
		disk bool
		most perMessage
	}{
		"publish":             {loadgen.Config{}, false, perMessage{reads: 0.01, writes: 0.002}},
		"publish and confirm": {loadgen.Config{Confirm: 5000}, false, perMessage{reads: 0.01, writes: 0.01}},
		// The prefill is a confirmed publish of each message, too.
		"deliver":         {loadgen.Config{Consumers: 1, AutoAck: true, Prefill: n}, false, perMessage{reads: 0.01, writes: 0.02}},
		"deliver and ack": {loadgen.Config{Consumers: 1, AckEvery: 100, Prefetch: 5000, Prefill: n}, false, perMessage{reads: 0.02, writes: 0.02}},
		"transient":       {loadgen.Config{Consumers: 1, AutoAck: true}, false, perMessage{reads: 0.01, writes: 0.01}},
		"all of it":       {loadgen.Config{Consumers: 1, Persistent: true, Confirm: 5000, AckEvery: 100, Prefetch: 5000}, false, perMessage{reads: 0.02, writes: 0.02}},
		"on disk: publish and confirm": {loadgen.Config{Persistent: true, Confirm: 5000}, true,
			perMessage{reads: 0.01, writes: 0.01, files: 0.01, syncs: 0.01}},
		"on disk: all of it": {loadgen.Config{Consumers: 1, Persistent: true, Confirm: 5000, AckEvery: 100, Prefetch: 5000}, true,
			perMessage{reads: 0.02, writes: 0.02, files: 0.01, syncs: 0.01}},
		// Without confirms nobody waits for the disk, so it is asked rarely.
		"on disk: publish": {loadgen.Config{Persistent: true}, true, perMessage{reads: 0.01, writes: 0.002, files: 0.003, syncs: 0.003}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ""
			if c.disk {
				dir = t.TempDir()
			}
			var made calls
			// stop ends it, so that what it does in the end is counted as well.
			addr, stop := start(t, broker.OnFileSystem(broker.Config{Dir: dir}, countedFS{vfs.OS{}, &made}, 0),
				func(l net.Listener) net.Listener { return countedListener{l, &made} })
			cfg := batched(c.cfg)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			rep, err := loadgen.Run(ctx, target(addr), &cfg)
			if err != nil || rep.Published+rep.Received == 0 || cfg.Consumers > 0 && rep.Received != n {
				t.Fatalf("%+v, %v", rep, err)
			}
			stop()
			for _, k := range []struct {
				what string
				made int64
				most float64
			}{
				{"reads of sockets", made.reads.Load(), c.most.reads}, {"writes to sockets", made.writes.Load(), c.most.writes},
				{"reads and writes of files", made.files.Load(), c.most.files}, {"syncs", made.syncs.Load(), c.most.syncs},
			} {
				if per := float64(k.made) / n; per > k.most {
					t.Errorf("%.5f %s per message, want at most %g", per, k.what, k.most)
				} else {
					t.Logf("%.5f %s per message", per, k.what)
				}
			}
		})
	}
}
