package amqpserver

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestTinyWindow: what a client on the same machine can have under way is little until
// the window is made wide, and nothing is lost on the way.
func TestTinyWindow(t *testing.T) {
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
	tinyWindows(l)
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

	w := newWindow(server)
	if !w.tiny() {
		t.Fatal("the window cannot be kept tiny")
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
	holds := func(bytes int) {
		t.Helper()
		if got := bufferBytes(server.(*net.TCPConn)); got != 2*bytes {
			t.Errorf("the buffer has %d bytes, want %d", got, 2*bytes)
		}
	}
	pass(4 << 20)
	holds(tinyBytes) // the system has not widened it
	w.grow(narrowBytes)
	if w.tiny() {
		t.Error("it is still tiny")
	}
	pass(16 << 20)
	holds(narrowBytes)
	w.grow(wideBytes)
	if w.set != nil {
		t.Error("it is not the system's care")
	}
	pass(16 << 20)
	if again := newWindow(server); again.set != nil {
		t.Error("a wide window is made tiny again")
	}
}

// TestWindowsThatStay: where a window cannot be tiny, or should not.
func TestWindowsThatStay(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	if w := newWindow(here); w.set != nil {
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
	if w := newWindow(server); w.set != nil {
		t.Error("a wide window is made tiny")
	}
	server.Close()
	if setSocket(server.(*net.TCPConn), syscall.SO_RCVBUF, 1) || isTiny(server.(*net.TCPConn)) {
		t.Error("a closed socket has options")
	}
}

// TestAlarmClock: a rest takes as long as it should, and nothing if there is no time left.
func TestAlarmClock(t *testing.T) {
	rest, stop := newAlarmClock()
	for _, d := range []time.Duration{-time.Second, 0, time.Microsecond, 3 * time.Millisecond} {
		began := time.Now()
		rest(d)
		if took := time.Since(began); took < d {
			t.Errorf("a rest of %v took %v", d, took)
		}
	}
	if n := testing.AllocsPerRun(100, func() { rest(time.Microsecond) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	stop()
	rest(time.Microsecond) // ends
}
