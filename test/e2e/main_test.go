// Package e2e drives the built binary as its users do, and brokers in this
// process where a test has to look for what stays behind.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait for something that has to happen.
const patience = 10 * time.Second

// startPatience bounds a start, which may have to recover a backlog.
const startPatience = time.Minute

// binary is the path of the warren that TestMain has built.
func binary() string { return os.Getenv("WARREN_E2E_BINARY") }

func TestMain(m *testing.M) { os.Exit(build(m)) }

// build makes the binary, runs the tests and looks for goroutines left behind.
func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "warren-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "warren")
	cmd := exec.Command("go", "build", "-o", path, "github.com/warrenmq/warren/cmd/warren")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	os.Setenv("WARREN_E2E_BINARY", path)
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// environment is ours without what configures warren.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "WARREN_") && !strings.HasPrefix(v, "AMQP_URL=") {
			env = append(env, v)
		}
	}
	return env
}

// outcome is how a run of warren ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// run runs warren to its end.
func run(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(), args...)
	cmd.Env = environment()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("warren %s does not end: %s%s", strings.Join(args, " "), &stdout, &stderr)
	}
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// server is a "warren serve" that runs.
type server struct {
	t         *testing.T
	cmd       *exec.Cmd
	addr      string        // of its one listener
	listening time.Duration // from start to the line that says so
	stderr    lockedBuffer
	ended     chan struct{} // closed once the process is gone
}

var startLine = regexp.MustCompile(`^WarrenMQ \S+ listening on (\S+) `)

// serve starts warren serve on a free port and waits until it listens. It keeps
// everything in memory unless told otherwise.
func serve(t *testing.T, args ...string) *server {
	t.Helper()
	if !slices.Contains(args, "--data") && !slices.Contains(args, "--memory") {
		args = append(args, "--memory")
	}
	s := &server{t: t, ended: make(chan struct{})}
	s.cmd = exec.Command(binary(), append([]string{"serve"}, args...)...)
	s.cmd.Env = append(environment(), "WARREN_DATA="+t.TempDir())
	s.cmd.Stderr = &s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(startPatience, func() { s.cmd.Process.Kill() })
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	timer.Stop()
	s.listening = time.Since(began)
	go func() {
		s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.ended
		if t.Failed() {
			t.Logf("warren serve said:\n%s", s.stderr.String())
		}
	})
	m := startLine.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("start line %q, stderr %q", line, s.stderr.String())
	}
	s.addr = m[1]
	return s
}

// url is the server's address at a host of ours, "" for where it listens.
func (s *server) url(user, host string) string {
	at, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	if host == "" {
		host = at
	}
	return "amqp://" + user + "@" + net.JoinHostPort(host, port) + "/"
}

// terminate sends SIGTERM and returns the exit code.
func (s *server) terminate() int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(2 * patience):
		s.t.Fatal("still there after SIGTERM")
	}
	return s.cmd.ProcessState.ExitCode()
}

// lockedBuffer is a buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	within(t, patience, what, holds)
}

// within is eventually with a patience of its own.
func within(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("still not so after %s: %s", patience, what)
		}
		<-tick.C
	}
}
