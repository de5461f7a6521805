package benchsuite

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/loadgen"
)

// spread is the median of some rounds, with the lowest and the highest.
type spread struct {
	median, low, high float64
	n                 int
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (mid + v[len(v)/2-1]) / 2
	}
	return spread{mid, v[0], v[len(v)-1], len(v)}
}

// results are the records of one row and one broker.
type results struct {
	row    *Row
	broker string
	runs   []Record
}

// each collects a value of every run that did not fail.
func (r *results) each(variant string, value func(rep *loadgen.Report) (float64, bool)) spread {
	var list []float64
	for i := range r.runs {
		run := &r.runs[i]
		if run.Error != "" || run.Report == nil || variant != "" && run.Variant != variant {
			continue
		}
		if v, ok := value(run.Report); ok {
			list = append(list, v)
		}
	}
	return spreadOf(list)
}

// value is what the row compares, of one report.
func (m metric) value(rep *loadgen.Report) (float64, bool) {
	switch m {
	case metricRate:
		return min(rep.PublishRate, rep.ReceiveRate), true
	case metricIn, metricChange:
		return rep.PublishRate, true
	case metricOut:
		return rep.ReceiveRate, true
	case metricEachWay:
		return (rep.PublishRate + rep.ReceiveRate) / 2, true
	case metricOps:
		return rep.OperationRate, true
	case metricLatency:
		if rep.DeliveryLatency == nil {
			return 0, false
		}
		return rep.DeliveryLatency.P99, true
	case metricMemory:
		if rep.Broker == nil || rep.Messages() == 0 {
			return 0, false
		}
		return float64(rep.Broker.RSSSettled-rep.Broker.RSSBefore) / float64(rep.Messages()), true
	case metricGrowth:
		return growth(rep.Samples)
	}
	return 0, false
}

// growth is the highest resident memory in the second half of a run against that of
// the first: what is collected now and then goes up and down, its peaks do not.
func growth(samples []loadgen.Sample) (float64, bool) {
	var rss []int64
	for i := range samples {
		if s := &samples[i]; !s.Warmup && s.RSS > 0 {
			rss = append(rss, s.RSS)
		}
	}
	half := len(rss) / 2
	if half == 0 {
		return 0, false
	}
	return float64(slices.Max(rss[half:]))/float64(slices.Max(rss[:half])) - 1, true
}

// compares says whether a row has a load with something and one without.
func (r *Row) compares() bool { return len(r.Loads) > 1 }

// figure is what the table shows of a row and a broker.
func (r *results) figure() spread {
	if !r.row.compares() {
		return r.each("", r.row.kind.value)
	}
	// By rounds: both runs of a round had the same machine.
	var changes []float64
	without := map[int]float64{}
	for i := range r.runs {
		run := &r.runs[i]
		if run.Error == "" && run.Variant == "without" {
			without[run.Round], _ = r.row.kind.value(run.Report)
		}
	}
	for i := range r.runs {
		run := &r.runs[i]
		if base := without[run.Round]; run.Error == "" && run.Variant == "with" && base > 0 {
			v, _ := r.row.kind.value(run.Report)
			changes = append(changes, v/base-1)
		}
	}
	return spreadOf(changes)
}

// text is the figure for people.
func (r *results) text() string {
	s := r.figure()
	if s.n == 0 {
		if slices.ContainsFunc(r.runs, func(run Record) bool { return run.Error == "" }) {
			return "not measured"
		}
		return "failed"
	}
	format := func(v float64) string { return short(v) + "/s" }
	switch r.row.kind {
	case metricLatency:
		p50 := r.each("", func(rep *loadgen.Report) (float64, bool) { return rep.DeliveryLatency.P50, true })
		return fmt.Sprintf("p50 %s, p99 %s ms", short(p50.median), short(s.median))
	case metricMemory:
		format = bytesText
	case metricChange, metricEachWay, metricGrowth:
		format = percentText
	}
	if s.n == 1 || s.low == s.high {
		return format(s.median)
	}
	return fmt.Sprintf("%s (%s to %s)", format(s.median), short2(r.row.kind, s.low), short2(r.row.kind, s.high))
}

// short2 is an end of a spread, without its unit where it is clear.
func short2(m metric, v float64) string {
	switch m {
	case metricChange, metricEachWay, metricGrowth:
		return strings.TrimSuffix(percentText(v), " %")
	case metricMemory:
		return bytesText(v)
	}
	return short(v)
}

// percentText is a change: 0.05 is +5 %. What rounds to nothing has no sign.
func percentText(v float64) string {
	switch p := math.Round(v * 100); {
	case p > 0:
		return fmt.Sprintf("+%.0f %%", p)
	case p < 0:
		return fmt.Sprintf("−%.0f %%", -p)
	}
	return "0 %"
}

// bytesText is memory: 20.8 B, 17.7 KB.
func bytesText(v float64) string {
	if v < 1000 {
		return short(v) + " B"
	}
	return short(v/1000) + " KB"
}

// cpu is the broker's processor time per million messages; ok is false where it
// was not measured or says nothing.
func (r *results) cpu() (spread, bool) {
	s := r.each("", func(rep *loadgen.Report) (float64, bool) {
		if rep.Broker == nil {
			return 0, false
		}
		return rep.Broker.CPUPerMillion, true
	})
	// A broker that takes in twenty times what it hands out has no cost of a message.
	return s, s.n > 0 && !r.row.compares() && r.row.kind != metricGrowth
}

// resident is the most memory that the broker's process had.
func (r *results) resident() (spread, bool) {
	s := r.each("", func(rep *loadgen.Report) (float64, bool) {
		if rep.Broker == nil {
			return 0, false
		}
		return float64(rep.Broker.RSSMax), true
	})
	return s, s.n > 0
}

// isRate says whether more is better, and twice as much twice as good.
func (m metric) isRate() bool {
	return m == metricRate || m == metricIn || m == metricOut || m == metricOps
}

// matrix is all records, by row and broker.
type matrix struct {
	rows    []Row // those with records
	brokers []string
	cells   map[string]*results // by row name and broker
	records []Record
}

// arrange sorts records into a matrix. Rows that this program does not know are an
// error: their figures would be left out without a word.
func arrange(records []Record) (*matrix, error) {
	m := &matrix{cells: map[string]*results{}, records: records}
	known := map[string]*Row{}
	all := Rows()
	for i := range all {
		known[all[i].Name] = &all[i]
	}
	order := map[string]int{}
	seen := map[string]bool{}
	for _, r := range records {
		row := known[r.Row]
		if row == nil {
			return nil, fmt.Errorf("there is no row %q in the matrix; were the runs recorded by another version?", r.Row)
		}
		seen[r.Row] = true
		if _, ok := order[r.Broker]; !ok {
			order[r.Broker] = r.Order
			m.brokers = append(m.brokers, r.Broker)
		}
		key := r.Row + "\x00" + r.Broker
		if m.cells[key] == nil {
			m.cells[key] = &results{row: row, broker: r.Broker}
		}
		m.cells[key].runs = append(m.cells[key].runs, r)
	}
	slices.SortStableFunc(m.brokers, func(a, b string) int { return cmp.Compare(order[a], order[b]) })
	for _, r := range all {
		if seen[r.Name] {
			m.rows = append(m.rows, r)
		}
	}
	return m, nil
}

// cell is nil where there are no records.
func (m *matrix) cell(row *Row, broker string) *results { return m.cells[row.Name+"\x00"+broker] }

// short writes a number with about three digits: 0.0571, 2.35, 24.1, 357, 41.2 k,
// 3.82 M.
func short(v float64) string {
	sign := ""
	if v < 0 {
		sign, v = "-", -v
	}
	unit := ""
	switch {
	case v >= 999_500:
		v, unit = v/1e6, " M"
	case v >= 9_995:
		v, unit = v/1e3, " k"
	}
	digits := 0
	switch {
	case v == 0 || v >= 99.95 && unit == "" || v >= 99.95:
	case v >= 9.995:
		digits = 1
	case v >= 0.995:
		digits = 2
	default:
		digits = 2 - int(math.Floor(math.Log10(v))) - 1
		digits = min(digits, 6)
	}
	return sign + strconv.FormatFloat(v, 'f', digits, 64) + unit
}
