package benchsuite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/loadgen"
)

// The broker that the goals are for, and the one that its rates are compared with,
// by the beginning of what they call themselves.
const (
	goalsAreFor = "WarrenMQ"
	rival       = "RabbitMQ"
)

// quantity is what a limit is about. All of them are judged by the median of the
// rounds.
type quantity int

const (
	minRate      quantity = iota // per second
	minTimes                     // the rival's rate, in the same records
	minDisk                      // of the raw fdatasync rate
	maxCPU                       // seconds of the broker per million messages
	maxClientCPU                 // seconds of the load per million messages
	maxP50                       // milliseconds to delivery
	maxP99                       // milliseconds to delivery
	maxBytes                     // of memory, for each message or connection
	maxFall                      // of a rate against another: 0.1 is a tenth
	maxGrowth                    // of memory, the same
)

// limit is one thing that is wanted.
type limit struct {
	of   quantity
	want float64
}

// goal is what is wanted of a row: what is required, and what goes beyond that.
type goal struct {
	required, stretch []limit
}

// goals are those of this project, for a machine with two processors that broker
// and load share. A row without one is there to compare.
func goals() map[string]goal {
	must := func(l ...limit) goal { return goal{required: l} }
	try := func(l ...limit) goal { return goal{stretch: l} }
	return map[string]goal{
		"memory-1M":  must(limit{maxBytes, 24}),
		"idle-10000": must(limit{maxBytes, 30_000}),

		"transient-16B":   must(limit{maxCPU, 0.6}, limit{minRate, 400e3}),
		"transient-1KB":   must(limit{maxCPU, 2.7}),
		"persistent-16B":  {[]limit{{maxCPU, 1.2}}, []limit{{minRate, 350e3}}},
		"confirm-1":       {[]limit{{minDisk, 0.5}}, []limit{{minDisk, 0.6}, {minTimes, 5}}},
		"window-256":      {[]limit{{maxCPU, 6}, {minTimes, 7}}, []limit{{minTimes, 8}}},
		"window-5000":     {[]limit{{maxCPU, 4.5}, {minTimes, 7}}, []limit{{minTimes, 9}}},
		"window-1000-16B": {[]limit{{maxCPU, 2.3}, {minTimes, 7}}, []limit{{minTimes, 10}}},
		"window-100-64KB": {[]limit{{maxCPU, 170}, {minTimes, 1.6}}, []limit{{minTimes, 2}}},
		"fan-in-20":       {[]limit{{maxCPU, 50}, {minTimes, 3}}, []limit{{maxCPU, 40}, {minTimes, 6}}},
		"queues-100":      {[]limit{{maxCPU, 22}, {minTimes, 8}}, []limit{{maxCPU, 20}, {minTimes, 10}}},
		"latency-5k":      must(limit{maxP50, 1}, limit{maxP99, 4}),

		"batched-16B":             must(limit{minRate, 2e6}, limit{maxCPU, 0.45}, limit{maxClientCPU, 0.3}),
		"batched-1KB":             must(limit{minRate, 500e3}),
		"batched-window-5000":     must(limit{minRate, 350e3}),
		"batched-window-1000-16B": must(limit{minRate, 600e3}),

		"fan-out-10": try(limit{minTimes, 8}), "priority": try(limit{minTimes, 8}), "ttl": try(limit{minTimes, 8}),
		"tx-10": try(limit{minTimes, 8}), "get": try(limit{minTimes, 8}),
		"churn-connections": try(limit{minTimes, 10}), "churn-channels": try(limit{minTimes, 10}),

		"backlog-1M":    must(limit{maxFall, 0.1}),
		"slow-consumer": must(limit{maxGrowth, 0.1}),
		"deaf-consumer": must(limit{maxFall, 0.1}),
		// Not slower at all, but for what one and the same load differs by.
		"publishers-4": must(limit{maxFall, 0.05}),
	}
}

// text is a limit for people.
func (l limit) text() string {
	switch l.of {
	case minRate:
		return "≥ " + wanted(l.want) + "/s"
	case minTimes:
		return fmt.Sprintf("≥ %s × %s", number(l.want), rival)
	case minDisk:
		return fmt.Sprintf("≥ %s of fdatasync", number(l.want))
	case maxCPU:
		return "cpu/M ≤ " + number(l.want)
	case maxClientCPU:
		return "load's cpu/M ≤ " + number(l.want)
	case maxP50:
		return "p50 ≤ " + number(l.want) + " ms"
	case maxP99:
		return "p99 ≤ " + number(l.want) + " ms"
	case maxBytes:
		if l.want >= 1000 {
			return "≤ " + number(l.want/1000) + " KB"
		}
		return "≤ " + number(l.want) + " B"
	case maxFall:
		return fmt.Sprintf("≥ −%s %%", number(l.want*100))
	case maxGrowth:
		return fmt.Sprintf("≤ +%s %%", number(l.want*100))
	}
	return ""
}

// valueText is a figure that misses a limit.
func (l limit) valueText(v float64) string {
	switch l.of {
	case minRate:
		return short(v) + "/s"
	case minTimes:
		return fmt.Sprintf("%s × %s", short(v), rival)
	case minDisk:
		return short(v) + " of fdatasync"
	case maxCPU:
		return "cpu/M " + short(v)
	case maxClientCPU:
		return "load's cpu/M " + short(v)
	case maxP50:
		return "p50 " + short(v) + " ms"
	case maxP99:
		return "p99 " + short(v) + " ms"
	case maxBytes:
		return bytesText(v)
	case maxFall, maxGrowth:
		return percentText(v)
	}
	return ""
}

// met compares a figure with the limit.
func (l limit) met(v float64) bool {
	switch l.of {
	case minRate, minTimes, minDisk:
		return v >= l.want
	case maxFall:
		return v >= -l.want
	}
	return v <= l.want
}

// number writes what was written as a constant: 0.6, 7, 1.6.
func number(v float64) string { return fmt.Sprintf("%g", v) }

// wanted is number for rates: 400 k, 2 M.
func wanted(v float64) string {
	switch {
	case v >= 1e6:
		return number(v/1e6) + " M"
	case v >= 1e3:
		return number(v/1e3) + " k"
	}
	return number(v)
}

// measured is the figure that a limit is about; ok is false where the records do
// not have it.
func (m *matrix) measured(row *Row, l limit) (v float64, ok bool) {
	c := m.cell(row, m.brokers[0])
	if c == nil {
		return 0, false
	}
	var s spread
	switch l.of {
	case minTimes:
		return m.rivalTimes(row)
	case minDisk:
		_, s = c.diskShare()
	case maxCPU:
		s, _ = c.cpu()
	case maxClientCPU:
		s = c.each("", func(rep *loadgen.Report) (float64, bool) { return rep.ClientCPUPerMillion, rep.ClientCPUPerMillion > 0 })
	case maxP50:
		s = c.each("", func(rep *loadgen.Report) (float64, bool) {
			if rep.DeliveryLatency == nil {
				return 0, false
			}
			return rep.DeliveryLatency.P50, true
		})
	default:
		s = c.figure()
	}
	return s.median, s.n > 0
}

// rivalTimes is how often the rival's rate goes into that of the first broker.
func (m *matrix) rivalTimes(row *Row) (v float64, ok bool) {
	for _, other := range m.others() {
		if strings.HasPrefix(other, rival) {
			return m.ratio(row, other)
		}
	}
	return 0, false
}

// hasGoals says whether the table is one that the goals are for.
func (m *matrix) hasGoals() bool { return strings.HasPrefix(m.brokers[0], goalsAreFor) }

// goalCells are what is required of a row, what is wanted beyond that, and what
// of it is there.
func (m *matrix) goalCells(row *Row) (required, stretch, verdict string) {
	g := goals()[row.Name]
	if len(g.required)+len(g.stretch) == 0 {
		return "", "", ""
	}
	mustMiss, mustOpen := m.misses(row, g.required)
	tryMiss, tryOpen := m.misses(row, g.stretch)
	open := append(mustOpen, tryOpen...)
	var parts []string
	switch {
	case len(mustMiss) > 0:
		all := append(mustMiss, tryMiss...)
		slices.Sort(all) // a figure may miss both what is required and what is wanted
		parts = append(parts, "**no**: "+strings.Join(slices.Compact(all), "; "))
	case len(tryMiss) > 0 && len(g.required) > 0:
		parts = append(parts, "required yes, goal **no**: "+strings.Join(tryMiss, "; "))
	case len(tryMiss) > 0:
		parts = append(parts, "goal **no**: "+strings.Join(tryMiss, "; "))
	case len(open) == 0:
		parts = append(parts, "yes")
	}
	if len(open) > 0 {
		parts = append(parts, "not measured: "+strings.Join(open, "; "))
	}
	return limitTexts(g.required), limitTexts(g.stretch), strings.Join(parts, "; ")
}

// misses are the figures that do not keep to a limit, and the limits without a
// figure.
func (m *matrix) misses(row *Row, limits []limit) (missed, open []string) {
	for _, l := range limits {
		v, ok := m.measured(row, l)
		switch {
		case !ok:
			open = append(open, l.text())
		case !l.met(v):
			missed = append(missed, l.valueText(v))
		}
	}
	return missed, open
}

func limitTexts(limits []limit) string {
	var parts []string
	for _, l := range limits {
		parts = append(parts, l.text())
	}
	return strings.Join(parts, "; ")
}

// verdicts counts the rows whose requirements are met, and those that have some.
func (m *matrix) verdicts() (met, all int) {
	for i := range m.rows {
		g := goals()[m.rows[i].Name]
		if len(g.required) == 0 {
			continue
		}
		all++
		if missed, open := m.misses(&m.rows[i], g.required); len(missed)+len(open) == 0 {
			met++
		}
	}
	return met, all
}
