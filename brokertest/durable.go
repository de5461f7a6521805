package brokertest

import (
	"net"
	"sync"
	"testing"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/vfs"
)

// memoryDir is the data directory of NewDurable, on a file system in memory.
const memoryDir = "/data"

// memoryLogBytes is the size of log files in memory.
const memoryLogBytes = 1 << 20

// NewDurable is New for a broker that keeps what is durable, as one with a data
// directory does, so that the test may use CrashAndRestart, FillDisk and
// FreeDisk. The directory is on a disk in memory, which is as strict as a real
// one: a crash loses what was not synced. A Config with a Dir uses that
// directory, on the machine's file system; New does the same with it.
func NewDurable(t testing.TB, config ...broker.Config) *Broker {
	t.Helper()
	var c broker.Config
	if len(config) > 0 {
		c = config[0]
	}
	b := &Broker{t: t, config: c}
	if c.Dir == "" {
		b.config.Dir = memoryDir
		b.memory = vfs.NewMem()
	}
	b.begin()
	return b
}

// mount puts the data directory on a disk that can fill up.
func (b *Broker) mount() {
	var inner vfs.FS = vfs.OS{}
	logBytes := int64(0)
	if b.memory != nil {
		inner, logBytes = b.memory, memoryLogBytes
	}
	b.disk = vfs.NewFault(inner)
	b.disk.SetFree(b.freeBytes())
	b.config = broker.OnFileSystem(b.config, b.disk, logBytes)
}

// freeBytes is what the disk has left by the test's will, -1 for what it has.
func (b *Broker) freeBytes() int64 {
	if !b.full {
		return -1
	}
	limit := b.config.MinFreeDiskBytes
	switch {
	case limit < 0:
		return 0
	case limit == 0:
		limit = defaultMinFreeDisk
	}
	return limit / 2
}

// defaultMinFreeDisk is what package broker takes for MinFreeDiskBytes 0.
const defaultMinFreeDisk = 50_000_000

// CrashAndRestart ends the broker as a power loss would, without a word to its
// clients, and starts another one on what is on the disk: durable exchanges,
// queues and bindings, and the persistent messages in durable queues. What was
// not confirmed may be lost; what was not acknowledged comes again, marked as
// redelivered. URL, Addr and Dial lead to the new broker. The broker needs a data
// directory: NewDurable, or New with a Dir.
func (b *Broker) CrashAndRestart() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.config.Dir == "" {
		b.t.Fatal("brokertest: CrashAndRestart needs a broker with a data directory: NewDurable, or New with a Dir")
	}
	b.inner.Faults().Crash()
	if b.memory != nil {
		b.memory = b.memory.CrashClone(vfs.KeepNone, nil)
	}
	b.start()
}

// FillDisk leaves less space on the broker's disk than it wants to have free:
// connections that publish are blocked (connection.blocked, "low on disk") until
// FreeDisk, and those that consume go on.
func (b *Broker) FillDisk() { b.setFull(true) }

// FreeDisk ends FillDisk.
func (b *Broker) FreeDisk() { b.setFull(false) }

func (b *Broker) setFull(full bool) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.disk == nil {
		b.t.Fatal("brokertest: FillDisk and FreeDisk need a broker with a data directory: NewDurable, or New with a Dir")
	}
	b.full = full
	b.disk.SetFree(b.freeBytes())
	b.inner.Faults().LookAtDisk()
}

// listener is the test's own: it stays while brokers come and go, and hands each
// connection to the one that runs.
type listener struct {
	net.Listener
	mu     sync.Mutex
	outlet *outlet
}

// outlet is a net.Listener for one broker.
type outlet struct {
	of    *listener
	conns chan net.Conn
	end   chan struct{}
	once  sync.Once
}

// next makes the outlet for the next broker.
func (l *listener) next() *outlet {
	o := &outlet{of: l, conns: make(chan net.Conn), end: make(chan struct{})}
	l.mu.Lock()
	l.outlet = o
	l.mu.Unlock()
	return o
}

// run accepts until the listener is closed.
func (l *listener) run() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		o := l.outlet
		l.mu.Unlock()
		select {
		case o.conns <- c:
		case <-o.end:
			c.Close() // nobody is there: refused, as far as the client can tell
		}
	}
}

// Accept implements net.Listener.
func (o *outlet) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.end:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The port stays.
func (o *outlet) Close() error {
	o.once.Do(func() { close(o.end) })
	return nil
}

// Addr implements net.Listener.
func (o *outlet) Addr() net.Addr { return o.of.Listener.Addr() }
