package demo

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// summaryEvent is the last line of --json, whatever happened.
type summaryEvent struct {
	Time      time.Time `json:"time"`
	Event     string    `json:"event"` // always "summary"
	OK        bool      `json:"ok"`
	Error     string    `json:"error,omitempty"`
	ElapsedMS int64     `json:"elapsedMs"`
	*Report
}

// summary closes the story: the table and whether the numbers add up. If the run
// was broken off there is no table, as half a story cannot add up; the caller
// shows the error.
func (n *narrator) summary(r *Report, err error) {
	if n.json {
		e := summaryEvent{Time: time.Now(), Event: "summary", OK: err == nil,
			ElapsedMS: r.Elapsed.Milliseconds(), Report: r}
		if err != nil {
			e.Error = err.Error()
		}
		n.emit(e)
		return
	}
	var mismatch *MismatchError
	if err != nil && !errors.As(err, &mismatch) {
		return
	}
	n.write("\n" + n.table(r) + "\n" + n.verdict(r))
}

// table shows every count of every step; zeros are left out to let the others
// stand out.
func (n *narrator) table(r *Report) string {
	var b strings.Builder
	head := fmt.Sprintf("%-24s", "step")
	for _, s := range r.Steps {
		head += fmt.Sprintf("%6d", s.Number)
	}
	b.WriteString(n.paint(bold, head+"   total") + "\n")
	for _, c := range counters() {
		if c.optional && c.of(r.Totals) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%-24s", c.name)
		for _, s := range r.Steps {
			fmt.Fprintf(&b, "%6s", number(c.of(s.Tally)))
		}
		fmt.Fprintf(&b, "%8d\n", c.of(r.Totals))
	}
	return b.String()
}

func number(n int) string {
	if n == 0 {
		return "."
	}
	return fmt.Sprint(n)
}

// verdict shows the equations over the whole run, then each mismatch.
func (n *narrator) verdict(r *Report) string {
	var b strings.Builder
	for _, eq := range balances() {
		b.WriteString(n.checkLine(eq.holds(r.Totals), eq.render(r.Totals)))
	}
	elapsed := fmt.Sprintf("%.1f s", r.Elapsed.Seconds())
	if len(r.Mismatches) == 0 {
		fmt.Fprintf(&b, "\n%s All numbers add up (%s).\n", n.paint(green, "Done."), elapsed)
		return b.String()
	}
	fmt.Fprintf(&b, "\n%s (%s):\n", n.paint(red, "The numbers do not add up"), elapsed)
	for _, m := range r.Mismatches {
		b.WriteString(wrap("   - ", fmt.Sprintf("step %d (%s): %s", m.Step, m.Name, m.Text)) + "\n")
	}
	return b.String()
}
