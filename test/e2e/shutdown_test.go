package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/wire"
)

// opened is a broker in this process with a listener.
type opened struct {
	*broker.Broker
	addr   string
	served chan error
}

func open(t *testing.T, c broker.Config) *opened {
	t.Helper()
	b, err := broker.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &opened{Broker: b, addr: l.Addr().String(), served: make(chan error, 1)}
	go func() { o.served <- b.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.Shutdown(ctx) // does nothing if the test has done it
	})
	return o
}

// shutdown ends the broker within that time, and looks for goroutines that it
// leaves behind.
func (o *opened) shutdown(t *testing.T, within time.Duration, before goleak.Option) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	began := time.Now()
	err := o.Shutdown(ctx)
	if took := time.Since(began); took > within+2*time.Second {
		t.Errorf("Shutdown took %s, with %s to drain", took, within)
	}
	if err := <-o.served; !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if n := o.ConnectionCount(); n != 0 {
		t.Errorf("%d connections after Shutdown", n)
	}
	if leak := goleak.Find(before); leak != nil {
		t.Error(leak)
	}
	return err
}

// TestShutdownDrains: clients are told 320 and answer, and Shutdown ends long
// before its time is up.
func TestShutdownDrains(t *testing.T) {
	before := goleak.IgnoreCurrent()
	b := open(t, broker.Config{})
	var told []chan *amqp.Error
	for i := range 10 {
		config := amqp.Config{}
		if i%2 == 0 {
			config.Dial = b.Dial
		}
		conn, err := amqp.DialConfig("amqp://guest:guest@"+b.addr+"/", config)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, conn.NotifyClose(make(chan *amqp.Error, 1)))
	}
	if err := b.shutdown(t, patience, before); err != nil {
		t.Error(err)
	}
	for _, c := range told {
		if e := <-c; e == nil || e.Code != amqp.ConnectionForced {
			t.Errorf("a client was told %v, want 320", e)
		}
	}
	if _, err := b.Dial("", ""); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Dial after Shutdown: %v", err)
	}
	if _, err := net.Dial("tcp", b.addr); err == nil {
		t.Error("still listening")
	}
	if err := b.Shutdown(context.Background()); err != nil {
		t.Errorf("a second Shutdown: %v", err)
	}
}

// handshake is all that a client says up to an open channel.
func handshake() []byte {
	method := func(channel uint16, m wire.Method) []byte { return wire.AppendMethodFrame(nil, channel, m) }
	return slices.Concat([]byte(wire.ProtocolHeader),
		method(0, &wire.ConnectionStartOk{ClientProperties: wire.Table{{Key: "capabilities", Value: wire.Table{{Key: "connection.blocked", Value: true}}}}, Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"}),
		method(0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60}),
		method(0, &wire.ConnectionOpen{VirtualHost: "/"}),
		method(1, &wire.ChannelOpen{}))
}

// hello logs in and opens a channel; frames is handshake's.
func hello(nc net.Conn, frames []byte) error {
	nc.SetDeadline(time.Now().Add(2 * patience))
	if _, err := nc.Write(frames); err != nil {
		return err
	}
	ok := wire.AppendMethodFrame(nil, 1, &wire.ChannelOpenOk{})
	b := make([]byte, 4096)
	for n := 0; !bytes.HasSuffix(b[:n], ok); {
		k, err := nc.Read(b[n:])
		if err != nil {
			return err
		}
		n += k
	}
	return nil
}

// client is a raw client that need not behave.
type client struct {
	net.Conn
	t *testing.T
}

// connect logs in and opens channel 1, over TCP or in the process.
func (o *opened) connect(t *testing.T, inProcess bool) *client {
	t.Helper()
	var nc net.Conn
	var err error
	if inProcess {
		nc, err = o.Dial("", "")
	} else {
		nc, err = net.Dial("tcp", o.addr)
	}
	if err == nil {
		t.Cleanup(func() { nc.Close() })
		err = hello(nc, handshake())
	}
	if err != nil {
		t.Fatal(err)
	}
	return &client{nc, t}
}

func (c *client) send(ms ...wire.Method) {
	c.t.Helper()
	var b []byte
	for _, m := range ms {
		b = wire.AppendMethodFrame(b, 1, m)
	}
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// frames reads frames until done says so, or the connection ends.
func (c *client) frames(done func(wire.Frame) bool) {
	var buf []byte
	chunk := make([]byte, 64<<10)
	for {
		f, n, err := wire.ParseFrame(buf, 0)
		switch {
		case err != nil:
			c.t.Fatal(err)
		case n > 0:
			if done(f) {
				return
			}
			buf = buf[n:]
		default:
			n, err := c.Read(chunk)
			if err != nil && n == 0 {
				return
			}
			buf = append(buf, chunk[:n]...)
		}
	}
}

// await reads until that method comes. What was read beyond it is lost.
func (c *client) await(id wire.MethodID) {
	c.t.Helper()
	came := false
	c.frames(func(f wire.Frame) bool {
		came = f.Type == wire.FrameMethod && wire.PeekMethod(f.Payload) == id
		return came
	})
	if !came {
		c.t.Fatalf("the connection ended before %s came", id)
	}
}

// lastWord reads to the end and returns the code of connection.close, 0 for none.
func (c *client) lastWord() (code uint16) {
	c.frames(func(f wire.Frame) bool {
		if f.Type == wire.FrameMethod && wire.PeekMethod(f.Payload) == wire.IDConnectionClose {
			if m, err := wire.DecodeMethod(f.Payload); err == nil {
				code = m.(*wire.ConnectionClose).ReplyCode
			}
		}
		return false
	})
	return code
}

// publishes is one message, so many times.
func publishes(queue string, bodyBytes, n int) []byte {
	return bytes.Repeat(wire.AppendContent(nil, 1, &wire.BasicPublish{RoutingKey: queue}, nil, make([]byte, bodyBytes), 131072), n)
}

// TestShutdownUnderStress shuts down a broker with a memory alarm up, held
// confirms, a blocked publisher, consumers and askers that do not read, content
// half sent and clients that have not logged in. Nobody answers: all are cut when
// the time is up, and nothing stays.
func TestShutdownUnderStress(t *testing.T) {
	for _, inProcess := range []bool{false, true} {
		name := map[bool]string{false: "TCP", true: "in process"}[inProcess]
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			b := open(t, broker.Config{MemoryLimitBytes: 24 << 20})
			main := b.connect(t, inProcess)
			main.send(&wire.QueueDeclare{Queue: "q", NoWait: true}, &wire.QueueDeclare{Queue: "timed", NoWait: true,
				Arguments: wire.Table{{Key: "x-expires", Value: int32(3600_000)}, {Key: "x-message-ttl", Value: int32(3600_000)}}},
				&wire.ConfirmSelect{NoWait: true})
			b.Faults().HoldConfirms()
			main.Write(publishes("timed", 10, 1))
			main.Write(publishes("q", 1<<20, 20))
			deaf := b.connect(t, inProcess)
			deaf.send(&wire.BasicConsume{Queue: "q", NoAck: true, NoWait: true})
			asker := b.connect(t, inProcess)
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				question := wire.AppendMethodFrame(nil, 1, &wire.BasicGet{Queue: "q"})
				asker.Write(bytes.Repeat(question, 16<<20/len(question)))
			}()
			half := b.connect(t, inProcess)
			half.Write(publishes("q", 1000, 1)[:200])
			var strangers [3]net.Conn
			for i := range strangers {
				nc, err := net.Dial("tcp", b.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				nc.Write([]byte(wire.ProtocolHeader)[:i*4])
				strangers[i] = nc
			}
			publisher := b.connect(t, inProcess)
			published := make(chan struct{})
			go func() {
				defer close(published)
				publisher.Write(publishes("q", 64<<10, 1000)) // more than the limit and all buffers
			}()
			publisher.await(wire.IDConnectionBlocked)
			if err := b.shutdown(t, 300*time.Millisecond, before); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown: %v, want that not every client answered", err)
			}
			<-published
			<-asked
			if code := half.lastWord(); code != wire.ConnectionForced {
				t.Errorf("a client in the middle of a body was told %d, want 320", code)
			}
			if code := publisher.lastWord(); code != wire.ConnectionForced {
				t.Errorf("the blocked publisher was told %d, want 320", code)
			}
			if leak := goleak.Find(before); leak != nil {
				t.Error(leak)
			}
		})
	}
}
