package nowait

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

const patience = 10 * time.Second

// A socket that is full takes nothing and does not wait. What it takes later is in
// order.
func TestSockets(t *testing.T) {
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
			now := Writer(conn)
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
			read, one := Reader(peer), make([]byte, 1)
			if n, err := read(one); n != 0 || err != nil {
				t.Fatalf("read %d, %v where nothing is", n, err)
			}
			if n := testing.AllocsPerRun(100, func() { now(one); read(one) }); n > 0 {
				t.Errorf("%v allocations", n)
			}
			conn.Close()
			if _, err := now([]byte("x")); err == nil {
				t.Fatal("no error on a closed socket")
			}
			peer.Close()
			if _, err := read(one); err == nil {
				t.Fatal("no error on a closed socket")
			}
		})
	}
}

// A type that wraps a socket may change what is written.
func TestWrappedSocketsAreNotGoneRound(t *testing.T) {
	type wrapper struct{ *net.TCPConn }
	if Writer(wrapper{new(net.TCPConn)}) != nil || Reader(wrapper{new(net.TCPConn)}) != nil {
		t.Fatal("the wrapper is gone round")
	}
}
