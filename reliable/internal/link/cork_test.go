package link

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
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

func corkOn(conn net.Conn) *corked { return &corked{Conn: conn, now: immediate(conn)} }

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

// A socket that is full takes nothing and does not wait. What it takes later is in
// order.
func TestWriteNowToSockets(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = t.TempDir() + "/socket"
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Skip(err)
			}
			defer l.Close()
			conn, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			peer, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			now := immediate(conn)
			if now == nil {
				t.Skip("not on this system")
			}
			var sent []byte
			for piece := bytes.Repeat([]byte("0123456789"), 1000); ; {
				n, err := now(piece)
				if err != nil {
					t.Fatal(err)
				}
				sent = append(sent, piece[:n]...)
				if n == 0 {
					break
				}
				if len(sent) > 100<<20 {
					t.Fatal("it is never full")
				}
			}
			peer.SetReadDeadline(time.Now().Add(patience))
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%d bytes arrived otherwise than they were sent: %v", len(sent), err)
			}
			conn.Close()
			if _, err := now([]byte("x")); err == nil {
				t.Fatal("no error on a closed socket")
			}
		})
	}
}

// A type that wraps a socket may change what is written.
func TestWrappedSocketsAreWrittenToByTheirWrite(t *testing.T) {
	type wrapper struct{ *net.TCPConn }
	if immediate(wrapper{new(net.TCPConn)}) != nil {
		t.Fatal("the wrapper is gone round")
	}
}
