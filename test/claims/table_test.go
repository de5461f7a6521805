package claims

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// table is what was measured, for whoever reads the log.
type table struct {
	mu   sync.Mutex
	rows []string
}

// row adds what has shown a claim.
func (t *table) row(claim, format string, values ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, fmt.Sprintf("%s\t%s", claim, fmt.Sprintf(format, values...)))
}

// bound adds a time that has a bound, and fails the test beyond ten times of it.
func (t *table) bound(test *testing.T, claim, what string, took, bound time.Duration) {
	test.Helper()
	verdict := "within"
	if took > bound {
		verdict = "BEYOND"
	}
	t.row(claim, "%s: %v, %s the bound of %v", what, took.Round(time.Millisecond), verdict, bound)
	if took > 10*bound {
		test.Errorf("%s: %v is more than ten times the bound of %v", what, took, bound)
	}
}

func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintln(w, "| "+row)
	}
	w.Flush()
	return text.String()
}
