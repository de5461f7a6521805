package benchsuite

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/warrenmq/warren/brokertest"
	"github.com/warrenmq/warren/internal/loadgen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// address is how a load reaches a broker of this process.
func address(t *testing.T) *loadgen.Broker {
	t.Helper()
	uri, err := amqp.ParseURI(brokertest.New(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	b := &loadgen.Broker{Dial: loadgen.DialTCP(net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))), Login: loadgen.Login{User: "guest", Password: "guest", VHost: "/"}}
	if _, err := loadgen.ProcessCPU(os.Getpid()); err == nil {
		b.PID = os.Getpid()
	}
	return b
}

// TestRows: every load of the matrix is one that can be carried out, and every
// name is there once.
func TestRows(t *testing.T) {
	p := runParams{duration: 10 * time.Second, scale: 1, queue: func(n int) []string { return slices.Repeat([]string{"q"}, n) }}
	seen := map[string]bool{}
	for _, row := range Rows() {
		if seen[row.Name] || row.Title == "" || len(row.Loads) == 0 {
			t.Errorf("row %q", row.Name)
		}
		seen[row.Name] = true
		for _, v := range row.Loads {
			if row.compares() != (v.name != "") {
				t.Errorf("%s: a load of a row that compares has a name, others have none", row.Name)
			}
			if v.load == nil {
				continue
			}
			c := v.load(p)
			if err := c.Check(); err != nil {
				t.Errorf("%s: %v", row.Name, err)
			}
			if c.Duration == 0 && c.PublishCount == 0 {
				t.Errorf("%s has no end", row.Name)
			}
		}
	}
}

// TestSuite measures some rows of two brokers and makes a table of the files.
func TestSuite(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	o := Options{
		Brokers: []*loadgen.Broker{address(t), address(t)}, Rounds: 2, Duration: 100 * time.Millisecond, Scale: 0.001, Out: dir,
		Only:     []string{"memory", "idle", "transient-16B", "confirm-1", "latency", "get", "churn", "deaf"},
		Progress: func(line string) { lines = append(lines, line) },
	}
	if err := Run(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	records, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Two rows of one round; six of two, one of which has two loads; two brokers.
	if want := (2 + 5*2 + 2*2*1 + 2) * 2; len(records) != len(lines)-1 || len(records) != want {
		t.Errorf("%d records, %d lines, want %d:\n%s", len(records), len(lines), want, strings.Join(lines, "\n"))
	}
	table, err := Table(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range Rows() {
		measured := slices.ContainsFunc(o.Only, func(p string) bool { return strings.HasPrefix(row.Name, p) })
		if strings.Contains(table, "| "+row.Title+" |") != measured {
			t.Errorf("row %s: measured %t, table:\n%s", row.Name, measured, table)
		}
	}
	if strings.Contains(table, "failed") || !strings.Contains(table, " (2) |") || !strings.Contains(table, "raw fdatasync") {
		t.Errorf("the table:\n%s", table)
	}
	chart, err := Chart(records)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, chart)
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestTurns: the brokers take turns, and another one begins each round.
func TestTurns(t *testing.T) {
	var order []string
	o := Options{Brokers: []*loadgen.Broker{address(t), address(t)}, Rounds: 2, Duration: 100 * time.Millisecond, Out: t.TempDir(), Only: []string{"batched-16B"}}
	o.Progress = func(line string) {
		if !strings.Contains(line, "left") {
			return // what it is going to do
		}
		who := "first"
		if strings.Contains(line, "(2)") {
			who = "second"
		}
		order = append(order, who)
	}
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if want := []string{"first", "second", "second", "first"}; !slices.Equal(order, want) {
		t.Errorf("the order was %v, want %v", order, want)
	}
}

// TestFailures: a run that fails is recorded and shown, and the rest goes on.
func TestFailures(t *testing.T) {
	good, bad := address(t), *address(t)
	dial, calls := bad.Dial, 0
	bad.Dial = func(ctx context.Context) (net.Conn, error) {
		if calls++; calls > 1 { // the first asks who is there
			return nil, errors.New("no way")
		}
		return dial(ctx)
	}
	o := Options{Brokers: []*loadgen.Broker{good, &bad}, Rounds: 1, Duration: 100 * time.Millisecond, Out: t.TempDir(), Only: []string{"batched-16B"}}
	if err := Run(t.Context(), o); !errors.Is(err, ErrFailedRuns) {
		t.Fatal(err)
	}
	records, err := Load(o.Out)
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	table, err := Table(records)
	if err != nil || !strings.Contains(table, "no way") || !strings.Contains(table, "| failed |") {
		t.Errorf("%v\n%s", err, table)
	}
}

// TestInterrupted: the run under way is not recorded.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Brokers: []*loadgen.Broker{address(t)}, Rounds: 5, Duration: 100 * time.Millisecond, Out: t.TempDir(), Only: []string{"batched-16B"}}
	o.Progress = func(line string) {
		if strings.Contains(line, "left") {
			cancel()
		}
	}
	if err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if records, err := Load(o.Out); err != nil || len(records) != 1 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

// TestOptions: what makes no sense is refused.
func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"must be a broker": {Rounds: 1, Duration: time.Second},
		"number of rounds": {Brokers: []*loadgen.Broker{{}}, Duration: time.Second},
		"at least 100ms":   {Brokers: []*loadgen.Broker{{}}, Rounds: 1},
		"scale":            {Brokers: []*loadgen.Broker{{}}, Rounds: 1, Duration: time.Second, Scale: 2},
		"the rows are":     {Brokers: []*loadgen.Broker{{}}, Rounds: 1, Duration: time.Second, Only: []string{"nonsense"}},
	} {
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
	rows, err := (&Options{Only: []string{"window-100-64KB", "batched"}}).choose()
	if err != nil || len(rows) != 5 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	// The name of one row is the beginning of another's: that row alone.
	rows, err = (&Options{Only: []string{"window-1000-16B"}}).choose()
	if err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// made is a record with the rates given.
func made(row, variant, broker string, order, round int, in, out float64) Record {
	return Record{Row: row, Variant: variant, Broker: broker, Order: order, Round: round, Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine: Machine{OS: "linux", Arch: "amd64", CPUs: 2, Generator: "abc"}, Load: &loadgen.Config{Duration: 10 * time.Second},
		Report: &loadgen.Report{PublishRate: in, ReceiveRate: out, Received: 1_000_000, Broker: &loadgen.Usage{CPUPerMillion: in / 1000, RSSMax: 50e6}}}
}

// TestTable compares a table with one computed by hand.
func TestTable(t *testing.T) {
	records := []Record{
		made("window-256", "", "A", 1, 1, 120_000, 110_000), made("window-256", "", "A", 1, 2, 100_000, 100_500), made("window-256", "", "A", 1, 3, 130_000, 130_000),
		made("window-256", "", "B|1", 2, 1, 11_000, 12_000),
		made("deaf-consumer", "without", "A", 1, 1, 1000, 1000), made("deaf-consumer", "with", "A", 1, 1, 950, 950),
		made("deaf-consumer", "without", "A", 1, 2, 2000, 1000), made("deaf-consumer", "with", "A", 1, 2, 2100, 950),
	}
	records[1].Report.StalledSeconds = 3
	got, err := Table(records)
	if err != nil {
		t.Fatal(err)
	}
	want := `Measured 2026-01-02 03:04 on 2 CPUs (linux/amd64); up to 3 rounds of 10s; load from commit abc.

| scenario | A | cpu/M | MB | B\|1 | cpu/M | MB | times B\|1 |
|---|---|---|---|---|---|---|---|
| 1 KB persistent, window 256, ack by 100 | 110 k/s (100 k to 130 k) | 120 | 50.0 | 11.0 k/s | 11.0 | 50.0 | 10.0 |
| 1 KB persistent, window 256: in, with one more consumer that never reads, against without | 0 % (−5 to +5) |  | 50.0 | | | |  |

- window-256, A: stood still for 3 s in all rounds, single publishers and consumers for 0 s in sum; blocked its publishers for 0 s
- deaf-consumer: recorded in 2 rounds of 10s
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	chart, err := Chart(records)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, chart)
	if !strings.Contains(chart, "window-256") || strings.Contains(chart, "deaf") {
		t.Error(chart)
	}
	if _, err := Table([]Record{made("unknown", "", "A", 1, 1, 1, 1)}); err == nil {
		t.Error("an unknown row must not be left out silently")
	}
}

// TestShort: about three digits.
func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0571: "0.057", 0.452: "0.45", 2.354: "2.35", 24.06: "24.1", 357.2: "357", 2195: "2195",
		9994: "9994", 41_230: "41.2 k", 999_400: "999 k", 3_824_000: "3.82 M", -0.85: "-0.85", 1e-9: "0.000000"} {
		if got := short(v); got != want {
			t.Errorf("%g is %q, want %q", v, got, want)
		}
	}
}

// TestSpread: medians of even and odd numbers of rounds.
func TestSpread(t *testing.T) {
	if s := spreadOf([]float64{3, 1, 2}); s != (spread{2, 1, 3, 3}) {
		t.Error(s)
	}
	if s := spreadOf([]float64{4, 1}); s != (spread{2.5, 1, 4, 2}) {
		t.Error(s)
	}
	if s := spreadOf(nil); s.n != 0 || math.IsNaN(s.median) {
		t.Error(s)
	}
}

// TestLoad: what is no record is an error with its name.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, ErrNoRecords) {
		t.Error(err)
	}
	for _, text := range []string{"{}", "nonsense"} {
		if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "x.json") {
			t.Error(err)
		}
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
}
