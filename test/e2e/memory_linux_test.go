package e2e

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	idleBytes        = 20 << 20  // an idle broker, resident
	idleConnections  = 10_000    // connections that do nothing
	connectionsBytes = 300 << 20 // a broker with that many, resident
)

var vmRSS = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// residentBytes reads proc(5)/status.
func (s *server) residentBytes() int {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	m := vmRSS.FindSubmatch(text)
	if m == nil {
		s.t.Fatalf("no VmRSS in %s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		s.t.Fatal(err)
	}
	return n << 10
}

// connectionsAllowed is how many connections this process, and so one that it
// starts, may have, up to want. Go raises the soft limit itself.
func connectionsAllowed(t *testing.T, want int) int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	const others = 200
	return int(min(uint64(want), max(l.Cur, others)-others))
}

func TestResidentMemory(t *testing.T) {
	s := serve(t, "--memory", "--listen", "127.0.0.1:0", "--log-level", "warn")
	idle := s.residentBytes()
	t.Logf("idle: %d KiB resident", idle>>10)
	if idle > idleBytes {
		t.Errorf("%d KiB resident when idle, want at most %d", idle>>10, idleBytes>>10)
	}
	n := connectionsAllowed(t, idleConnections)
	began := time.Now()
	conns := make([]net.Conn, n)
	failed := make(chan error, 16)
	var workers sync.WaitGroup
	for worker := range 16 {
		workers.Go(func() {
			frames := handshake()
			for i := worker; i < n; i += 16 {
				nc, err := net.Dial("tcp", s.addr)
				if err == nil {
					conns[i] = nc
					err = hello(nc, frames)
				}
				if err != nil {
					failed <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		})
	}
	workers.Wait()
	defer func() {
		for _, nc := range conns {
			if nc != nil {
				nc.Close()
			}
		}
	}()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	full := s.residentBytes()
	want := idleBytes + (connectionsBytes-idleBytes)/idleConnections*n
	t.Logf("%d idle connections, open after %s: %d KiB resident", n, time.Since(began).Round(time.Millisecond), full>>10)
	if full > want {
		t.Errorf("%d KiB resident with %d idle connections, want at most %d", full>>10, n, want>>10)
	}
}
