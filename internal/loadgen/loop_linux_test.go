package loadgen

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// stage is one publisher in a loop, and the test as its broker.
type stage struct {
	t    *testing.T
	r    *runner
	p    *publisher
	peer *Client
	over chan struct{}
}

func newStage(t *testing.T, cfg Config, confirm int) *stage {
	near, far := pair(t)
	s := &stage{t: t, over: make(chan struct{}), peer: &Client{nc: far, buf: make([]byte, firstReadBytes)}}
	s.r = &runner{cfg: &cfg, broker: &Broker{OwnThreads: true}, epoch: time.Now(), failed: make(chan error, 1)}
	c := &Client{nc: near, buf: make([]byte, firstReadBytes), frameMax: frameMax}
	s.p = newPublisher(s.r, c, 0, "q", confirm, 0)
	s.r.publishers = []*publisher{s.p}
	publishing, consuming, err := s.r.loops()
	if err != nil || publishing == nil || consuming != nil {
		t.Fatalf("%v, %v, %v", publishing, consuming, err)
	}
	go func() {
		defer close(s.over)
		publishing.run()
		publishing.release()
	}()
	t.Cleanup(func() { s.end(); c.Close() })
	return s
}

// end ends the run.
func (s *stage) end() {
	s.r.ending.Store(true)
	<-s.over
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

// TestLoopBlocked: a broker that reads the next publish only after the last confirm
// has been taken is no deadlock, although the socket is full all the time; and what
// a broker says meanwhile is heard.
func TestLoopBlocked(t *testing.T) {
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

// TestLoopClosed: a broker that closes while it leaves publishes unread is quoted.
func TestLoopClosed(t *testing.T) {
	s := newStage(t, Config{BodyBytes: 100_000}, 1000)
	s.publish()
	s.say(0, &wire.ConnectionClose{ReplyCode: 320, ReplyText: "maintenance"})
	s.peer.Close() // with a reset, since not all was read
	err := <-s.r.failed
	if closed, ok := errors.AsType[*CloseError](err); !ok || closed.Code != 320 || !strings.HasPrefix(err.Error(), "publisher 1: ") {
		t.Error(err)
	}
}

// TestLoopLost: a connection that ends without a word is a failure, also when its
// end comes together with the last confirm, so that one event announces both.
func TestLoopLost(t *testing.T) {
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

// TestLoopCut: the end of a run does not wait for a broker that reads nothing, and
// leaves a frame unfinished.
func TestLoopCut(t *testing.T) {
	t.Parallel()
	s := newStage(t, Config{BodyBytes: 20_000_000}, 10)
	until(t, "sent", func() bool { return s.p.sent.Load() == 1 })
	if _, err := s.peer.Next(); err != nil { // so something has been written
		t.Fatal(err)
	}
	start := time.Now()
	s.end()
	if d := time.Since(start); !s.p.c.cut.Load() || d > leaveTime {
		t.Errorf("cut %t after %v", s.p.c.cut.Load(), d)
	}
}

// TestLoopSystemCalls: a write for each publish and each ack in one mode, next to
// none in the other.
func TestLoopSystemCalls(t *testing.T) {
	const n = 5000
	for _, batched := range []bool{false, true} {
		rig := newRig(t, true)
		cfg := &Config{Producers: 1, Consumers: 1, Queues: []string{"q"}, BodyBytes: 16, Confirm: 200, AckEvery: 10, Batched: batched, PublishCount: n}
		r := &runner{cfg: cfg, broker: &rig.broker, epoch: time.Now(), failed: make(chan error, 1)}
		top := &topology{broker: r.broker, cfg: cfg}
		if err := errors.Join(top.declare(context.Background()), r.connect(context.Background())); err != nil {
			t.Fatal(err)
		}
		publishing, consuming, err := r.loops()
		if err != nil || publishing == nil || consuming == nil {
			t.Fatal(publishing, consuming, err)
		}
		var wg sync.WaitGroup
		wg.Go(publishing.run)
		wg.Go(consuming.run)
		until(t, "all out", func() bool { return r.publishers[0].finished() && r.consumers[0].received.Load() == n })
		r.ending.Store(true)
		wg.Wait()
		in, acks := publishing.seats[0].s.writes, consuming.seats[0].s.writes
		if !batched && (in != n || acks != n/10) {
			t.Errorf("%d writes for %d publishes, %d for %d acks", in, n, acks, n/10)
		}
		if batched && (in > n/5 || acks > n/20) {
			t.Errorf("%d writes for %d publishes in batches, %d for acks", in, n, acks)
		}
		publishing.release()
		consuming.release()
		r.hangUp()
		if err := top.cleanUp(); err != nil {
			t.Error(err)
		}
	}
}

// TestSocket: what the system does not take at once is written in the right order
// later, and after that the connection is one like any other.
func TestSocket(t *testing.T) {
	for _, coarse := range []bool{false, true} {
		near, far := pair(t)
		c := &Client{nc: near}
		s, err := adopt(c)
		if err != nil {
			t.Fatal(err)
		}
		p, err := newPoller()
		if err != nil {
			t.Fatal(err)
		}
		p.coarse = coarse
		if err := p.add(s, 7); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 8<<20)
		for i := range want {
			want[i] = byte(i * 7 >> 3)
		}
		for part := range slices.Chunk(want, 1<<20) {
			if err := c.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if !c.stuck() || !s.begun {
			t.Fatal("the socket took everything")
		}
		got := make(chan []byte)
		go func() {
			b := make([]byte, len(want))
			n, _ := io.ReadFull(far, b) // if it fails, it is short
			_, _ = far.Write([]byte("done"))
			got <- b[:n]
		}()
		for c.stuck() {
			events, err := p.wait(int64(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				if ev.Fd != 7 {
					t.Fatalf("%+v", ev)
				}
				if err := s.flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !bytes.Equal(<-got, want) {
			t.Error("something else came out")
		}
		p.close()
		s.giveBack(c)
		answer := make([]byte, 4)
		if err := c.nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.nc, answer); err != nil || string(answer) != "done" || c.cut.Load() {
			t.Errorf("%q, %v", answer, err)
		}
		c.Close()
	}
}

// TestWait: neither way to wait ends early, or takes something for an event.
func TestWait(t *testing.T) {
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, p.coarse = range []bool{false, true} {
		until(t, "a wait that no signal ends", func() bool {
			start := time.Now()
			events, err := p.wait(int64(300 * time.Microsecond))
			if err != nil || len(events) != 0 {
				t.Fatal(events, err)
			}
			return time.Since(start) >= 300*time.Microsecond
		})
	}
}

// TestTimers: the earliest comes first.
func TestTimers(t *testing.T) {
	const n = 200
	timers := timers{seats: make([]seat, n)}
	want := rand.Perm(n)
	for i, at := range want {
		timers.push(i, int64(at+1))
	}
	for at := int64(1); at <= n; at++ {
		if next := timers.next(); next != at {
			t.Fatalf("next is %d, want %d", next, at)
		}
		if i := timers.pop(); int64(want[i]+1) != at || timers.seats[i].at != 0 {
			t.Fatalf("seat %d came at %d", i, at)
		}
	}
	if timers.next() != never {
		t.Error("something is left")
	}
}
