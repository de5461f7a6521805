package bench

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/benchsuite"
)

// TestReadme: the table of README.md is the one of the records in results/.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- results:begin -->\n", "<!-- results:end -->"
	head, rest, ok := strings.Cut(string(text), begin)
	shown, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md has no %q and %q", begin, end)
	}
	want, chart := "Nothing has been recorded yet.\n", ""
	records, err := benchsuite.Load("results")
	if err == nil {
		var table string
		if table, err = benchsuite.Table(records); err != nil {
			t.Fatal(err)
		}
		if chart, err = benchsuite.Chart(records); err != nil {
			t.Fatal(err)
		}
		want = table + "\n![rates](results/chart.svg)\n"
	} else if !errors.Is(err, benchsuite.ErrNoRecords) {
		t.Fatal(err)
	}
	if os.Getenv("WARREN_UPDATE_DOCS") == "1" {
		if err := os.WriteFile("README.md", []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		if chart != "" {
			if err := os.WriteFile("results/chart.svg", []byte(chart), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	if shown != want {
		t.Errorf("README.md does not show what was recorded; WARREN_UPDATE_DOCS=1 go test ./bench writes it anew. It should be\n%s", want)
	}
	if have, _ := os.ReadFile("results/chart.svg"); string(have) != chart {
		t.Error("results/chart.svg is not that of the records; WARREN_UPDATE_DOCS=1 go test ./bench writes it anew")
	}
}
