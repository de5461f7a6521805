package cli

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
)

// streams carries out a command line without stdin.
func streams(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	r := run(t, "", args...)
	return r.code, r.stdout, r.stderr
}

// TestBench runs a load by count, for people and as JSON.
func TestBench(t *testing.T) {
	t.Setenv(urlEnv, brokerURL(t))
	status, out, errOut := streams(t, "bench", "-s", "16", "-c", "10", "-C", "500", "-q", "50", "-A", "7", "-f", "persistent", "-i", "100ms")
	if status != exitOK || !strings.Contains(out, "published    500, ") || !strings.Contains(out, "confirmed    500, ") || !strings.Contains(out, "received     500, ") || !strings.Contains(out, "to delivery") {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errOut)
	}
	status, out, errOut = streams(t, "bench", "--json", "--quiet", "--batched", "-a", "-C", "500", "--queue-pattern", "b-%d", "--queue-pattern-to", "3", "-x", "3", "-y", "3",
		"--queue-args", "x-max-length=100000,x-overflow=reject-publish", "--expiration", "60s")
	var got struct {
		Load loadgen.Config
		loadgen.Report
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != exitOK || errOut != "" {
		t.Fatalf("status %d, %v, stdout %q, stderr %q", status, err, out, errOut)
	}
	if got.Published != 1500 || got.Received != 1500 || len(got.Load.Queues) != 3 || got.Load.Queues[2] != "b-3" || got.Load.Expiration != "60000" || len(got.Load.QueueArgs) != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestBenchInterrupted: Ctrl-C gives the summary so far, and is no failure.
func TestBenchInterrupted(t *testing.T) {
	t.Setenv(urlEnv, brokerURL(t))
	ctx, cancel := context.WithCancel(context.Background())
	var out strings.Builder
	errOut := &watchedWriter{until: " s  in ", reached: cancel}
	status := Run(ctx, []string{"bench", "-i", "100ms", "-r", "100"}, strings.NewReader(""), &out, errOut)
	if status != exitOK || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("status %d, stdout %q", status, out.String())
	}
}

// watchedWriter calls reached when a text has been written.
type watchedWriter struct {
	until   string
	reached func()
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.until) {
		w.reached()
	}
	return len(b), nil
}

// TestBenchProcess: --pid adds what the process used.
func TestBenchProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	t.Setenv(urlEnv, brokerURL(t))
	status, out, errOut := streams(t, "bench", "--quiet", "-C", "100", "--pid", strconv.Itoa(os.Getpid()))
	if status != exitOK || !strings.Contains(out, "broker CPU") || !strings.Contains(out, "resident") {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errOut)
	}
}

// TestBenchUsage: what makes no sense is refused before anything is loaded.
func TestBenchUsage(t *testing.T) {
	t.Setenv(urlEnv, "amqp://guest:guest@localhost:1/")
	for args, want := range map[string]string{
		"--flag durable":            "persistent or mandatory",
		"-u a --queue-pattern b-%d": "give one of them",
		"--queue-pattern b":         "needs one %d",
		"--queue-pattern-to 3":      "need a --queue-pattern",
		"--queue-pattern b-%d --queue-pattern-from 3 --queue-pattern-to 2": "give 1 to",
		"-t fanout":                     "need an --exchange",
		"-c 1 -m 1":                     "give one of them",
		"-A 10 -q 5":                    "raise the prefetch",
		"-x -1":                         "-1 is no number of publishers",
		"-z fast":                       "--time",
		"-i 1ms":                        "at least 100ms",
		"--url amqp://a --url amqp://b": "one broker at a time; --suite",
		"--pid 1 --pid 2":               "one broker at a time; --suite",
		"--queue-args x":                "key=value",
		"--queue-args x:={\"a\":{}}":    "only text, numbers and booleans",
		"--expiration -1s":              "cannot be negative",
		"extra":                         "takes no argument",
	} {
		status, out, errOut := streams(t, append([]string{"bench"}, strings.Fields(args)...)...)
		if status != exitUsage || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want something with %q", args, status, out, errOut, want)
		}
	}
}

// TestSeconds: a bare number is seconds.
func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{"10": 10 * time.Second, "0.5": 500 * time.Millisecond, "3m": 3 * time.Minute, "250ms": 250 * time.Millisecond} {
		var s seconds
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%s is %v, %v", text, time.Duration(s), err)
		}
	}
}

// TestBenchSuite measures one row, and makes the same table again of the files.
func TestBenchSuite(t *testing.T) {
	url, dir := brokerURL(t), t.TempDir()
	status, table, errOut := streams(t, "bench", "--suite", "--url", url, "--only", "batched-16B", "--rounds", "2", "--duration", "100ms", "--out", dir)
	if status != exitOK || !strings.Contains(table, "| batched: 16 B transient, auto-ack |") || strings.Count(errOut, "batched-16B") != 2 || !strings.Contains(errOut, "2 runs of 100ms, 1 row: about") {
		t.Fatalf("status %d, stdout %q, stderr %q", status, table, errOut)
	}
	if files, _ := os.ReadDir(dir); len(files) != 4 { // two runs, table.md, chart.svg
		t.Errorf("%v", files)
	}
	if status, again, errOut := streams(t, "bench", "--report", dir); status != exitOK || again != table {
		t.Errorf("status %d, stdout %q, stderr %q, want %q", status, again, errOut, table)
	}
	status, again, errOut := streams(t, "bench", "--suite", "--url", url, "--only", "batched-16B", "--rounds", "2", "--time", "100ms", "--out", dir, "--resume")
	if status != exitOK || again != table || strings.Contains(errOut, "batched-16B") || !strings.Contains(errOut, "2 rounds already in ") {
		t.Errorf("going on with what is complete: status %d, stdout %q, stderr %q", status, again, errOut)
	}
	for args, want := range map[string]string{
		"--suite --only x":                    "there is no row \"x\"; the rows are memory-1M, ",
		"--suite -x 2":                        "--producers is for a load of your own",
		"--suite --report x":                  "give one of them",
		"--suite --rounds 0":                  "0 is no number of rounds",
		"--suite --url " + url + " --pid 1,2": "give one --pid for each --url",
		"--rounds 2":                          "--rounds is for --suite",
		"--suite --scale many":                "is not a number",
	} {
		status, out, errOut := streams(t, append([]string{"bench"}, strings.Fields(args)...)...)
		if status != exitUsage || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want something with %q", args, status, out, errOut, want)
		}
	}
	if status, _, errOut := streams(t, "bench", "--report", t.TempDir()); status != exitFailed || !strings.Contains(errOut, "no recorded runs") {
		t.Errorf("status %d, stderr %q", status, errOut)
	}
}
