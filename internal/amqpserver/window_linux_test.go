package amqpserver

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestNarrowWindow: what a client on the same machine can have under way is little until
// the window is made wide, and nothing is lost on the way.
func TestNarrowWindow(t *testing.T) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !setSocket(l.(*net.TCPListener), soBufLock, 0) {
		t.Skip("this Linux has no SO_BUF_LOCK")
	}
	narrowWindows(l)
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
	client.SetDeadline(limit)

	if !isNarrow(server.(*net.TCPConn)) {
		t.Fatal("a new connection's window is wide")
	}
	widen := narrowWindow(server)
	if widen == nil {
		t.Fatal("the window cannot be kept narrow")
	}
	pass := func(bytes int64) {
		t.Helper()
		sent := make(chan error, 1)
		go func() {
			b := make([]byte, 1<<16)
			for left := bytes; left > 0; left -= int64(len(b)) {
				if _, err := client.Write(b[:min(left, int64(len(b)))]); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		if n, err := io.CopyN(io.Discard, server, bytes); err != nil {
			t.Fatalf("%d of %d bytes: %v", n, bytes, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	pass(16 << 20)
	if !isNarrow(server.(*net.TCPConn)) {
		t.Error("the system has widened it")
	}
	widen()
	if isNarrow(server.(*net.TCPConn)) {
		t.Error("it is still narrow")
	}
	pass(16 << 20)
	if again := narrowWindow(server); again != nil {
		t.Error("a wide window is made narrow again")
	}
}

// TestWindowsThatStay: where a window cannot be narrow, or should not.
func TestWindowsThatStay(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if narrowWindow(here) != nil {
		t.Error("a pipe has a window")
	}
	for address, loopback := range map[string]bool{"127.0.0.1": true, "::1": true, "10.0.0.1": false, "2001:db8::1": false} {
		if isLoopback(&net.TCPAddr{IP: net.ParseIP(address)}) != loopback {
			t.Errorf("%s: want loopback %v", address, loopback)
		}
	}
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
	if err := server.(*net.TCPConn).SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	if isNarrow(server.(*net.TCPConn)) || narrowWindow(server) != nil {
		t.Error("a wide window is made narrow")
	}
	server.Close()
	if setSocket(server.(*net.TCPConn), syscall.SO_RCVBUF, 1) || isNarrow(server.(*net.TCPConn)) {
		t.Error("a closed socket has options")
	}
}
