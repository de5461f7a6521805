package engine

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// outboxTest is an outbox, a writer as a connection has one, and what was sent:
// senders number what they send, 8 bytes each.
type outboxTest struct {
	o    *Outbox
	mu   sync.Mutex
	sent []byte
	wg   sync.WaitGroup
}

func newOutboxTest() *outboxTest {
	x := &outboxTest{o: newOutbox()}
	x.wg.Go(func() {
		for {
			b, body, ok := x.o.Next()
			if !ok {
				return
			}
			x.write(b)
			x.o.Done(b, body)
		}
	})
	return x
}

func (x *outboxTest) write(b []byte) {
	x.mu.Lock()
	x.sent = append(x.sent, b...)
	x.mu.Unlock()
}

func (x *outboxTest) send(sender, number uint32) {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], sender)
	binary.BigEndian.PutUint32(b[4:], number)
	x.o.SendRaw(b[:])
}

// TestPush: a reader that writes what it can by itself, others that send meanwhile,
// and the writer: everything is sent once, in each sender's order.
func TestPush(t *testing.T) {
	const senders, each = 4, 3000
	x := newOutboxTest()
	var others sync.WaitGroup
	for s := uint32(1); s < senders; s++ {
		others.Go(func() {
			for n := range uint32(each) {
				x.send(s, n)
				if n%8 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	pushed := 0
	for n := uint32(0); n < each; {
		for try := 0; try < 100 && !waits(x.o); try++ {
			runtime.Gosched()
		}
		x.o.BeginRead()
		for range rng.IntN(4) {
			if n < each {
				x.send(0, n)
				n++
			}
		}
		if rng.IntN(8) == 0 {
			x.o.LetGo()
			continue
		}
		x.o.Push(func(b []byte) int {
			pushed++
			k := len(b)
			if rng.IntN(3) == 0 {
				k = rng.IntN(k + 1) // no more room
			}
			x.write(b[:k])
			return k
		})
	}
	others.Wait()
	x.o.LetGo()
	x.o.Finish()
	x.wg.Wait()
	var next [senders]uint32
	if len(x.sent) != senders*each*8 {
		t.Fatalf("%d bytes were sent, want %d", len(x.sent), senders*each*8)
	}
	for i := 0; i < len(x.sent); i += 8 {
		s, n := binary.BigEndian.Uint32(x.sent[i:]), binary.BigEndian.Uint32(x.sent[i+4:])
		if s >= senders || n != next[s] {
			t.Fatalf("at %d: number %d of sender %d", i, n, s)
		}
		next[s]++
	}
	if held := x.o.held.Load(); held != 0 {
		t.Errorf("%d bytes count as held in the end", held)
	}
	if pushed < each/20 {
		t.Errorf("the reader has written %d times only", pushed)
	}
}

// TestPushTellsOfRoom: consumers that wait for room hear of it although the writer
// has written nothing.
func TestPushTellsOfRoom(t *testing.T) {
	o := newOutbox()
	told := make(chan bool)
	go func() {
		for {
			b, body, ok := o.Next()
			if !ok {
				close(told)
				return
			}
			if o.Done(b, body) {
				o.takeStalled(nil)
				told <- len(b) == 0
			}
		}
	}()
	for !waits(o) {
		runtime.Gosched()
	}
	o.BeginRead()
	o.SendRaw(make([]byte, 100))
	if !o.Push(func(b []byte) int {
		o.held.Add(outputBudgetBytes)
		if !o.stall(&Consumer{}) {
			t.Error("there is room")
		}
		return len(b)
	}) {
		t.Error("not all was written")
	}
	if !<-told {
		t.Error("there was something to write")
	}
	o.Close()
	<-told
}

// TestFinishWhilePushing: the writer is told of its end although the reader was
// writing when it came, and has left it nothing to write.
func TestFinishWhilePushing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newOutboxTest()
		synctest.Wait() // the writer waits
		x.o.BeginRead()
		x.send(1, 0)
		if !x.o.Push(func(b []byte) int {
			x.o.Finish()
			synctest.Wait() // it has seen that somebody is writing
			x.write(b)
			return len(b)
		}) {
			t.Error("not all was written")
		}
		x.wg.Wait()
	})
}

// waits tells whether the writer does.
func waits(o *Outbox) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting
}
