package amqpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

// patience bounds every wait for something that has to happen.
const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server with its engine, on a port of its own.
type rig struct {
	*Server
	engine *engine.Engine
	addr   string
	dial   func() (net.Conn, error)
	served chan struct{}
}

// newRig starts a server. A zero field of c gets its usual value; memoryLimitBytes
// 0 means none.
func newRig(t testing.TB, c Config, memoryLimitBytes int64) *rig {
	t.Helper()
	return newQuietRig(t, c, memoryLimitBytes, quietBeat)
}

// newQuietRig is newRig with another beat for connections without heartbeats.
func newQuietRig(t testing.TB, c Config, memoryLimitBytes int64, quiet time.Duration) *rig {
	t.Helper()
	return newRigOn(t, c, engine.Config{MemoryLimitBytes: memoryLimitBytes}, quiet)
}

// newRigOn is newQuietRig with an engine's configuration.
func newRigOn(t testing.TB, c Config, ec engine.Config, quiet time.Duration) *rig {
	t.Helper()
	r := newUnservedRig(t, c, ec, quiet)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	r.dial = func() (net.Conn, error) { return net.Dial("tcp", r.addr) }
	go func() {
		r.Serve(l)
		close(r.served)
	}()
	return r
}

// newPipeRig starts a server without sockets, for testing/synctest: nothing is
// buffered between it and its clients.
func newPipeRig(t testing.TB, quiet time.Duration) *rig {
	t.Helper()
	r := newUnservedRig(t, Config{}, engine.Config{}, quiet)
	r.dial = func() (net.Conn, error) {
		client, server := net.Pipe()
		r.ServeConn(server)
		return client, nil
	}
	close(r.served)
	return r
}

func newUnservedRig(t testing.TB, c Config, ec engine.Config, quiet time.Duration) *rig {
	t.Helper()
	ec.VHosts = []string{"/"}
	e, err := engine.New(ec)
	if err != nil {
		t.Fatal(err)
	}
	c.Engine = e
	c.Users = auth.Guest()
	if c.FrameMax == 0 {
		c.FrameMax = 131072
	}
	if c.ChannelMax == 0 {
		c.ChannelMax = 2047
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = 16 << 20
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = patience
	}
	r := &rig{Server: New(c), engine: c.Engine, served: make(chan struct{})}
	r.quiet = quiet
	t.Cleanup(r.stop)
	return r
}

// stop ends the server; whoever is still there is cut.
func (r *rig) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.Shutdown(ctx)
	r.engine.Close()
	<-r.served
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("still not so after %s: %s", patience, what)
		}
		<-tick.C
	}
}

// raw is a client that may misbehave: it sends bytes and reads frames.
type raw struct {
	net.Conn
	t   testing.TB
	buf []byte
}

func (r *rig) connect(t testing.TB) *raw {
	t.Helper()
	nc, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(3 * patience))
	return &raw{Conn: nc, t: t}
}

// tuning is what a raw client asks for.
type tuning struct {
	frameMax         uint32 // 0 for the server's
	heartbeatSeconds uint16
	capabilities     []string
}

// login connects and does all of the handshake.
func (r *rig) login(t testing.TB, tune tuning) *raw {
	t.Helper()
	c := r.connect(t)
	c.write([]byte(wire.ProtocolHeader))
	c.await(wire.IDConnectionStart)
	var caps wire.Table
	for _, name := range tune.capabilities {
		caps = append(caps, wire.Field{Key: name, Value: true})
	}
	c.send(0, &wire.ConnectionStartOk{ClientProperties: wire.Table{{Key: "capabilities", Value: caps}},
		Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"})
	m := c.await(wire.IDConnectionTune).(*wire.ConnectionTune)
	if tune.frameMax == 0 {
		tune.frameMax = m.FrameMax
	}
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: m.ChannelMax, FrameMax: tune.frameMax, Heartbeat: tune.heartbeatSeconds})
	c.send(0, &wire.ConnectionOpen{VirtualHost: "/"})
	c.await(wire.IDConnectionOpenOk)
	return c
}

// open logs in and opens channel 1.
func (r *rig) open(t testing.TB, tune tuning) *raw {
	t.Helper()
	c := r.login(t, tune)
	c.call(1, &wire.ChannelOpen{}, wire.IDChannelOpenOk)
	return c
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *raw) send(channel uint16, m wire.Method) {
	c.t.Helper()
	c.write(wire.AppendMethodFrame(nil, channel, m))
}

func (c *raw) call(channel uint16, m wire.Method, answer wire.MethodID) wire.Method {
	c.t.Helper()
	c.send(channel, m)
	return c.await(answer)
}

// frame reads one frame.
func (c *raw) frame() (wire.Frame, error) {
	for {
		f, n, err := wire.ParseFrame(c.buf, 0)
		if err != nil {
			return f, err
		}
		if n > 0 {
			c.buf = c.buf[n:]
			return f, nil
		}
		b := make([]byte, 64<<10)
		n, err = c.Read(b)
		c.buf = append(c.buf[:len(c.buf):len(c.buf)], b[:n]...)
		if n == 0 {
			return f, err
		}
	}
}

// method reads up to the next method frame, over heartbeats and content.
func (c *raw) method() (channel uint16, m wire.Method, err error) {
	for {
		f, err := c.frame()
		if err != nil {
			return 0, nil, err
		}
		if f.Type == wire.FrameMethod {
			m, err := wire.DecodeMethod(f.Payload)
			return f.Channel, m, err
		}
	}
}

// await reads until that method comes; anything that closes meanwhile is fatal.
func (c *raw) await(id wire.MethodID) wire.Method {
	c.t.Helper()
	for {
		_, m, err := c.method()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", id, err)
		}
		if m.ID() == id {
			return m
		}
		switch m := m.(type) {
		case *wire.ConnectionClose:
			c.t.Fatalf("waiting for %s: connection closed: %d %s", id, m.ReplyCode, m.ReplyText)
		case *wire.ChannelClose:
			c.t.Fatalf("waiting for %s: channel closed: %d %s", id, m.ReplyCode, m.ReplyText)
		}
	}
}

// wantClosed reads to the end: the server has to close the connection with that
// code, 0 for without a word.
func (c *raw) wantClosed(code uint16) {
	c.t.Helper()
	got := uint16(0)
	for {
		_, m, err := c.method()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.t.Fatalf("not closed, want code %d", code)
			}
			break
		}
		if m, ok := m.(*wire.ConnectionClose); ok {
			got = m.ReplyCode
			c.Write(wire.AppendMethodFrame(nil, 0, &wire.ConnectionCloseOk{}))
		}
	}
	if got != code {
		c.t.Errorf("connection closed with code %d, want %d", got, code)
	}
}

// wantEOF reads to the end and drops what comes.
func (c *raw) wantEOF() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("not closed")
	}
}

// publishFrames is one publish to a queue through the default exchange.
func publishFrames(channel uint16, queue string, body []byte) []byte {
	return wire.AppendContent(nil, channel, &wire.BasicPublish{RoutingKey: queue}, nil, body, 131072)
}

// witness is a well-behaved connection that goes on publishing and consuming at
// a steady rate while others misbehave. It uses the official client.
type witness struct {
	t         testing.TB
	conn      *amqp.Connection
	stop      chan struct{}
	done      chan error
	published atomic.Int64
}

// witnessEvery is the steady rate: one message per so much time.
const witnessEvery = time.Millisecond

func startWitness(t testing.TB, r *rig) *witness {
	t.Helper()
	conn, err := amqp.Dial("amqp://guest:guest@" + r.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{t: t, conn: conn, stop: make(chan struct{}), done: make(chan error, 1)}
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err == nil {
		_, err = ch.QueueDeclare("witness", false, false, true, false, nil)
	}
	if err == nil {
		err = ch.Qos(100, 0, false)
	}
	var deliveries <-chan amqp.Delivery
	if err == nil {
		deliveries, err = ch.Consume("witness", "", false, false, false, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { w.done <- w.run(ch, deliveries) }()
	return w
}

// run publishes numbered messages until stop, and then waits for what is still
// out. Every message has to be confirmed and has to arrive once, in order.
func (w *witness) run(ch *amqp.Channel, deliveries <-chan amqp.Delivery) error {
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 1<<16))
	closed := w.conn.NotifyClose(make(chan *amqp.Error, 1))
	tick := time.NewTicker(witnessEvery)
	defer tick.Stop()
	stop := w.stop
	var sent, confirmed, received uint64
	late := time.NewTimer(patience)
	defer late.Stop()
	for stop != nil || confirmed < sent || received < sent {
		select {
		case <-tick.C:
			if stop == nil {
				continue
			}
			if err := ch.PublishWithContext(context.Background(), "", "witness", true, false,
				amqp.Publishing{Body: fmt.Append(nil, sent)}); err != nil {
				return err
			}
			sent++
			w.published.Add(1)
		case c := <-confirms:
			confirmed++
			if !c.Ack || c.DeliveryTag != confirmed {
				return fmt.Errorf("confirm %+v, want ack of %d", c, confirmed)
			}
			late.Reset(patience)
		case d := <-deliveries:
			if want := fmt.Sprint(received); string(d.Body) != want || d.Redelivered {
				return fmt.Errorf("received %q (redelivered %v), want %s", d.Body, d.Redelivered, want)
			}
			received++
			if err := d.Ack(false); err != nil {
				return err
			}
			late.Reset(patience)
		case err := <-closed:
			return fmt.Errorf("connection closed: %v", err)
		case <-late.C:
			return fmt.Errorf("stuck for %s: sent %d, confirmed %d, received %d", patience, sent, confirmed, received)
		case <-stop:
			stop = nil
		}
	}
	return nil
}

// finish ends the witness and fails the test if anything was lost.
func (w *witness) finish() {
	w.t.Helper()
	close(w.stop)
	if err := <-w.done; err != nil {
		w.t.Errorf("the connection beside it suffered: %v", err)
	}
	if err := w.conn.Close(); err != nil {
		w.t.Errorf("the connection beside it does not close: %v", err)
	}
}

// liveHeapBytes is what is in use after garbage collection.
func liveHeapBytes() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held back
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// keptBytes is how far memory may stay above what it was before an attack.
const keptBytes = 10 << 20

// underAttack runs an attack beside a witness. After it the attackers'
// connections, goroutines and memory must be gone, and the witness must have
// missed nothing.
func underAttack(t *testing.T, r *rig, attack func(t *testing.T)) {
	t.Helper()
	w := startWitness(t, r)
	eventually(t, "the witness works", func() bool { return w.published.Load() > 5 })
	heap, goroutines := liveHeapBytes(), runtime.NumGoroutine()
	during := w.published.Load()
	// A subtest of its own, so that its cleanup closes what the attack opened.
	t.Run("attack", attack)
	eventually(t, "the witness works on", func() bool { return w.published.Load() > during+5 })
	eventually(t, "only the witness is connected", func() bool { return r.ConnCount() == 1 })
	eventually(t, "goroutines are back", func() bool { return runtime.NumGoroutine() <= goroutines })
	kept := int64(0)
	for range 20 { // the server's own clean-up may still be under way
		if kept = liveHeapBytes() - heap; kept <= keptBytes {
			break
		}
	}
	if kept > keptBytes {
		t.Errorf("%d KiB more memory in use than before", kept>>10)
	}
	w.finish()
}
