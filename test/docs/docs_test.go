package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pythonVariable names a Python that has pika. Without it what needs pika is left out.
const pythonVariable = "WARREN_DOCS_PYTHON"

// withPython has a command use that Python.
func withPython(command string) string {
	if python := os.Getenv(pythonVariable); python != "" {
		return strings.ReplaceAll(command, "python3 ", python+" ")
	}
	return command
}

// commandTimeout bounds every command of a page.
const commandTimeout = 60 * time.Second

// TestPages runs what the pages show.
func TestPages(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh here")
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "warren"), "./cmd/warren")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ran, originals, pagesRun := 0, 0, 0
	for _, file := range pages(t) {
		if original(file) != "" {
			continue // see TestTranslations
		}
		originals++
		t.Run(file, func(t *testing.T) {
			list, err := blocks(readFile(t, filepath.Join(root, file)))
			if err != nil {
				t.Fatal(err)
			}
			p := newPage(t, bin, file)
			defer p.stop()
			pagesRun++
			for _, b := range list {
				ran += p.check(b)
			}
		})
	}
	if pagesRun == originals && ran < 20 { // not if -run chose some
		t.Errorf("only %d commands on %d pages were run: are the blocks still found?", ran, pagesRun)
	}
}

// page is one page being run. Its methods belong to the test's goroutine.
type page struct {
	t      *testing.T
	name   string
	dir    string
	env    []string
	port   string
	api    string // port of the management API
	broker *exec.Cmd
	output *buffer // of broker
}

func newPage(t *testing.T, bin, file string) *page {
	p := &page{t: t, name: file, dir: t.TempDir()}
	scratch := p.dir
	if inRepository(file) {
		p.dir, _ = filepath.Abs(root)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "WARREN_") && !strings.HasPrefix(v, "AMQP_URL=") && !strings.HasPrefix(v, "PATH=") {
			p.env = append(p.env, v)
		}
	}
	p.port, p.api = freePort(t), freePort(t)
	p.env = append(p.env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "GOBIN="+bin,
		"WARREN_LISTEN=127.0.0.1:"+p.port, "WARREN_DATA="+filepath.Join(scratch, "warren-data"))
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// check checks one block and returns how many commands it ran.
func (p *page) check(b block) (ran int) {
	p.t.Helper()
	fail := func(format string, args ...any) {
		p.t.Helper()
		p.t.Errorf("%s:%d: "+format, append([]any{p.name, b.line}, args...)...)
	}
	switch {
	case b.lang == "sh" && strings.HasPrefix(b.info, "not-run: "):
		return 0
	case b.lang == "sh" && b.info == "background":
		p.start(b, fail)
		return 1
	case b.lang == "sh" && b.info == "":
		if out, err := p.run("set -e\n" + b.text); err != nil {
			fail("%v\n%s", err, out)
		}
		return strings.Count(b.text, "\n")
	case strings.HasPrefix(b.info, "in "):
		if !isPart(b.text, readFile(p.t, filepath.Join(root, strings.TrimPrefix(b.info, "in ")))) {
			fail("%s has no such lines", strings.TrimPrefix(b.info, "in "))
		}
	case b.lang == "console" && b.info == "python" && os.Getenv(pythonVariable) == "":
		return 0
	case b.lang == "console" && (b.info == "" || b.info == "python"):
		list, err := steps(b.text)
		if err != nil {
			fail("%v", err)
		}
		for _, s := range list {
			got, err := p.run(s.command)
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) || !matches(s.want, got) {
				fail("$ %s\nprinted (%v):\n%s\nthe page says:\n%s", s.command, err, got, s.want)
			}
		}
		return len(list)
	case b.lang == "toml" && b.info != "":
		if err := os.WriteFile(filepath.Join(p.dir, b.info), []byte(b.text), 0o600); err != nil {
			fail("%v", err)
		}
		if out, err := p.run("warren serve --print-config --config " + b.info); err != nil {
			fail("%v\n%s", err, out)
		}
	case b.lang == "json":
		for line := range strings.Lines(b.text) {
			if !json.Valid([]byte(line)) {
				fail("not JSON: %s", line)
			}
		}
	case b.lang == "go", b.lang == "text": // see TestGoBlocks
	default:
		fail("a block of kind %q is not checked: see the kinds in blocks_test.go", strings.TrimSpace(b.lang+" "+b.info))
	}
	return 0
}

// run runs a command in the page's folder and returns what it printed.
func (p *page) run(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", withPython(p.withPort(script)))
	cmd.WaitDelay = time.Second
	cmd.Dir, cmd.Env = p.dir, p.environment()
	out, err := cmd.CombinedOutput()
	return strings.NewReplacer(":"+p.port, ":5672", ":"+p.api, ":15672").Replace(string(out)), err
}

func (p *page) withPort(script string) string {
	return strings.NewReplacer(":5672", ":"+p.port, ":15672", ":"+p.api).Replace(script)
}

// environment names the page's broker once there is one.
func (p *page) environment() []string {
	if p.broker == nil {
		return p.env
	}
	return append(slices.Clip(p.env), "AMQP_URL=amqp://guest:guest@127.0.0.1:"+p.port+"/")
}

// start starts a broker and waits until it listens.
func (p *page) start(b block, fail func(string, ...any)) {
	p.stop()
	cmd := exec.Command("sh", "-c", "exec "+p.withPort(strings.TrimSpace(b.text)))
	cmd.Dir, cmd.Env = p.dir, append(slices.Clip(p.env), "WARREN_MANAGEMENT=127.0.0.1:"+p.api)
	p.output = &buffer{}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	if err := cmd.Start(); err != nil {
		fail("%v", err)
		return
	}
	p.broker = cmd
	for deadline := time.Now().Add(10 * time.Second); ; {
		nc, err := net.DialTimeout("tcp", "127.0.0.1:"+p.port, time.Second)
		if err == nil {
			nc.Close()
			return
		}
		if time.Now().After(deadline) {
			fail("nothing listens:\n%s", p.output)
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}

// stop stops the page's broker, which must end in order.
func (p *page) stop() {
	if p.broker == nil {
		return
	}
	if err := p.broker.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("%s: the broker is gone: %v\n%s", p.name, err, p.output)
	}
	if err := p.broker.Wait(); err != nil {
		p.t.Errorf("%s: the broker ended with %v\n%s", p.name, err, p.output)
	}
	p.broker = nil
}

// buffer is a bytes.Buffer that may be read while a process writes to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
