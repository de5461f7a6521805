package benchsuite

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures of the chart, in pixels.
const (
	chartWidth  = 960
	chartLeft   = 250
	chartRight  = 90
	barHeight   = 12
	groupGap    = 10
	chartTop    = 56
	chartBottom = 34
)

// barColors are told apart by people who do not see all colors.
var barColors = [...]string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"}

// Chart is an SVG with the rates of all rows that have one, on a logarithmic
// scale, made of nothing but the records.
func Chart(records []Record) (string, error) {
	m, err := arrange(records)
	if err != nil {
		return "", err
	}
	type bar struct {
		broker int
		s      spread
	}
	type group struct {
		name string
		bars []bar
	}
	var groups []group
	low, high := math.Inf(1), 0.0
	for i := range m.rows {
		row := &m.rows[i]
		if !row.kind.isRate() {
			continue
		}
		g := group{name: row.Name}
		for n, broker := range m.brokers {
			if c := m.cell(row, broker); c != nil {
				if s := c.figure(); s.n > 0 && s.median > 0 {
					g.bars = append(g.bars, bar{n, s})
					low, high = min(low, s.median), max(high, s.high)
				}
			}
		}
		if len(g.bars) > 0 {
			groups = append(groups, g)
		}
	}
	from, to := 0.0, 1.0
	if len(groups) > 0 {
		from, to = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
		if from == to {
			to++
		}
	}
	x := func(v float64) float64 {
		return chartLeft + (math.Log10(max(v, math.Pow(10, from)))-from)/(to-from)*(chartWidth-chartLeft-chartRight)
	}
	height := chartTop + chartBottom
	for _, g := range groups {
		height += len(g.bars)*barHeight + groupGap
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	fmt.Fprintf(&b, `<text x="10" y="18" font-size="14">Messages per second (operations for churn), medians and spread, logarithmic</text>`+"\n")
	at := 10
	for i, broker := range m.brokers {
		fmt.Fprintf(&b, `<rect x="%d" y="28" width="12" height="12" fill="%s"/><text x="%d" y="38">%s</text>`+"\n", at, barColors[i%len(barColors)], at+17, html.EscapeString(broker))
		at += 40 + 7*len(broker)
	}
	for e := from; e <= to; e++ {
		v := math.Pow(10, e)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x(v), chartTop-6, x(v), height-chartBottom, x(v), height-chartBottom+16, wanted(v))
	}
	y := chartTop
	for _, g := range groups {
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", chartLeft-8, y+len(g.bars)*barHeight/2+4, html.EscapeString(g.name))
		for _, bar := range g.bars {
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, chartLeft, y+1, x(bar.s.median)-chartLeft, barHeight-2, barColors[bar.broker%len(barColors)])
			fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#000000"/>`, x(bar.s.low), y+barHeight/2, x(bar.s.high), y+barHeight/2)
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" font-size="10">%s</text>`+"\n", x(bar.s.high)+5, y+barHeight-2, short(bar.s.median))
			y += barHeight
		}
		y += groupGap
	}
	b.WriteString("</svg>\n")
	return b.String(), nil
}
