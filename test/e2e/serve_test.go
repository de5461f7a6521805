package e2e

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// TestListensSoon measures how long after its start the broker listens. The goal
// is 50 ms on an idle machine; what is asserted leaves room for a busy one.
func TestListensSoon(t *testing.T) {
	best := patience
	for range 5 {
		s := serve(t, "--listen", "127.0.0.1:0")
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
		best = min(best, s.listening)
		if s.listening > 2*time.Second {
			t.Errorf("listening %s after its start", s.listening)
		}
		s.cmd.Process.Kill()
	}
	t.Logf("listening %s after its start, the best of 5", best)
}

// TestTerminate: on SIGTERM clients are told, and the status is 0 once they have
// gone.
func TestTerminate(t *testing.T) {
	s := serve(t, "--listen", "127.0.0.1:0")
	var told []chan *amqp.Error
	for range 20 {
		conn, err := amqp.Dial(s.url("guest:guest", ""))
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		if err := ch.PublishWithContext(context.Background(), "", "q", false, false, amqp.Publishing{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		told = append(told, conn.NotifyClose(make(chan *amqp.Error, 1)))
	}
	began := time.Now()
	if code := s.terminate(); code != 0 {
		t.Errorf("status %d on SIGTERM, want 0", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s although every client said goodbye at once", took)
	}
	for _, c := range told {
		if err := <-c; err == nil || err.Code != amqp.ConnectionForced || !strings.HasPrefix(err.Reason, "CONNECTION_FORCED") {
			t.Errorf("a client was told %v, want 320 CONNECTION_FORCED", err)
		}
	}
	if strings.Contains(s.stderr.String(), "level=ERROR") || strings.Contains(s.stderr.String(), "panic") {
		t.Error("it complained while stopping")
	}
}

// TestOneLineErrors: what goes wrong on the command line is told in one line,
// with the documented status.
func TestOneLineErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	defer taken.Close()
	nowhere := free.Addr().String()
	tests := []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"mistyped flag", []string{"serve", "--lisen", ":0"}, 2, []string{"--lisen", "did you mean --listen?"}},
		{"mistyped command", []string{"serv"}, 2, []string{"serv"}},
		{"wrong value", []string{"serve", "--frame-max", "1"}, 2, []string{"--frame-max", "4096"}},
		{"taken port", []string{"serve", "--listen", taken.Addr().String()}, 1, []string{taken.Addr().String(), "already in use"}},
		{"unreachable URL", []string{"get", "--url", "amqp://guest:guest@" + nowhere + "/", "q"}, 1, []string{nowhere, "refused"}},
		{"not a URL", []string{"get", "--url", "http://example.com/", "q"}, 2, []string{"amqp://"}},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			got := run(t, x.args...)
			if got.code != x.code {
				t.Errorf("status %d, want %d", got.code, x.code)
			}
			if got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "warren: ") {
				t.Errorf("stdout %q, stderr %q; want one line on stderr", got.stdout, got.stderr)
			}
			for _, s := range x.says {
				if !strings.Contains(got.stderr, s) {
					t.Errorf("%q does not say %q", got.stderr, s)
				}
			}
		})
	}
}

// ownAddress is an address of this machine that is not loopback, "" if it has
// none.
func ownAddress(t *testing.T) string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// TestGuestStaysHome: guest may log in from loopback only, unless that is
// configured away; other users may from anywhere.
func TestGuestStaysHome(t *testing.T) {
	host := ownAddress(t)
	if host == "" {
		t.Skip("this machine has no address besides loopback")
	}
	tests := []struct {
		name, user, host string
		args             []string
		refused          bool
	}{
		{"guest at home", "guest:guest", "127.0.0.1", nil, false},
		{"guest from outside", "guest:guest", host, nil, true},
		{"anna from outside", "anna:pw", host, []string{"--user", "anna:pw"}, false},
		{"guest from outside, allowed", "guest:guest", host, []string{"--loopback-user", ""}, false},
		{"anna from outside, not allowed", "anna:pw", host, []string{"--user", "anna:pw", "--loopback-user", "anna"}, true},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel() // a refusal takes its time, against guessing
			s := serve(t, append([]string{"--listen", ":0"}, x.args...)...)
			conn, err := amqp.Dial(s.url(x.user, x.host))
			if err == nil {
				conn.Close()
			}
			var e *amqp.Error
			if refused := errors.As(err, &e) && e.Code == amqp.AccessRefused; refused != x.refused || err != nil && !refused {
				t.Errorf("%v, want refused: %v", err, x.refused)
			}
		})
	}
}
