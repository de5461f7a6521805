package amqpserver

import (
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/engine"
)

// paceTest plays socket, clock and rest: reads take what is due next from sizes.
type paceTest struct {
	net.Conn
	p       pace
	time    time.Time
	each    time.Duration // that an ordinary read takes
	size    int           // that a read brings
	tries   int           // reads that did not wait
	rests   int           // exact ones, too
	lowAt   int
	refuses bool
	open    func(read int) uint64 // publishes that are unconfirmed then; nil: none ever
	reads   int
	grown   []int // sizes of the receive window, in order
	exact   []time.Duration

	published int   // messages in each read
	fills     []int // what waiting finds, one after the other, and then the last one again
	looks     int
}

func (x *paceTest) Read(b []byte) (int, error) {
	x.time = x.time.Add(x.each)
	return x.size, nil
}

func (x *paceTest) wakeAt(n int) bool {
	if !x.refuses {
		x.lowAt = n
	}
	return !x.refuses
}

func (x *paceTest) tryRead([]byte) int {
	x.tries++
	return x.size
}

func (x *paceTest) waiting() int {
	x.looks++
	if len(x.fills) == 0 {
		return fullBytes
	}
	return x.fills[min(x.looks, len(x.fills))-1]
}

func newPaceTest(each time.Duration, size int) *paceTest {
	x := &paceTest{time: time.Unix(1, 0), each: each, size: size, lowAt: 1}
	x.p = pace{nc: x, quiet: x, now: func() time.Time { return x.time }, rest: func(d time.Duration) {
		x.rests++
		x.time = x.time.Add(d)
	}, alarm: func(d time.Duration) {
		x.exact = append(x.exact, d)
		x.rests++
		x.time = x.time.Add(max(d, 0))
	}}
	x.p.window = window{bytes: narrowBytes, clamp: func(int) {}, set: func(bytes int) { x.grown = append(x.grown, bytes) }}
	return x
}

func (x *paceTest) read(t *testing.T, times int, streaming bool) {
	t.Helper()
	for range times {
		unconfirmed := uint64(0)
		if x.open != nil {
			unconfirmed = x.open(x.reads)
		}
		x.reads++
		if n, err := x.p.read(nil, engine.Read{Published: x.published, Streaming: streaming, Unconfirmed: unconfirmed}); n != x.size && x.size > 0 || err != nil {
			t.Fatalf("read: %d, %v", n, err)
		}
		if x.p.resting != (x.lowAt > 1) {
			t.Fatalf("resting is %v and the socket wakes at %d", x.p.resting, x.lowAt)
		}
	}
}

// TestPace: when a reader rests, and when not.
func TestPace(t *testing.T) {
	const fast = 5 * time.Microsecond
	t.Run("a fast stream", func(t *testing.T) {
		x := newPaceTest(fast, 90)
		x.read(t, 2*paceReads, true)
		if !x.p.resting {
			t.Fatal("it does not rest")
		}
		x.size = 4000
		x.read(t, 10, true)
		if x.rests != 10 || !x.p.resting {
			t.Errorf("%d rests for 10 reads", x.rests)
		}
		x.size = 50_000 // there is more: no rest before the next read
		x.read(t, 5, true)
		if x.rests != 11 || !x.p.resting {
			t.Errorf("%d rests, want 11", x.rests)
		}
		x.size = 300
		x.read(t, 2, true)
		if x.p.resting || x.tries != 17 {
			t.Errorf("it goes on resting for little, %d tries", x.tries)
		}
	})
	t.Run("many small messages in each read", func(t *testing.T) {
		x := newPaceTest(fast, 90)
		x.read(t, 2*paceReads, true)
		x.size, x.published = 40_000, 500 // three of them are more than restBytes
		x.read(t, 30, true)
		if x.rests != 10 {
			t.Errorf("%d rests for 30 long reads", x.rests)
		}
		x.size = 20_000 // as if that were all that the window holds: five are more than restBytes
		x.read(t, 60, true)
		x.rests = 0
		x.read(t, 30, true)
		if x.rests != 6 {
			t.Errorf("%d rests for 30 reads of a smaller window", x.rests)
		}
	})
	t.Run("a client that begins to wait for answers", func(t *testing.T) {
		x := newPaceTest(fast, 90)
		x.read(t, 1000, false)
		x.read(t, 2*paceReads, true)
		x.read(t, 1, false)
		if x.rests > 0 || x.p.resting {
			t.Error("it rests although the client waits")
		}
	})
	t.Run("nothing came", func(t *testing.T) {
		x := newPaceTest(fast, 90)
		x.read(t, 2*paceReads, true)
		x.size = 0
		x.read(t, 1, true) // waits as ever
		if x.p.resting || x.rests != 1 {
			t.Error("it goes on resting for nothing")
		}
	})
}

// TestNoPace: which readers never rest.
func TestNoPace(t *testing.T) {
	for _, x := range []struct {
		name      string
		each      time.Duration
		size      int
		streaming bool
		cannot    func(*paceTest)
	}{
		{"a slow stream", 200 * time.Microsecond, 90, true, nil},
		{"a client that waits for answers", 5 * time.Microsecond, 90, false, nil},
		{"long reads", 5 * time.Microsecond, 20_000, true, nil},
		{"a socket that refuses", 5 * time.Microsecond, 90, true, func(x *paceTest) { x.refuses = true }},
		{"not a socket", 5 * time.Microsecond, 90, true, func(x *paceTest) { x.p.quiet = nil }},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := newPaceTest(x.each, x.size)
			if x.cannot != nil {
				x.cannot(p)
			}
			p.read(t, 1000, x.streaming)
			if p.rests > 0 || p.p.resting {
				t.Error("it rests")
			}
		})
	}
}

// TestPaceWindow: a client with confirms is read with rests if its window outlasts
// them, and hardly ever if it does not.
func TestPaceWindow(t *testing.T) {
	const reads = 100_000
	for _, c := range []struct {
		name        string
		open        func(read int) uint64
		least, most int // rests
	}{
		{"no confirms", nil, reads - 2*paceReads, reads},
		{"a window that is never full", func(n int) uint64 { return uint64(300 + n*37%200) }, reads - 2*paceReads, reads},
		{"one that is full now and then", func(n int) uint64 { return uint64(min(256, 100+n*37%200)) }, reads - 2*paceReads, reads},
		{"one that is full at each rest", func(int) uint64 { return 100 }, restLooks, 12 * restLooks},
		{"one that is full at most", func(n int) uint64 { return uint64(min(100, 80+n%7*10)) }, restLooks, 12 * restLooks},
		{"a small window", func(int) uint64 { return restWindow - 1 }, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newPaceTest(5*time.Microsecond, restLowBytes)
			x.open = c.open
			x.read(t, reads, true)
			if x.rests < c.least || x.rests > c.most {
				t.Errorf("%d rests in %d reads, want %d to %d", x.rests, reads, c.least, c.most)
			}
		})
	}
	t.Run("a window that grows", func(t *testing.T) {
		x := newPaceTest(5*time.Microsecond, restLowBytes)
		x.open = func(int) uint64 { return 100 }
		x.read(t, reads, true)
		x.open = func(n int) uint64 { return uint64(300 + n*37%200) }
		before := x.rests
		x.read(t, 3*patienceReads, true)
		if x.rests-before < patienceReads {
			t.Errorf("%d rests more in %d reads", x.rests-before, 3*patienceReads)
		}
	})
}

// TestPaceTight: a window that rests do not outlast by much. Its reader goes on resting
// after a rest that brought nothing, and is to bring to the disk what it has.
func TestPaceTight(t *testing.T) {
	for _, c := range []struct {
		window uint64
		tight  bool
	}{{tightLeast - 1, false}, {tightLeast, true}, {256, true}, {tightMost, true}, {tightMost + 1, false}} {
		x := newPaceTest(5*time.Microsecond, 90)
		x.open = func(int) uint64 { return c.window }
		x.read(t, 2*paceReads, true)
		if x.p.tight() != c.tight {
			t.Errorf("a window of %d: tight is %v", c.window, x.p.tight())
		}
		x.size = 0
		x.read(t, 1, true)
		if x.p.resting != c.tight {
			t.Errorf("a window of %d, nothing came: resting is %v", c.window, x.p.resting)
		}
		x.read(t, 2*barrenRests, true)
		if x.p.resting || x.p.tight() {
			t.Errorf("a window of %d: it goes on resting for nothing", c.window)
		}
	}
}

// TestPaceTiny: a tiny window is read once for each exact rest, and those end in equal
// distances; a client that waits for no confirms gets a larger window instead.
func TestPaceTiny(t *testing.T) {
	x := beginTiny(t, 1000)
	if !x.p.tight() || len(x.exact) != 21 || x.rests > 21 || len(x.grown) > 0 {
		t.Errorf("tight is %v, %d of %d rests for 21 reads were exact, the window grew to %v", x.p.tight(), len(x.exact), x.rests, x.grown)
	}
	x.time = x.time.Add(cycleTime / 4) // what handling a read takes
	x.read(t, 1, true)
	if got := x.exact[len(x.exact)-1]; got != cycleTime*3/4 {
		t.Errorf("a rest of %v, want %v", got, cycleTime*3/4)
	}
	x = beginTiny(t, 0)
	if len(x.exact) > 0 || x.rests == 0 || !slices.Equal(x.grown, []int{narrowBytes}) {
		t.Errorf("a stream without confirms: %d of %d rests were exact, the window grew to %v", len(x.exact), x.rests, x.grown)
	}
}

// beginTiny makes a reader that rests with a tiny window, for which nothing has been in vain.
func beginTiny(t *testing.T, unconfirmed uint64) *paceTest {
	x := newPaceTest(5*time.Microsecond, 90)
	x.p.window.bytes = tinyBytes
	x.published = 1
	x.open = func(read int) uint64 { return unconfirmed - min(unconfirmed, uint64(read%7)) }
	x.read(t, 2*paceReads, true)
	x.size, x.published = 16_000, 200
	x.read(t, 21, true)
	return x
}

// TestPaceFull: a client that has not filled its tiny window is given the time, unless nothing
// more comes.
func TestPaceFull(t *testing.T) {
	for _, c := range []struct {
		name  string
		fills []int
		rests int
	}{
		{"full", []int{fullBytes}, 1},
		{"full later", []int{9_000, fullBytes}, 2},
		{"it fills slowly", []int{1_000, 2_000, 3_000, 4_000}, 1 + fullRests},
		{"no more comes", []int{9_000, 9_000}, 2},
		{"nothing comes", []int{0}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := beginTiny(t, 1000)
			x.fills, x.looks, x.exact = c.fills, 0, nil
			x.read(t, 1, true)
			if len(x.exact) != c.rests {
				t.Errorf("%d rests, want %d", len(x.exact), c.rests)
			}
		})
	}
}

// TestPaceNeverFull: a client whose confirms do not let it fill the window is hardly ever made
// to wait for that.
func TestPaceNeverFull(t *testing.T) {
	x := beginTiny(t, 200)
	x.fills, x.looks, x.exact = []int{9_000}, 0, nil
	const reads = 20 * fullPauses
	x.read(t, reads, true)
	if more := len(x.exact) - reads; more < 1 || more > 40 {
		t.Errorf("%d rests more than reads", more)
	}
	x.fills = []int{fullBytes} // it can now
	x.read(t, fullPauses, true)
	x.exact = nil
	x.read(t, 1, true)
	if len(x.exact) != 1 || x.exact[0] != cycleTime || x.p.pause > 0 {
		t.Errorf("it has filled it: rests of %v, and a pause of %d", x.exact, x.p.pause)
	}
}

// TestPaceReadsTwice: where a client's window is full soon after a rest, the rest is exact, and
// one read brings what two have, if there is room for it.
func TestPaceReadsTwice(t *testing.T) {
	for _, c := range []struct {
		name        string
		unconfirmed uint64
		room, size  int
		want, tries int
	}{
		{"tight", 256, tightBufferBytes, 40_000, 80_000, 2},
		{"tight, and little came", 256, tightBufferBytes, secondBytes - 1, secondBytes - 1, 1},
		{"tight, without room", 256, 40_000 + secondBytes - 1, 40_000, 40_000, 1},
		{"not tight", tightMost + 1, tightBufferBytes, 40_000, 40_000, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newPaceTest(5*time.Microsecond, 90)
			x.open = func(int) uint64 { return c.unconfirmed }
			x.read(t, 2*paceReads, true)
			x.size, x.tries = c.size, 0
			n, err := x.p.read(make([]byte, c.room), engine.Read{Published: 40, Streaming: true, Unconfirmed: c.unconfirmed})
			if n != c.want || err != nil || x.tries != c.tries {
				t.Errorf("%d bytes in %d reads, %v; want %d in %d", n, x.tries, err, c.want, c.tries)
			}
			if exact := len(x.exact) > 0 && x.exact[0] == tightTime; exact != (c.unconfirmed == 256) {
				t.Errorf("the rests that were exact: %v", x.exact)
			}
		})
	}
}

// TestPaceOnSocket: whatever a client does after a fast stream, its bytes are read:
// a socket that is told to be quiet must not stay so.
func TestPaceOnSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	limit := time.Now().Add(20 * time.Second)
	server.SetDeadline(limit)
	var got atomic.Int64
	var rested atomic.Bool
	end := make(chan error, 1)
	moved := make(chan struct{}, 1)
	go func() {
		p := newPace(server)
		noon := time.Unix(1, 0)
		p.now = func() time.Time { return noon } // any stream is fast, however slow the machine
		b := make([]byte, readBufferBytes)
		for {
			n, err := p.read(b, engine.Read{Published: 1, Streaming: true})
			got.Add(int64(n))
			rested.Store(rested.Load() || p.resting)
			select {
			case moved <- struct{}{}:
			default:
			}
			if err != nil {
				end <- err
				return
			}
		}
	}()
	sent := int64(0)
	message := make([]byte, 90)
	// So many reads of one message each make it rest for certain.
	const alone = 2 * paceReads
	for round := range alone + 30 {
		n := 1
		if round >= alone && round%3 == 0 {
			n = 5000
		}
		for range n {
			if _, err := client.Write(message); err != nil {
				t.Fatal(err)
			}
			sent += int64(len(message))
		}
		for got.Load() < sent {
			select {
			case <-moved:
			case <-time.After(time.Until(limit)):
				t.Fatalf("round %d: %d of %d bytes were read", round, got.Load(), sent)
			}
		}
	}
	client.Close()
	if err := <-end; !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if runtime.GOOS == "linux" && !rested.Load() {
		t.Error("the reader has never rested")
	}
}
