package link

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/nowait"
)

const patience = 10 * time.Second

// scripted is a transport of which the test says how much it takes.
type scripted struct {
	net.Conn
	mu   sync.Mutex
	took bytes.Buffer
	room int           // that WriteNow takes
	gate chan struct{} // Write waits for it
	done chan struct{} // Write has returned
}

func (s *scripted) Write(b []byte) (int, error) {
	<-s.gate
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(s.done)
	return s.took.Write(b)
}

func (s *scripted) WriteNow(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.took.Write(b[:min(len(b), s.room)])
}

func corkOn(conn net.Conn) *corked { return &corked{Conn: conn, now: nowait.Writer(conn)} }

func TestTryCorkLeavesTheRestToAGoroutine(t *testing.T) {
	peer := &scripted{room: 3, gate: make(chan struct{}), done: make(chan struct{})}
	c := corkOn(peer)
	if !c.TryCork() {
		t.Fatal("refused although nothing is under way")
	}
	if c.TryCork() {
		t.Fatal("two at a time")
	}
	c.Cork() // somebody else's: it must not wait now
	c.Write([]byte("abcd"))
	c.Uncork()
	c.Write([]byte("efg"))
	if got := peer.took.String(); got != "abc" {
		t.Fatalf("%q was written at once, there was room for 3", got)
	}
	c.TryUncork()
	if c.TryCork() {
		t.Fatal("granted although something has gathered")
	}
	close(peer.gate)
	select {
	case <-peer.done:
	case <-time.After(patience):
		t.Fatal("the rest was not written")
	}
	c.Cork() // has the lock once the rest is written
	if got := peer.took.String(); got != "abcdefg" {
		t.Fatalf("%q", got)
	}
	if c.TryCork() {
		t.Fatal("granted although somebody gathers")
	}
	c.Uncork()
	if !c.TryCork() {
		t.Fatal("refused although nothing is under way any more")
	}
	c.TryUncork()
}
