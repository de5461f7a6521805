package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/warrenmq/warren/broker"
)

// filledDir is a data directory with two queues, one of them with five messages
// of which one was delivered before and one is done.
func filledDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, "--listen", "127.0.0.1:0", "--data", dir)
	t.Setenv(urlEnv, "amqp://"+s.addrs[0])
	for _, line := range [][]string{
		{"declare", "exchange", "events", "--type", "topic"}, {"declare", "queue", "orders"}, {"declare", "queue", "empty"},
		{"bind", "events", "orders", "-k", "order.#"}, {"get", "orders"}, {"get", "orders", "--requeue"},
	} {
		if line[0] == "get" && line[len(line)-1] == "orders" {
			run(t, "one\ntwo\nthree\nfour\nfive\nsix\n", "publish", "-q", "orders").want(t, exitOK, "", "6 messages confirmed\n")
		}
		if got := run(t, "", line...); got.code != exitOK {
			t.Fatalf("%v: %+v", line, got)
		}
	}
	s.end(t)
	return dir
}

func TestCheck(t *testing.T) {
	dir := filledDir(t)
	got := run(t, "", "check", dir)
	if got.code != exitOK || got.stderr != "" {
		t.Errorf("status %d, %s%s", got.code, got.stdout, got.stderr)
	}
	for _, want := range []string{"log-00000001", "shut down in order\n", "1 exchange, 2 queues, 1 binding\n",
		"        5            1     19     0  orders in /\n", "        0            0      0     0  empty in /\n", "everything can be read\n"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("lacks %q:\n%s", want, got.stdout)
		}
	}
}

// TestCheckJSON holds the names of the fields, which programs rely on.
func TestCheckJSON(t *testing.T) {
	dir := filledDir(t)
	got := run(t, "", "check", "--json", dir)
	const whole = `{
  "directory": "DIR",
  "damaged": false,
  "shut_down_in_order": true,
  "next_lsn": N,
  "unconfirmed_bytes": N,
  "checkpoint": null,
  "files": [
    {
      "file": "log-00000001",
      "bytes": N,
      "used_bytes": N,
      "records": N,
      "first_lsn": N,
      "next_lsn": N
    }
  ],
  "exchanges": N,
  "bindings": N,
  "queues": [
    {
      "vhost": "/",
      "name": "empty",
      "id": N,
      "messages": N,
      "redelivered": N,
      "body_bytes": N,
      "definition_lost": false,
      "lost": []
    },
    {
      "vhost": "/",
      "name": "orders",
      "id": N,
      "messages": N,
      "redelivered": N,
      "body_bytes": N,
      "definition_lost": false,
      "lost": []
    }
  ],
  "lost_records": N,
  "lost_messages": N,
  "damage": [],
  "blobs": {
    "files": N,
    "bytes": N,
    "unneeded": N
  }
}
`
	names := regexp.MustCompile(`: \d+`).ReplaceAllString(strings.ReplaceAll(got.stdout, dir, "DIR"), ": N")
	if got.code != exitOK || got.stderr != "" || names != whole {
		t.Errorf("status %d, %s%s", got.code, got.stderr, names)
	}
	var r checkReport
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || r.Exchanges != 1 || r.Bindings != 1 ||
		r.Queues[1].Messages != 5 || r.Queues[1].Redelivered != 1 || r.Queues[1].BodyBytes != 19 || r.Files[0].NextLSN != r.NextLSN {
		t.Errorf("%v: %+v", err, r)
	}
	damageBody(t, dir, "four")
	got = run(t, "", "check", "--json", dir)
	r = checkReport{}
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || got.code != exitFailed || got.stderr != "" {
		t.Fatalf("status %d, %v, %s", got.code, err, got.stderr)
	}
	if len(r.Damage) != 1 || r.LostRecords != 1 || !r.Damaged || r.LostMessages != 0 {
		t.Fatalf("%+v", r)
	}
	d := r.Damage[0]
	if d.File != "log-00000001" || d.Offset == 0 || d.Reason == "" || d.LostRecords != 1 || d.FirstLSN != 8 || d.NextLSN != 9 {
		t.Errorf("%+v", d)
	}
	for _, name := range []string{"file", "offset", "reason", "lost_records", "first_lsn", "next_lsn"} {
		if damage := got.stdout[strings.Index(got.stdout, `"damage"`):]; !strings.Contains(damage, `"`+name+`": `) {
			t.Errorf("no field %s in %s", name, damage)
		}
	}
	none := t.TempDir()
	if got = run(t, "", "check", "--json", none); got.code != exitUsage || got.stdout != "" {
		t.Errorf("without data: %+v", got)
	}
}

// damageBody flips a bit of a body that stands in the log.
func damageBody(t *testing.T, dir, body string) {
	t.Helper()
	name := filepath.Join(dir, "log-00000001")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), body)
	if at < 0 {
		t.Fatalf("%q is not in %s", body, name)
	}
	data[at] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCheckAndSalvageDamage(t *testing.T) {
	dir := filledDir(t)
	damageBody(t, dir, "four")
	before, err := os.ReadFile(filepath.Join(dir, "log-00000001"))
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, "", "check", dir)
	if got.code != exitFailed || got.stderr != "" {
		t.Errorf("status %d, %s", got.code, got.stderr)
	}
	for _, want := range []string{"DAMAGED log-00000001 at offset ", "wrong checksum of a batch; LSN 8 is lost\n",
		"1 place damaged; 1 confirmed record lost", "'warren salvage " + dir + " NEWDIR' copies what can be read\n", "        4 "} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("lacks %q:\n%s", want, got.stdout)
		}
	}
	copied := filepath.Join(t.TempDir(), "new")
	got = run(t, "", "salvage", dir, copied)
	if got.code != exitFailed || !strings.Contains(got.stdout, "queue orders in /: 4 messages kept, 0 lost\n") ||
		!strings.Contains(got.stdout, "LSN 8 is lost") {
		t.Errorf("%+v", got)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "log-00000001")); string(after) != string(before) {
		t.Error("the damaged directory was changed")
	}
	s := startServer(t, "--listen", "127.0.0.1:0", "--data", copied)
	t.Setenv(urlEnv, "amqp://"+s.addrs[0])
	run(t, "", "get", "orders", "--count", "9").want(t, exitOK, "two\nthree\nfive\nsix\n", "")
	s.end(t)
	run(t, "", "salvage", dir, copied).want(t, exitUsage, "", "warren: "+copied+": the directory is not empty: salvage writes to a new one\n")
}

func TestCheckWithoutData(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"check", dir}, {"dump", filepath.Join(dir, "none")}, {"salvage", dir, filepath.Join(dir, "new")}} {
		if got := run(t, "", args...); got.code != exitUsage || !strings.Contains(got.stderr, "is no data directory") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	b, err := broker.Open(broker.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Shutdown(t.Context())
	run(t, "", "check", dir).want(t, exitUsage, "", "warren: the data directory "+dir+" is in use by a broker: stop it first\n")
}

func TestDump(t *testing.T) {
	dir := filledDir(t)
	got := run(t, "", "dump", dir)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	for i, want := range []string{"exchange vhost=\"/\" name=\"events\" topic", "queue vhost=\"/\" name=\"orders\" id=1 x-queue-type=classic",
		"queue vhost=\"/\" name=\"empty\"", "binding vhost=\"/\" source=\"events\" name=\"orders\" key=\"order.#\"",
		"publish orders#0 exchange=\"\" key=\"orders\" 3 bytes"} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Errorf("line %d lacks %q:\n%s", i+1, want, got.stdout)
		}
	}
	got = run(t, "", "dump", dir, "--type", "publish", "--queue", "orders", "--json", "--bodies")
	bodies := ""
	for line := range strings.Lines(got.stdout) {
		var l dumpLine
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Type != "publish" || l.Body == nil || len(l.Queues) != 1 {
			t.Fatalf("%v: %s", err, line)
		}
		bodies += *l.Body + " "
	}
	if bodies != "one two three four five six " {
		t.Errorf("bodies %q", bodies)
	}
	if got := run(t, "", "dump", dir, "--queue", "empty"); strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("of an empty queue:\n%s", got.stdout)
	}
	if got := run(t, "", "dump", dir, "--type", "settled"); !strings.Contains(got.stdout, " settled orders#0\n") {
		t.Errorf("settled:\n%s", got.stdout)
	}
	run(t, "", "dump", dir, "--type", "x").want(t, exitUsage, "", "warren: --type: there are no records of type \"x\" (see warren dump --help)\n")
}
