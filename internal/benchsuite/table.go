package benchsuite

import (
	"fmt"
	"slices"
	"strings"

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
	var length []string
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
			if d := r.Load.Duration.String(); !slices.Contains(length, d) {
				length = append(length, d)
			}
		}
	}
	when := first.Format("2006-01-02 15:04")
	if last.Sub(first) > 0 {
		when += " to " + last.Format("2006-01-02 15:04") + " UTC"
	}
	where := fmt.Sprintf("%s/%s", m.machine.OS, m.machine.Arch)
	if m.machine.Kernel != "" {
		where += " " + m.machine.Kernel
	}
	if m.machine.CPU != "" {
		where = m.machine.CPU + ", " + where
	}
	text := fmt.Sprintf("Measured %s on %d CPUs (%s); up to %d rounds", when, m.machine.CPUs, where, rounds)
	if len(length) > 0 {
		slices.Sort(length)
		text += " of " + strings.Join(length, " or ")
	}
	if g := m.machine.Generator; g != "" {
		text += "; load from commit " + g
	}
	return text + ".\n\n"
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
	a, b := m.cell(row, m.brokers[0]), m.cell(row, other)
	if a == nil || b == nil || !row.kind.isRate() {
		return ""
	}
	x, y := a.figure(), b.figure()
	if x.n == 0 || y.n == 0 || y.median == 0 {
		return ""
	}
	return short(x.median / y.median)
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
	if own := m.ownCost(); own != "" {
		list = append(list, own)
	}
	for i, note := range list {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "- %s\n", note)
	}
}

// diskNote compares with the disk itself, round by round.
func (r *results) diskNote() string {
	var syncs, shares []float64
	for i := range r.runs {
		run := &r.runs[i]
		if run.Error != "" || run.Syncs == 0 {
			continue
		}
		v, _ := r.row.kind.value(run.Report)
		syncs = append(syncs, run.Syncs)
		shares = append(shares, v/run.Syncs)
	}
	s, share := spreadOf(syncs), spreadOf(shares)
	return fmt.Sprintf("%s, %s: raw fdatasync of 4 KiB, measured just before each run: %s/s (%s to %s); confirms per fdatasync of the disk: %.2f (%.2f to %.2f)",
		r.row.Name, r.broker, short(s.median), short(s.low), short(s.high), share.median, share.low, share.high)
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
