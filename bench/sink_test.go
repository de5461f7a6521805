package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/benchsuite"
	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/internal/wire"
)

// sinkEnv makes the test program a sink instead, so that its processor time is not
// that of the load.
const sinkEnv = "WARREN_BENCH_SINK"

func TestMain(m *testing.M) {
	if os.Getenv(sinkEnv) != "" {
		if err := runSink(); err != nil {
			fmt.Fprintln(os.Stderr, "sink:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runSink prints the address of a sink and serves it until standard input ends.
func runSink() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := &sink{}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(nc)
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// sink is the least that a load can talk to: it confirms every publish at the end of
// the read that brought it, and hands its content to the consumer that came last. It has
// no queue, keeps nothing, and takes acks for granted. What a load costs against it is what
// a load costs.
type sink struct {
	mu  sync.Mutex
	out *sinkOut
}

// sinkOut is what a consumer is to get.
type sinkOut struct {
	mu     sync.Mutex
	cond   sync.Cond
	buf    []byte
	closed bool
}

// output is that of the only consumer, who may come later than the first publish.
func (s *sink) output() *sinkOut {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		s.out = &sinkOut{}
		s.out.cond.L = &s.out.mu
	}
	return s.out
}

const sinkOutBytes = 1 << 20 // that may wait for a consumer

func (o *sinkOut) add(b []byte) {
	o.mu.Lock()
	for len(o.buf) > sinkOutBytes && !o.closed {
		o.cond.Wait()
	}
	o.buf = append(o.buf, b...)
	o.mu.Unlock()
	o.cond.Broadcast()
}

// write hands over what gathers until the connection ends.
func (o *sinkOut) write(nc net.Conn) {
	var spare []byte
	for {
		o.mu.Lock()
		for len(o.buf) == 0 && !o.closed {
			o.cond.Wait()
		}
		closed := o.closed
		spare, o.buf = o.buf, spare[:0]
		o.mu.Unlock()
		o.cond.Broadcast()
		if closed {
			return
		}
		if _, err := nc.Write(spare); err != nil {
			o.close()
		}
	}
}

func (o *sinkOut) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cond.Broadcast()
}

// sinkConn is one connection of a sink.
type sinkConn struct {
	s        *sink
	nc       net.Conn
	own      *sinkOut // if it consumes
	confirms bool
	tag      uint64 // publishes
	batch    []byte // deliveries of this read
	deliver  []byte
	got      bool // publishes came since the last confirm
}

func (s *sink) serve(nc net.Conn) {
	defer nc.Close()
	c := &sinkConn{s: s, nc: nc, deliver: wire.AppendMethodFrame(nil, 1, &wire.BasicDeliver{ConsumerTag: "bench", DeliveryTag: 1, RoutingKey: "q"})}
	defer func() {
		if c.own != nil {
			c.own.close()
		}
	}()
	if _, err := io.ReadFull(nc, make([]byte, len(wire.ProtocolHeader))); err != nil {
		return
	}
	if c.send(0, &wire.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN", Locales: "en_US", ServerProperties: wire.Table{{Key: "product", Value: "sink"}}}) != nil {
		return
	}
	buf, r, w := make([]byte, 256<<10), 0, 0
	for {
		f, n, err := wire.ParseFrame(buf[r:w], 0)
		if err != nil {
			return
		}
		if n > 0 {
			if c.frame(f, buf[r:r+n]) != nil {
				return
			}
			r += n
			continue
		}
		if c.flush() != nil {
			return
		}
		w = copy(buf, buf[r:w])
		r = 0
		n, err = nc.Read(buf[w:])
		if err != nil {
			return
		}
		w += n
	}
}

// frame takes one in; raw is all of it.
func (c *sinkConn) frame(f wire.Frame, raw []byte) error {
	if f.Type != wire.FrameMethod {
		c.batch = append(c.batch, raw...)
		return nil
	}
	switch id := wire.PeekMethod(f.Payload); id {
	case wire.IDBasicPublish:
		c.tag++
		c.got = true
		c.batch = append(c.batch, c.deliver...)
	case wire.IDConnectionStartOk:
		return c.send(0, &wire.ConnectionTune{FrameMax: 128 << 10, ChannelMax: 2047})
	case wire.IDConnectionOpen:
		return c.send(0, &wire.ConnectionOpenOk{})
	case wire.IDConnectionClose:
		return c.send(0, &wire.ConnectionCloseOk{})
	case wire.IDChannelOpen:
		return c.send(f.Channel, &wire.ChannelOpenOk{})
	case wire.IDChannelClose:
		return c.send(f.Channel, &wire.ChannelCloseOk{})
	case wire.IDQueueDeclare:
		return c.send(f.Channel, &wire.QueueDeclareOk{Queue: "q"})
	case wire.IDBasicQos:
		return c.send(f.Channel, &wire.BasicQosOk{})
	case wire.IDConfirmSelect:
		c.confirms = true
		return c.send(f.Channel, &wire.ConfirmSelectOk{})
	case wire.IDBasicConsume:
		if err := c.send(f.Channel, &wire.BasicConsumeOk{ConsumerTag: "bench"}); err != nil {
			return err
		}
		c.own = c.s.output()
		go c.own.write(c.nc)
	}
	return nil
}

// flush ends a read.
func (c *sinkConn) flush() error {
	if len(c.batch) > 0 {
		c.s.output().add(c.batch)
		c.batch = c.batch[:0]
	}
	if !c.got || !c.confirms {
		return nil
	}
	c.got = false
	return c.send(1, &wire.BasicAck{DeliveryTag: c.tag, Multiple: true})
}

func (c *sinkConn) send(channel uint16, m wire.Method) error {
	_, err := c.nc.Write(wire.AppendMethodFrame(nil, channel, m))
	return err
}

// startSink runs a sink in a process of its own.
func startSink(t testing.TB) (addr string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), sinkEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(line)
}

// sinkTarget is how a load reaches a new sink: with threads of its own, as that of
// warren bench, since the sink is in another process.
func sinkTarget(t testing.TB) *loadgen.Broker {
	t.Helper()
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + loadgen.MaxLoops)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	b := target(startSink(t))
	b.OwnThreads = true
	return b
}

// sinkRows are rows with one publisher and one consumer.
var sinkRows = [...]string{"transient-16B", "transient-1KB", "window-256", "window-1000-16B", "batched-16B", "batched-1KB", "batched-window-5000", "batched-window-1000-16B"}

// sinkLoad is a row of them by count.
func sinkLoad(t testing.TB, name string, messages int) loadgen.Config {
	t.Helper()
	for _, row := range benchsuite.Rows() {
		if row.Name == name {
			return row.Counted()[0].Config(messages)
		}
	}
	t.Fatalf("there is no row %q", name)
	return loadgen.Config{}
}

// BenchmarkLoad is what a load by itself takes, against a broker that does nothing:
// client-s/M are seconds of processor time per million messages, of publisher and
// consumer together.
//
//	go test -run '^$' -bench Load -benchtime 1000000x ./bench
func BenchmarkLoad(b *testing.B) {
	for _, name := range sinkRows {
		b.Run(name, func(b *testing.B) {
			at, cfg := sinkTarget(b), sinkLoad(b, name, b.N)
			rep := measured(b, at, &cfg)
			b.ReportMetric(rep.Seconds*1e9/float64(rep.Messages()), "ns/op")
			b.ReportMetric(rep.ClientCPUPerMillion, "client-s/M")
		})
	}
}

// TestSink: all of a load's messages come out of a sink as they went in, so what the
// benchmark measures is a whole load.
func TestSink(t *testing.T) {
	const n = 5000
	for _, name := range sinkRows {
		t.Run(name, func(t *testing.T) {
			cfg := sinkLoad(t, name, n)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			rep, err := loadgen.Run(ctx, sinkTarget(t), &cfg)
			if err != nil || rep.Received != n || cfg.Confirm > 0 && rep.Confirmed != n || rep.DeliveryLatency == nil || rep.DeliveryLatency.Count != n {
				t.Errorf("%+v, %v", rep, err)
			}
		})
	}
}
