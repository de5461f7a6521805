package loadgen

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/wire"
)

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// pair is both ends of a TCP connection of which the system keeps little.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far = nc.(*net.TCPConn), peer.(*net.TCPConn)
	if err := errors.Join(near.SetWriteBuffer(64<<10), far.SetReadBuffer(64<<10), far.SetDeadline(time.Now().Add(20*time.Second))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// stage is a publisher with a thread of its own, and the test as its broker.
type stage struct {
	t    *testing.T
	r    *runner
	p    *publisher
	peer *Client
	all  sync.WaitGroup
}

func newStage(t *testing.T, cfg Config, confirm int) *stage {
	near, far := pair(t)
	s := &stage{t: t, peer: &Client{nc: far, buf: make([]byte, firstReadBytes)}}
	s.r = &runner{cfg: &cfg, broker: &Broker{OwnThreads: true}, epoch: time.Now(), failed: make(chan error, 1)}
	c := &Client{nc: near, buf: make([]byte, firstReadBytes), frameMax: frameMax}
	s.p = newPublisher(s.r, c, 0, "q", confirm, 0)
	s.r.publishers = []*publisher{s.p}
	if err := s.r.ownThreads(); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.nc.(*socket); !ok {
		t.Fatal("no thread")
	}
	s.r.start(t.Context(), &s.all)
	t.Cleanup(func() { s.end(); c.Close() })
	return s
}

// end ends the run.
func (s *stage) end() {
	s.r.ending.Store(true)
	s.all.Wait()
	s.r.giveBack()
}

// publish reads a publish with a body of one frame.
func (s *stage) publish() {
	s.t.Helper()
	for _, want := range []byte{wire.FrameMethod, wire.FrameHeader, wire.FrameBody} {
		f, err := s.peer.Next()
		if err != nil || f.Type != want {
			s.t.Fatalf("a frame of type %d, want %d: %v", f.Type, want, err)
		}
	}
}

// say sends a method to the publisher.
func (s *stage) say(channel uint16, m wire.Method) {
	s.t.Helper()
	if err := s.peer.send(channel, m); err != nil {
		s.t.Fatal(err)
	}
}

// TestThreadBlocked: a broker that reads the next publish only after the last confirm
// has been taken is no deadlock, although the socket is full all the time; and what
// a broker says meanwhile is heard.
func TestThreadBlocked(t *testing.T) {
	const n = 60
	for _, batched := range []bool{false, true} {
		s := newStage(t, Config{BodyBytes: 100_000, PublishCount: n, Batched: batched}, n)
		s.say(0, &wire.ConnectionBlocked{Reason: "low on memory"})
		until(t, "blocked", func() bool { return s.r.blocked.Load() == 1 })
		for i := range int64(n) {
			s.publish()
			s.say(channelNumber, &wire.BasicAck{DeliveryTag: uint64(i + 1)})
			until(t, "confirm", func() bool { return s.p.settled.Load() == i+1 })
		}
		until(t, "finished", s.p.finished)
		s.end()
		if sent := s.p.sent.Load(); sent != n || s.p.c.cut.Load() || len(s.r.failed) != 0 {
			t.Errorf("batched %t: sent %d of %d, cut %t, %d failures", batched, sent, n, s.p.c.cut.Load(), len(s.r.failed))
		}
	}
}

// TestThreadClosed: a broker that closes while it leaves publishes unread is quoted.
func TestThreadClosed(t *testing.T) {
	s := newStage(t, Config{BodyBytes: 100_000}, 1000)
	s.publish()
	s.say(0, &wire.ConnectionClose{ReplyCode: 320, ReplyText: "maintenance"})
	s.peer.Close() // with a reset, since not all was read
	err := <-s.r.failed
	if closed, ok := errors.AsType[*CloseError](err); !ok || closed.Code != 320 || !strings.HasPrefix(err.Error(), "publisher 1: ") {
		t.Error(err)
	}
}

// TestThreadLost: a connection that ends without a word is a failure, also when its
// end comes together with the last confirm.
func TestThreadLost(t *testing.T) {
	for range 50 {
		s := newStage(t, Config{BodyBytes: 100, PublishCount: 1}, 1)
		s.publish()
		s.say(channelNumber, &wire.BasicAck{DeliveryTag: 1})
		s.peer.Close()
		until(t, "a failure", func() bool { return len(s.r.failed) > 0 })
		if err := <-s.r.failed; !errors.Is(err, io.EOF) || !s.p.finished() {
			t.Error(err)
		}
		s.end()
	}
}

// TestThreadSystemCalls: a write for each publish and each ack in one mode, next to
// none in the other.
func TestThreadSystemCalls(t *testing.T) {
	const n = 5000
	for _, batched := range []bool{false, true} {
		rig := newRig(t, true)
		cfg := &Config{Producers: 1, Consumers: 1, Queues: []string{"q"}, BodyBytes: 16, Confirm: 200, AckEvery: 10, Batched: batched, PublishCount: n}
		r := &runner{cfg: cfg, broker: &rig.broker, epoch: time.Now(), failed: make(chan error, 1)}
		top := &topology{broker: r.broker, cfg: cfg}
		if err := errors.Join(top.declare(context.Background()), r.connect(context.Background())); err != nil {
			t.Fatal(err)
		}
		if err := r.ownThreads(); err != nil {
			t.Fatal(err)
		}
		in, acks := r.publishers[0].c.nc.(*socket), r.consumers[0].c.nc.(*socket)
		var all sync.WaitGroup
		r.start(context.Background(), &all)
		until(t, "all out", func() bool { return r.publishers[0].finished() && r.consumers[0].received.Load() == n })
		r.ending.Store(true)
		all.Wait()
		if !batched && (in.writes != n || acks.writes != n/10) {
			t.Errorf("%d writes for %d publishes, %d for %d acks", in.writes, n, acks.writes, n/10)
		}
		if batched && (in.writes > n/5 || acks.writes > n/20) {
			t.Errorf("%d writes for %d publishes in batches, %d for acks", in.writes, n, acks.writes)
		}
		r.giveBack()
		r.hangUp()
		if err := top.cleanUp(); err != nil {
			t.Error(err)
		}
	}
}

// TestThreadsFor: who is alone has a thread; who is not, polls, or does not come by
// plain TCP has none.
func TestThreadsFor(t *testing.T) {
	for _, c := range []struct {
		publishers, consumers int
		polling, metered      bool
		want                  int
	}{{1, 1, false, false, 2}, {1, 2, false, false, 1}, {2, 1, false, false, 1}, {1, 1, true, false, 1}, {1, 1, false, true, 0}} {
		r := &runner{cfg: &Config{Polling: c.polling}, broker: &Broker{OwnThreads: true}}
		var all []*Client
		for i := range c.publishers + c.consumers {
			near, _ := pair(t)
			client := &Client{nc: near}
			if c.metered {
				client.nc = meter{Conn: near}
			}
			all = append(all, client)
			if i < c.publishers {
				r.publishers = append(r.publishers, &publisher{c: client})
			} else {
				r.consumers = append(r.consumers, &consumer{c: client})
			}
		}
		if err := r.ownThreads(); err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, client := range all {
			if _, ok := client.nc.(*socket); ok {
				got++
			}
		}
		if got != c.want {
			t.Errorf("%+v: %d threads", c, got)
		}
		r.giveBack()
		for _, client := range all {
			client.Close()
		}
	}
}

// TestThreadStops: the runtime can stop a thread that waits, whatever for, and so can
// the end of a run.
func TestThreadStops(t *testing.T) {
	for name, cfg := range map[string]Config{
		"confirm": {BodyBytes: 16, PublishCount: 1},
		"room":    {BodyBytes: 20_000_000},
		"time":    {BodyBytes: 16, Rate: 0.001},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, cfg, 10)
			if _, err := s.peer.Next(); err != nil { // so something has been written
				t.Fatal(err)
			}
			const n = 20
			start := time.Now()
			for range n {
				runtime.GC()
			}
			if d := time.Since(start); d > n*100*time.Millisecond {
				t.Errorf("%v for each collection", d/n)
			}
			start = time.Now()
			s.end()
			cut := name == "room" // which a write waits for a while, as the broker might read on
			if d := time.Since(start); cut != s.p.c.cut.Load() || d > leaveTime || !cut && d > leaveTime/4 {
				t.Errorf("cut %t after %v", s.p.c.cut.Load(), d)
			}
		})
	}
}

// TestSocketReason: a broker that closes is quoted although a write failed before
// that was read.
func TestSocketReason(t *testing.T) {
	near, far := pair(t)
	c := &Client{nc: near, buf: make([]byte, firstReadBytes)}
	if err := adopt(c, new(atomic.Bool)); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer := &Client{nc: far}
	if err := errors.Join(c.Write([]byte("unread")), peer.send(0, &wire.ConnectionClose{ReplyCode: 320, ReplyText: "maintenance"}), peer.Close()); err != nil {
		t.Fatal(err)
	}
	var err error
	until(t, "a write that fails", func() bool { err = c.Write([]byte("unread")); return err != nil })
	if closed, ok := errors.AsType[*CloseError](c.reason(err)); !ok || closed.Code != 320 || !c.cut.Load() {
		t.Error(err, closed)
	}
	if other := c.reason(io.EOF); other != io.EOF {
		t.Error(other)
	}
}

// TestSocket: what the system does not take at once is written in the right order,
// what comes meanwhile is taken in, and then the connection is one like any other.
func TestSocket(t *testing.T) {
	near, far := pair(t)
	c := &Client{nc: near}
	if err := adopt(c, new(atomic.Bool)); err != nil {
		t.Fatal(err)
	}
	s := c.nc.(*socket)
	want := make([]byte, 8<<20)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	got := make(chan []byte)
	heard := make(chan struct{}) // closed once the word is read, without which the peer reads nothing
	go func() {
		_, _ = far.Write([]byte("word"))
		<-heard
		b := make([]byte, len(want))
		n, _ := io.ReadFull(far, b) // if it fails, it is short
		_, _ = far.Write([]byte("done"))
		got <- b[:n]
	}()
	answer := make([]byte, 4)
	s.meanwhile = func() error {
		if string(answer) == "word" {
			return nil
		}
		s.wait = 0
		_, err := s.Read(answer)
		close(heard)
		return err
	}
	const parts = 8
	for part := range slices.Chunk(want, len(want)/parts) {
		if err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if s.writes <= parts || string(answer) != "word" {
		t.Errorf("the socket took everything in %d writes, %q", s.writes, answer)
	}
	if !bytes.Equal(<-got, want) {
		t.Error("something else came out")
	}
	c.giveBack()
	if err := c.nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c.nc, answer); err != nil || string(answer) != "done" || c.cut.Load() {
		t.Errorf("%q, %v", answer, err)
	}
	if err := c.nc.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.nc.Read(answer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	c.Close()
}

// TestSocketWait: a read waits as long as it may, no longer and no shorter, and one
// that may wait up to the end of the run ends with it.
func TestSocketWait(t *testing.T) {
	near, far := pair(t)
	c := &Client{nc: near}
	var ending atomic.Bool
	if err := adopt(c, &ending); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, b := c.nc.(*socket), make([]byte, 10)
	s.once = true
	const wait = 300 * time.Microsecond
	until(t, "a wait that no signal ends", func() bool {
		start := time.Now()
		s.wait = int64(wait)
		if n, err := s.Read(b); n != 0 || !errors.Is(err, errAgain) {
			t.Fatal(n, err)
		}
		return time.Since(start) >= wait
	})
	if _, err := far.Write([]byte("a word")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(b); n != 0 || !errors.Is(err, errAgain) {
		t.Fatal("a read that may not look has looked", n, err)
	}
	s.wait = int64(20 * time.Second)
	until(t, "the word", func() bool {
		n, err := s.Read(b)
		s.wait = int64(20 * time.Second)
		return n == 6 && err == nil
	})
	time.AfterFunc(2*time.Duration(patience), func() { ending.Store(true) })
	s.wait = never
	start := time.Now()
	if n, err := s.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) < 2*time.Duration(patience) {
		t.Error(n, err, time.Since(start))
	}
}
