package benchsuite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
)

// names are the files of a folder.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestResume: what was interrupted goes on with whole rounds, and what is there
// stays as it is.
func TestResume(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var lines []string
	o := Options{Brokers: []*loadgen.Broker{address(t), address(t)}, Rounds: 3, Duration: 100 * time.Millisecond, Out: t.TempDir(), Only: []string{"batched-16B"}}
	o.Progress = func(line string) {
		lines = append(lines, line)
		if len(lines) == 4 { // the announcement, one round, and the first turn of the second
			cancel()
		}
	}
	if err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	first := filepath.Join(o.Out, "batched-16B.1-"+fileName(t, o.Out)+".1.json")
	before, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	lines, o.Resume, o.Progress = nil, true, func(line string) { lines = append(lines, line) }
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "4 runs of 100ms, 1 row: about ") || !strings.HasSuffix(lines[0], "(1 round already in "+o.Out+")") {
		t.Errorf("two rounds of two brokers were missing:\n%s", strings.Join(lines, "\n"))
	}
	if after, err := os.ReadFile(first); err != nil || string(after) != string(before) {
		t.Errorf("a round that was complete was measured again (%v)", err)
	}
	if records, err := Load(o.Out); err != nil || len(records) != 6 {
		t.Errorf("%d records, %v", len(records), err)
	}

	// Runs of another length do not belong to the others.
	lines, o.Duration = nil, 110*time.Millisecond
	if err := Run(t.Context(), o); err != nil || len(lines) != 7 {
		t.Errorf("%v\n%s", err, strings.Join(lines, "\n"))
	}
	// A failure is measured again, with the whole of its round.
	records, err := Load(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	records[0].Error = "something"
	if err := records[0].write(o.Out); err != nil {
		t.Fatal(err)
	}
	lines = nil
	if err := Run(t.Context(), o); err != nil || len(lines) != 3 {
		t.Errorf("%v\n%s", err, strings.Join(lines, "\n"))
	}
}

// fileName is the broker of the first record, as it stands in the name of its file.
func fileName(t *testing.T, dir string) string {
	list := names(t, dir)
	name := strings.TrimPrefix(list[0], "batched-16B.1-")
	return strings.TrimSuffix(name, ".1.json")
}

// TestRecordedAnew: without resume nothing of a row's earlier records is left, and
// other rows stay.
func TestRecordedAnew(t *testing.T) {
	o := Options{Brokers: []*loadgen.Broker{address(t)}, Rounds: 2, Duration: 100 * time.Millisecond, Out: t.TempDir(), Only: []string{"batched-16B", "churn-channels"}}
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Rounds, o.Only = 1, []string{"batched-16B"}
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var rows []string
	records, err := Load(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		rows = append(rows, r.Row)
	}
	if want := []string{"batched-16B", "churn-channels", "churn-channels"}; !slices.Equal(rows, want) {
		t.Errorf("got %v, want %v", rows, want)
	}
	table, err := Table(records)
	if err != nil || !strings.Contains(table, "- churn-channels: recorded in 2 rounds") {
		t.Errorf("the table does not say that its rows differ: %v\n%s", err, table)
	}
}

// TestEstimate: five rounds of ten seconds for two brokers are more than an hour,
// and what has been measured corrects that.
func TestEstimate(t *testing.T) {
	s := &suite{Options: Options{Brokers: make([]*loadgen.Broker, 2), Rounds: 5, Duration: 10 * time.Second, Scale: 1, Out: t.TempDir()}}
	p, err := s.makePlan(Rows())
	if err != nil {
		t.Fatal(err)
	}
	if p.left < time.Hour || p.left > 2*time.Hour || p.remaining() != p.left {
		t.Errorf("%d runs: %v", p.runs, p.left)
	}
	t.Logf("%d runs: %s", p.runs, roughly(p.left))
	p.took(10*time.Minute, 15*time.Minute)
	if want := (p.left * 3 / 2); p.remaining() != want {
		t.Errorf("everything takes half as long again, so %v are left and not %v", want, p.remaining())
	}
	for d, want := range map[time.Duration]string{40 * time.Second: "40 s", 99 * time.Second: "99 s", 119 * time.Second: "2 min", 65 * time.Minute: "1 h 5 min", 3599 * time.Second: "1 h 0 min"} {
		if got := roughly(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
