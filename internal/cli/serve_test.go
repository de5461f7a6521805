package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/auth"
)

// server is a `warren serve` that runs.
type server struct {
	addrs          []string
	where          string // of the start line
	management     string // likewise
	stdout, stderr *watchedBuffer
	stop           context.CancelFunc
	code           chan int
}

var startLine = regexp.MustCompile(`^WarrenMQ (\S+) listening on (.*) \((memory only: nothing survives a restart|data in [^)]*)\)(.*)\n$`)

// startServer runs one, in memory unless told where.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	if !slices.Contains(args, "--data") {
		args = append(args, "--memory")
	}
	ctx, stop := context.WithCancel(t.Context())
	s := &server{stdout: &watchedBuffer{}, stderr: &watchedBuffer{}, stop: stop, code: make(chan int, 1)}
	t.Cleanup(stop)
	go func() {
		s.code <- Run(ctx, append([]string{"serve"}, args...), strings.NewReader(""), s.stdout, s.stderr)
	}()
	eventually(t, func() bool { return strings.HasSuffix(s.stdout.String(), "\n") }, func() string { return "no start line; " + s.stderr.String() })
	m := startLine.FindStringSubmatch(s.stdout.String())
	if m == nil || m[1] != Version() {
		t.Fatalf("start line %q", s.stdout.String())
	}
	s.addrs, s.where, s.management = strings.Split(m[2], ", "), m[3], m[4]
	return s
}

func TestServe(t *testing.T) {
	hash, err := auth.HashPassword("s3cret")
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--user-hash", "anna:"+hash, "--vhost", "shop")
	if len(s.addrs) != 2 || s.addrs[0] == s.addrs[1] {
		t.Fatalf("listens on %v", s.addrs)
	}
	for _, addr := range s.addrs {
		conn, err := amqp.Dial("amqp://anna:s3cret@" + addr + "/shop")
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		if conn.Properties["product"] != "WarrenMQ" || conn.Properties["version"] != Version() {
			t.Errorf("server properties %v", conn.Properties)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	conn, err := amqp.Dial("amqp://anna:s3cret@" + s.addrs[0] + "/")
	if err != nil {
		t.Fatalf("the vhost / must be there beside shop: %v", err)
	}
	defer conn.Close()
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	s.stop()
	if e := <-closed; e == nil || e.Code != amqp.ConnectionForced {
		t.Errorf("clients are told %v, want 320", e)
	}
	if code := <-s.code; code != exitOK {
		t.Errorf("status %d: %s", code, s.stderr.String())
	}
	if _, err := net.Dial("tcp", s.addrs[0]); err == nil {
		t.Error("still listening")
	}
	if strings.Contains(s.stderr.String()+s.stdout.String(), "s3cret") {
		t.Error("a password was logged")
	}
}

func TestServeRefusesWhoIsUnknown(t *testing.T) {
	s := startServer(t, "--listen", "127.0.0.1:0", "--user", "anna:s3cret")
	var refused sync.WaitGroup // each takes the three seconds for which the server is silent
	for _, who := range []string{"guest:guest", "anna:wrong"} {
		refused.Go(func() {
			got := run(t, "", "get", "q", "--url", "amqp://"+who+"@"+s.addrs[0]+"/")
			if got.code != exitFailed || !strings.Contains(got.stderr, "the login was refused") || strings.Contains(got.stderr, who) {
				t.Errorf("%s: %+v", who, got)
			}
		})
	}
	refused.Wait()
	t.Setenv(urlEnv, "amqp://anna:s3cret@"+s.addrs[0]+"/nowhere")
	run(t, "", "get", "q").want(t, exitFailed, "", fmt.Sprintf("warren: cannot connect to amqp://anna@%s/nowhere: NOT_ALLOWED - vhost nowhere not found (530)\n", s.addrs[0]))
}

func TestServeTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := run(t, "", "serve", "--memory", "--listen", "127.0.0.1:0", "--listen", l.Addr().String())
	got.want(t, exitFailed, "", "warren: cannot listen on "+l.Addr().String()+": the address is already in use (choose another with --listen)\n")
}

func TestServeConfigurationErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w.toml")
	if err := os.WriteFile(file, []byte("[limits]\nframe_mx = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", "serve", "--config", file).want(t, exitUsage, "", "warren: "+file+": unknown key limits.frame_mx, did you mean limits.frame_max?\n")
	run(t, "", "serve", "--frame-max", "12").want(t, exitUsage, "", "warren: --frame-max: 12 is out of range, it must be from 4096 to 16777216\n")
	run(t, "", "serve", "--frame-max", "12", "--frame-max", "13").want(t, exitUsage, "", "warren: --frame-max: 13 is out of range, it must be from 4096 to 16777216\n")
	run(t, "", "serve", "--lisen", ":1").want(t, exitUsage, "", "warren: unknown flag --lisen, did you mean --listen? (see warren serve --help)\n")
	t.Setenv("WARREN_LOG_LEVEL", "loud")
	run(t, "", "serve").want(t, exitUsage, "", "warren: WARREN_LOG_LEVEL: \"loud\" is not a log level, choose debug, info, warn or error\n")
}

func TestServePrintConfig(t *testing.T) {
	t.Setenv("WARREN_CHANNEL_MAX", "99")
	got := run(t, "", "serve", "--print-config", "--listen", ":1", "--listen", ":2", "--user", "anna:s3cret", "--loopback-user", "")
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{`listen = [":1", ":2"]`, `loopback_users = []`, `channel_max = 99 `, "# WARREN_CHANNEL_MAX\n", "# --listen\n", "name = \"anna\"\npassword_hash = \"***\"\n"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("lacks %q:\n%s", want, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "s3cret") {
		t.Errorf("shows a password:\n%s", got.stdout)
	}
}

func TestServeHelpNamesEverySetting(t *testing.T) {
	got := run(t, "", "serve", "--help")
	for _, want := range []string{"--listen HOST:PORT", "[$WARREN_LISTEN] (default :5672)", "--memory-limit BYTES|N%", "(default 60%)", "--config FILE"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("lacks %q:\n%s", want, got.stdout)
		}
	}
}

func TestAReaderThatLeftIsNoNews(t *testing.T) {
	b := newBench(t)
	b.publish("x")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	stderr := &watchedBuffer{}
	code := Run(t.Context(), []string{"consume", b.queue}, strings.NewReader(""), w, stderr)
	if code != exitFailed || stderr.String() != "" {
		t.Errorf("status %d, %q", code, stderr.String())
	}
	if got := b.bodies(); len(got) != 1 {
		t.Errorf("left %q: what nobody read must be there still", got)
	}
}

func TestDemoRunsEmbedded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Setenv(urlEnv, "")
	got := run(t, "", "demo", "--json")
	if got.code != exitOK || !strings.Contains(got.stdout, `"summary"`) {
		t.Errorf("status %d, %s", got.code, got.stderr)
	}
}

// TestDemoKillsItsBroker: nothing confirmed is lost, and the directory is whole
// and empty afterwards.
func TestDemoKillsItsBroker(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Setenv(urlEnv, "amqp://unused.invalid/")
	dir := filepath.Join(t.TempDir(), "data")
	got := run(t, "", "demo", "--data", dir)
	if got.code != exitOK || !strings.Contains(got.stdout, "8/8") || !strings.Contains(got.stdout, "All numbers add up") {
		t.Errorf("status %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := run(t, "", "check", dir); got.code != exitOK || !strings.Contains(got.stdout, "0 exchanges, 0 queues, 0 bindings") {
		t.Errorf("status %d, %s", got.code, got.stdout)
	}
}

func TestConnectionLostWhilePublishing(t *testing.T) {
	s := startServer(t, "--listen", "127.0.0.1:0")
	t.Setenv(urlEnv, "amqp://"+s.addrs[0])
	stdin, feed := io.Pipe()
	defer feed.Close()
	stderr := &watchedBuffer{}
	code := make(chan int)
	run(t, "", "declare", "queue", "q").want(t, exitOK, "queue q: 0 messages, 0 consumers\n", "")
	go func() { code <- Run(t.Context(), []string{"publish", "-q", "q"}, stdin, io.Discard, stderr) }()
	if _, err := io.WriteString(feed, "one\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		return strings.HasPrefix(run(t, "", "declare", "queue", "q", "--passive").stdout, "queue q: 1 message,")
	},
		func() string { return "the message did not arrive: " + stderr.String() })
	s.stop() // while the input is still open
	if c := <-code; c != exitFailed || !strings.Contains(stderr.String(), "CONNECTION_FORCED") {
		t.Errorf("status %d, %q", c, stderr.String())
	}
	if c := <-s.code; c != exitOK {
		t.Errorf("server's status %d", c)
	}
}

func TestConnectionCutBeforeTheConfirm(t *testing.T) {
	b := brokertest.New(t)
	t.Setenv(urlEnv, b.URL())
	run(t, "", "declare", "queue", "q").want(t, exitOK, "queue q: 0 messages, 0 consumers\n", "")
	b.HoldConfirms()
	done := make(chan result)
	go func() { done <- run(t, "a\nb\n", "publish", "-q", "q") }()
	eventually(t, func() bool {
		return strings.HasPrefix(run(t, "", "declare", "queue", "q", "--passive").stdout, "queue q: 2 messages,")
	},
		func() string { return "the messages did not arrive" })
	b.CutConnections()
	got := <-done
	if got.code != exitFailed || !strings.HasPrefix(got.stderr, "0 messages confirmed\nwarren: lost the connection to ") ||
		!strings.HasSuffix(got.stderr, "; 2 messages sent but not confirmed, which may or may not have arrived\n") {
		t.Errorf("got %+v", got)
	}
}

func TestListenErrors(t *testing.T) {
	_, err := listen(t.Context(), []string{"256.0.0.1:1"})
	if err == nil || strings.Count(err.Error(), "256.0.0.1") != 1 {
		t.Errorf("got %v, want the address once", err)
	}
	if errors.Is(err, context.Canceled) {
		t.Error("cancelled?")
	}
}
