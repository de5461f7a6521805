package benchsuite

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
)

// TestGoals: every goal is one of a row and of a figure that this row has.
func TestGoals(t *testing.T) {
	rows := Rows()
	for name, g := range goals() {
		i := slices.IndexFunc(rows, func(r Row) bool { return r.Name == name })
		if i < 0 {
			t.Errorf("there is no row %q", name)
			continue
		}
		for _, l := range append(g.required, g.stretch...) {
			row := &rows[i]
			fits := true
			switch l.of {
			case minRate, minTimes:
				fits = row.kind.isRate()
			case minDisk:
				fits = row.disk
			case maxP50, maxP99:
				fits = row.kind == metricLatency
			case maxBytes:
				fits = row.kind == metricMemory
			case maxFall:
				fits = row.compares()
			case maxGrowth:
				fits = row.kind == metricGrowth
			}
			if !fits || l.text() == "" || l.valueText(1) == "" || l.want <= 0 {
				t.Errorf("%s: %q does not fit the row", name, l.text())
			}
		}
	}
	for _, row := range rows {
		if g := goals()[row.Name]; len(g.required)+len(g.stretch) == 0 {
			t.Errorf("row %s has no goal", row.Name)
		}
	}
}

// TestMet: the limit itself is met.
func TestMet(t *testing.T) {
	for _, c := range []struct {
		l         limit
		good, bad float64
	}{
		{limit{minRate, 400e3}, 400e3, 399e3}, {limit{minTimes, 7}, 7, 6.99}, {limit{minDisk, 0.5}, 0.5, 0.49},
		{limit{maxCPU, 0.6}, 0.6, 0.61}, {limit{maxP99, 4}, 4, 4.1}, {limit{maxBytes, 24}, 24, 25},
		{limit{maxFall, 0.1}, -0.1, -0.11}, {limit{maxFall, 0.1}, 3, -0.5}, {limit{maxGrowth, 0.1}, 0.1, 0.11}, {limit{maxGrowth, 0.1}, -0.5, 0.2},
	} {
		if !c.l.met(c.good) || c.l.met(c.bad) {
			t.Errorf("%s: %g should meet it and %g should not", c.l.text(), c.good, c.bad)
		}
	}
}

// TestVerdicts compares the cells about goals with ones made by hand.
func TestVerdicts(t *testing.T) {
	run := func(row, broker string, order int, change func(r *Record)) Record {
		r := made(row, "", broker, order, 1, 100_000, 100_000)
		if change != nil {
			change(&r)
		}
		return r
	}
	cpu := func(v float64) func(r *Record) { return func(r *Record) { r.Report.Broker.CPUPerMillion = v } }
	const ours, theirs = "WarrenMQ 1.0", "RabbitMQ 4.3.6"
	records := []Record{
		// Required yes, goal no: 7.5 times, where 7 are required and 8 wanted.
		run("window-256", ours, 1, cpu(5)), made("window-256", "", theirs, 2, 1, 100_000/7.5, 100_000/7.5),
		// Neither.
		run("window-5000", ours, 1, cpu(4.6)), made("window-5000", "", theirs, 2, 1, 50_000, 50_000),
		// All of it.
		run("transient-1KB", ours, 1, cpu(2.7)),
		// Without the other broker, nothing can be said about it.
		run("fan-in-20", ours, 1, cpu(39)),
		// Half the disk's rate, and that only.
		run("confirm-1", ours, 1, func(r *Record) { r.Syncs = 200_000 }), made("confirm-1", "", theirs, 2, 1, 10_000, 10_000),
		run("latency-5k", ours, 1, func(r *Record) { r.Report.DeliveryLatency = &loadgen.Latency{P50: 0.6, P99: 5.25} }),
		run("memory-1M", ours, 1, func(r *Record) { r.Report.Broker.RSSBefore, r.Report.Broker.RSSSettled = 20e6, 40.8e6 }),
		run("slow-consumer", ours, 1, func(r *Record) {
			for _, mb := range []int64{200, 60, 70, 65, 72} { // the first is of the warm-up
				r.Report.Samples = append(r.Report.Samples, loadgen.Sample{At: time.Second, RSS: mb * 1e6, Warmup: mb == 200})
			}
		}),
		made("backlog-1M", "without", ours, 1, 1, 1000, 1000), made("backlog-1M", "with", ours, 1, 1, 850, 850),
	}
	table, err := Table(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| cpu/M ≤ 6; ≥ 7 × RabbitMQ | ≥ 8 × RabbitMQ | required yes, goal **no**: 7.50 × RabbitMQ |",
		"| cpu/M ≤ 4.5; ≥ 7 × RabbitMQ | ≥ 9 × RabbitMQ | **no**: 2.00 × RabbitMQ; cpu/M 4.60 |",
		"| cpu/M ≤ 2.7 |  | yes |",
		"| cpu/M ≤ 50; ≥ 3 × RabbitMQ | cpu/M ≤ 40; ≥ 6 × RabbitMQ | not measured: ≥ 3 × RabbitMQ; ≥ 6 × RabbitMQ |",
		"| ≥ 0.5 of fdatasync | ≥ 0.6 of fdatasync; ≥ 5 × RabbitMQ | required yes, goal **no**: 0.50 of fdatasync |",
		"| p50 ≤ 1 ms; p99 ≤ 4 ms |  | **no**: p99 5.25 ms |",
		"| 20.8 B | 100 | 50.0 | | | |", "| ≤ 24 B |  | yes |",
		"| +3 % |", "| ≤ +10 % |  | yes |",
		"| −15 % |", "| ≥ −10 % |  | **no**: −15 % |",
		"- All that is required is met in 5 of the 9 rows that require something\n",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("nothing has %q in\n%s", want, table)
		}
	}
	// The goals are not those of other brokers.
	table, err = Table([]Record{made("window-256", "", theirs, 1, 1, 1, 1), made("window-256", "", ours, 2, 1, 1, 1)})
	if err != nil || strings.Contains(table, "required") {
		t.Errorf("%v\n%s", err, table)
	}
}

// TestNotMeasured: a figure that a run does not have is no failure of the run.
func TestNotMeasured(t *testing.T) {
	r := made("memory-1M", "", "A", 1, 1, 1000, 0)
	r.Report.Broker = nil
	table, err := Table([]Record{r})
	if err != nil || !strings.Contains(table, "| not measured |") || strings.Contains(table, "failed") {
		t.Errorf("%v\n%s", err, table)
	}
}
