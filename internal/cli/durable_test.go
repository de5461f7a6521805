package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warrenmq/warren/broker"
)

// dataDir is a directory with the queue q of one message, closed in order.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, "--listen", "127.0.0.1:0", "--data", dir)
	t.Setenv(urlEnv, "amqp://"+s.addrs[0])
	run(t, "", "declare", "queue", "q").want(t, exitOK, "queue q: 0 messages, 0 consumers\n", "")
	run(t, "", "publish", "-q", "q", "--body", "hello").want(t, exitOK, "", "1 message confirmed\n")
	s.end(t)
	return dir
}

// end stops a server in order.
func (s *server) end(t *testing.T) {
	t.Helper()
	s.stop()
	if code := <-s.code; code != exitOK {
		t.Fatalf("status %d: %s", code, s.stderr.String())
	}
}

func TestServeKeepsWhatIsDurable(t *testing.T) {
	dir := dataDir(t)
	s := startServer(t, "--listen", "127.0.0.1:0", "--data", dir)
	if s.where != "data in "+dir {
		t.Errorf("the start line says %q", s.where)
	}
	t.Setenv(urlEnv, "amqp://"+s.addrs[0])
	run(t, "", "get", "q").want(t, exitOK, "hello\n", "")
	s.end(t)
	if s := startServer(t, "--listen", "127.0.0.1:0"); s.where != "memory only: nothing survives a restart" {
		t.Errorf("the start line says %q", s.where)
	}
}

func TestServeDefaultDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("WARREN_DATA", "")
	got := run(t, "", "serve", "--print-config")
	if got.code != exitOK || !strings.Contains(got.stdout, `data = "./warren-data" `) {
		t.Errorf("%+v", got)
	}
	if names, _ := filepath.Glob("*"); len(names) != 0 {
		t.Errorf("--print-config made %v", names)
	}
	run(t, "", "serve", "--data", "x", "--memory").want(t, exitUsage, "",
		"warren: --data and --memory exclude each other: one names a directory, the other wants none\n")
}

// refused wants serve to end with status 1 and one line that has all of these.
func refused(t *testing.T, dir string, want ...string) {
	t.Helper()
	got := run(t, "", "serve", "--listen", "127.0.0.1:0", "--data", dir)
	if got.code != exitFailed || strings.Count(got.stderr, "\n") != 1 {
		t.Fatalf("%+v", got)
	}
	for _, w := range want {
		if !strings.Contains(got.stderr, w) {
			t.Errorf("lacks %q: %s", w, got.stderr)
		}
	}
}

func TestServeRefusesADirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	b, err := broker.Open(broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	refused(t, dir, "warren: the data directory "+dir+" is in use by another broker: stop that one, or choose another directory with --data\n")
}

func TestServeRefusesADamagedDirectory(t *testing.T) {
	dir := dataDir(t)
	logs, err := filepath.Glob(filepath.Join(dir, "log-*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("%v, %v", logs, err)
	}
	f, err := os.OpenFile(logs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1, 2, 3}, 40); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "warren: the data directory "+dir+" is damaged, nothing has been changed: ", "log-00000001 at offset 0",
		fmt.Sprintf("'warren check %s' shows what is wrong, 'warren salvage %s NEWDIR' copies what can be read", dir, dir))
}

func TestServeRefusesAnotherFormat(t *testing.T) {
	dir := t.TempDir()
	// The checksum of a later format's manifest has to be right for it to be one.
	text := "warren-log 2\ncrc 1ac24a05\n"
	if err := os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "has format 2, this program reads format 1 only: use the version of the program that wrote it")
}

func TestServeRefusesToForgetAVhost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, "--listen", "127.0.0.1:0", "--data", dir, "--vhost", "shop")
	run(t, "", "declare", "queue", "orders", "--url", "amqp://"+s.addrs[0]+"/shop").want(t, exitOK, "queue orders: 0 messages, 0 consumers\n", "")
	s.end(t)
	refused(t, dir, `defines "orders" in virtual host "shop"`, "no such virtual host in the configuration")
	s = startServer(t, "--listen", "127.0.0.1:0", "--data", dir, "--vhost", "shop")
	s.end(t)
}

// TestServeEndsWithItsDisk takes the directory away: the log can make no file.
func TestServeEndsWithItsDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, "--listen", "127.0.0.1:0", "--data", dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	got := run(t, "", "declare", "queue", "q", "--url", "amqp://"+s.addrs[0])
	if got.code != exitFailed {
		t.Errorf("the queue was declared: %+v", got)
	}
	if code := <-s.code; code != exitFailed || !strings.Contains(s.stderr.String(), "warren: the data directory "+dir+" has failed, and nothing is confirmed any more") {
		t.Errorf("status %d, %s", code, s.stderr.String())
	}
}
