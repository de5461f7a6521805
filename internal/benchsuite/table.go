package benchsuite

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
)

// Table is the matrix in Markdown, made of nothing but the records.
func Table(records []Record) (string, error) {
	m, err := arrange(records)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(m.heading())
	m.main(&b)
	m.latencies(&b)
	m.notes(&b)
	return b.String(), nil
}

// heading says where, when and how long.
func (m *matrix) heading() string {
	first, last := m.records[0].Started, m.records[0].Started
	rounds := 0
	var lengths, machines, generators, commits []string
	note := func(list *[]string, text string) {
		if text != "" && !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	for i := range m.records {
		r := &m.records[i]
		if r.Started.Before(first) {
			first = r.Started
		}
		if r.Started.After(last) {
			last = r.Started
		}
		rounds = max(rounds, r.Round)
		if r.Load != nil && r.Load.Duration > 0 {
			note(&lengths, r.Load.Duration.String())
		}
		note(&machines, r.Machine.text())
		note(&generators, r.Machine.Generator)
		if r.Commit != "" {
			note(&commits, r.Broker+" from "+r.Commit)
		}
	}
	when := first.Format("2006-01-02 15:04")
	if last.Sub(first) > 0 {
		when += " to " + last.Format("2006-01-02 15:04") + " UTC"
	}
	text := fmt.Sprintf("Measured %s on %s; up to %d rounds", when, strings.Join(machines, ", and on "), rounds)
	for _, part := range []struct {
		before string
		list   []string
	}{{" of ", lengths}, {"; load from commit ", generators}, {"; ", commits}} {
		if len(part.list) > 0 {
			slices.Sort(part.list)
			text += part.before + strings.Join(part.list, " or ")
		}
	}
	return text + ".\n\n"
}

// text is a machine for people.
func (m *Machine) text() string {
	where := fmt.Sprintf("%s/%s", m.OS, m.Arch)
	if m.Kernel != "" {
		where += " " + m.Kernel
	}
	if m.CPU != "" {
		where = m.CPU + ", " + where
	}
	return fmt.Sprintf("%d CPUs (%s)", m.CPUs, where)
}

// main is the table of all rows.
func (m *matrix) main(b *strings.Builder) {
	processes := false
	for i := range m.records {
		processes = processes || m.records[i].Report != nil && m.records[i].Report.Broker != nil
	}
	head, line := "| scenario |", "|---|"
	for _, broker := range m.brokers {
		head += " " + cellText(broker) + " |"
		line += "---|"
		if processes {
			head += " cpu/M | MB |"
			line += "---|---|"
		}
	}
	for _, other := range m.others() {
		head += " times " + cellText(other) + " |"
		line += "---|"
	}
	if m.hasGoals() {
		head += " required | goal | met |"
		line += "---|---|---|"
	}
	fmt.Fprintf(b, "%s\n%s\n", head, line)
	for i := range m.rows {
		row := &m.rows[i]
		fmt.Fprintf(b, "| %s |", row.Title)
		for _, broker := range m.brokers {
			c := m.cell(row, broker)
			if c == nil {
				b.WriteString(" |")
				if processes {
					b.WriteString(" | |")
				}
				continue
			}
			fmt.Fprintf(b, " %s |", c.text())
			if processes {
				fmt.Fprintf(b, " %s | %s |", optional(c.cpu())(1), optional(c.resident())(1e6))
			}
		}
		for _, other := range m.others() {
			fmt.Fprintf(b, " %s |", m.times(row, other))
		}
		if m.hasGoals() {
			required, stretch, verdict := m.goalCells(row)
			fmt.Fprintf(b, " %s | %s | %s |", required, stretch, verdict)
		}
		b.WriteString("\n")
	}
}

// cellText keeps a broker's own name from being taken for the end of a cell.
func cellText(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// others are the brokers that the first one is compared with.
func (m *matrix) others() []string { return m.brokers[1:] }

// optional writes a median that may be missing.
func optional(s spread, ok bool) func(divisor float64) string {
	return func(divisor float64) string {
		if !ok {
			return ""
		}
		return short(s.median / divisor)
	}
}

// times is how often a broker's rate goes into that of the first one.
func (m *matrix) times(row *Row, other string) string {
	if v, ok := m.ratio(row, other); ok {
		return short(v)
	}
	return ""
}

// ratio is times as a number; ok is false for rows that are not about a rate, and
// where one of the two was not measured.
func (m *matrix) ratio(row *Row, other string) (v float64, ok bool) {
	a, b := m.cell(row, m.brokers[0]), m.cell(row, other)
	if a == nil || b == nil || !row.kind.isRate() {
		return 0, false
	}
	x, y := a.figure(), b.figure()
	if x.n == 0 || y.n == 0 || y.median == 0 {
		return 0, false
	}
	return x.median / y.median, true
}

// latencies is a table of the rows with a rate, in full.
func (m *matrix) latencies(b *strings.Builder) {
	first := true
	for i := range m.rows {
		row := &m.rows[i]
		if row.kind != metricLatency {
			continue
		}
		for _, broker := range m.brokers {
			c := m.cell(row, broker)
			if c == nil {
				continue
			}
			for _, to := range []struct {
				name string
				of   func(*loadgen.Report) *loadgen.Latency
			}{
				{"confirm", func(r *loadgen.Report) *loadgen.Latency { return r.ConfirmLatency }},
				{"delivery", func(r *loadgen.Report) *loadgen.Latency { return r.DeliveryLatency }},
			} {
				if first {
					b.WriteString("\n| latency in ms | to | p50 | p95 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|\n")
					first = false
				}
				fmt.Fprintf(b, "| %s, %s | %s |", row.Name, cellText(broker), to.name)
				for _, p := range []func(*loadgen.Latency) float64{
					func(l *loadgen.Latency) float64 { return l.P50 }, func(l *loadgen.Latency) float64 { return l.P95 }, func(l *loadgen.Latency) float64 { return l.P99 },
					func(l *loadgen.Latency) float64 { return l.P999 }, func(l *loadgen.Latency) float64 { return l.Max },
				} {
					s := c.each("", func(r *loadgen.Report) (float64, bool) {
						l := to.of(r)
						if l == nil {
							return 0, false
						}
						return p(l), true
					})
					fmt.Fprintf(b, " %s |", optional(s, s.n > 0)(1))
				}
				b.WriteString("\n")
			}
		}
	}
}

// notes are what the table does not say.
func (m *matrix) notes(b *strings.Builder) {
	var list []string
	for i := range m.rows {
		row := &m.rows[i]
		for _, broker := range m.brokers {
			c := m.cell(row, broker)
			if c == nil {
				continue
			}
			if row.disk {
				list = append(list, c.diskNote())
			}
			stalled, blocked, single := 0, 0, 0
			for _, r := range c.runs {
				if r.Error != "" {
					list = append(list, fmt.Sprintf("%s, %s, round %d failed: %s", row.Name, broker, r.Round, r.Error))
				}
				if r.Report != nil {
					stalled += r.Report.StalledSeconds
					blocked += r.Report.BlockedSeconds
					single += r.Report.StalledWorkerSeconds
				}
			}
			if stalled+blocked+single > 0 {
				list = append(list, fmt.Sprintf("%s, %s: stood still for %d s in all rounds, single publishers and consumers for %d s in sum; blocked its publishers for %d s", row.Name, broker, stalled, single, blocked))
			}
		}
	}
	list = append(list, m.unlike()...)
	if own := m.ownCost(); own != "" {
		list = append(list, own)
	}
	if m.hasGoals() {
		if met, all := m.verdicts(); all > 0 {
			list = append(list, fmt.Sprintf("All that is required is met in %d of the %s that require something", met, countOf(all, "row")))
		}
	}
	for i, note := range list {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "- %s\n", note)
	}
}

// unlike names rows that were not recorded as most are: fewer rounds, or shorter runs.
func (m *matrix) unlike() (list []string) {
	type manner struct {
		length time.Duration
		rounds int
	}
	of := func(row *Row) (w manner) {
		for i := range m.records {
			r := &m.records[i]
			if r.Row == row.Name {
				w.rounds = max(w.rounds, r.Round)
				if r.Load != nil {
					w.length = r.Load.Duration
				}
			}
		}
		return w
	}
	var usual manner
	votes := map[manner]int{}
	for i := range m.rows {
		row := &m.rows[i]
		if row.once || row.Loads[0].load == nil {
			continue
		}
		w := of(row)
		if votes[w]++; votes[w] > votes[usual] {
			usual = w
		}
	}
	for i := range m.rows {
		row := &m.rows[i]
		w := of(row)
		if row.once || w.rounds == usual.rounds && (row.Loads[0].load == nil || w.length == usual.length) {
			continue
		}
		text := fmt.Sprintf("%s: recorded in %s", row.Name, countOf(w.rounds, "round"))
		if row.Loads[0].load != nil {
			text += fmt.Sprintf(" of %s", w.length)
		}
		list = append(list, text)
	}
	return list
}

// diskNote compares with the disk itself, round by round.
func (r *results) diskNote() string {
	s, share := r.diskShare()
	return fmt.Sprintf("%s, %s: raw fdatasync of 4 KiB, measured just before each run: %s/s (%s to %s); confirms per fdatasync of the disk: %.2f (%.2f to %.2f)",
		r.row.Name, r.broker, short(s.median), short(s.low), short(s.high), share.median, share.low, share.high)
}

// diskShare is how often the disk syncs by itself, and the part of that which the
// broker reached.
func (r *results) diskShare() (syncs, share spread) {
	var rates, shares []float64
	for i := range r.runs {
		run := &r.runs[i]
		if run.Error != "" || run.Syncs == 0 {
			continue
		}
		v, _ := r.row.kind.value(run.Report)
		rates = append(rates, run.Syncs)
		shares = append(shares, v/run.Syncs)
	}
	return spreadOf(rates), spreadOf(shares)
}

// ownCost is what the load itself takes where it is meant to take next to nothing.
func (m *matrix) ownCost() string {
	var parts []string
	for i := range m.rows {
		row := &m.rows[i]
		c := m.cell(row, m.brokers[0])
		if c == nil || !strings.HasPrefix(row.Name, "batched-") {
			continue
		}
		s := c.each("", func(r *loadgen.Report) (float64, bool) { return r.ClientCPUPerMillion, true })
		parts = append(parts, fmt.Sprintf("%s %s", row.Name, short(s.median)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "The load's own cpu/M against " + m.brokers[0] + ": " + strings.Join(parts, ", ")
}
