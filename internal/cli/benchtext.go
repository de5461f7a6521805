package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/loadgen"
)

// progressLine is one interval for people.
func progressLine(s *loadgen.Sample) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%5.0f s", s.At.Seconds())
	fmt.Fprintf(&b, "  in %s/s", thousands(int64(s.PublishRate)))
	if s.ConfirmRate > 0 {
		fmt.Fprintf(&b, "  confirmed %s/s", thousands(int64(s.ConfirmRate)))
	}
	fmt.Fprintf(&b, "  out %s/s", thousands(int64(s.ReceiveRate)))
	if l := s.Latency; l != nil {
		fmt.Fprintf(&b, "  latency p50 %s  p99 %s  max %s ms", millis(l.P50), millis(l.P99), millis(l.Max))
	}
	if s.RSS > 0 {
		fmt.Fprintf(&b, "  resident %.0f MB", float64(s.RSS)/1e6)
	}
	if s.Blocked {
		b.WriteString("  (publishers are blocked by the broker)")
	}
	if s.Warmup {
		b.WriteString("  (warm-up)")
	}
	return b.String()
}

// benchSummary is the result for people.
func benchSummary(c *loadgen.Config, r *loadgen.Report) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	ended := ""
	if r.Interrupted {
		ended = ", interrupted"
	}
	line("broker", "%s", r.Server)
	line("time", "%.2f s%s", r.Seconds, ended)
	if c.Producers > 0 {
		line("published", "%s", rateText(r.Published, r.Seconds))
		switch {
		case c.Confirm > 0:
			line("confirmed", "%s", rateText(r.Confirmed, r.Seconds))
		case c.TxSize > 0:
			line("committed", "%s", rateText(r.Confirmed, r.Seconds))
		}
		if r.Refused > 0 {
			line("refused", "%s", thousands(r.Refused))
		}
		if r.Returned > 0 {
			line("returned", "%s", thousands(r.Returned))
		}
	}
	if c.Consumers > 0 {
		line("received", "%s", rateText(r.Received, r.Seconds))
		if r.Empty > 0 {
			line("found empty", "%s", rateText(r.Empty, r.Seconds))
		}
	}
	for _, l := range []struct {
		name string
		l    *loadgen.Latency
	}{{"to confirm", r.ConfirmLatency}, {"to delivery", r.DeliveryLatency}} {
		if l.l != nil {
			line(l.name, "p50 %s  p95 %s  p99 %s  p99.9 %s  max %s ms", millis(l.l.P50), millis(l.l.P95), millis(l.l.P99), millis(l.l.P999), millis(l.l.Max))
		}
	}
	line("stalls", "%s", stallText(r))
	if r.ClientCPUPerMillion > 0 {
		line("client CPU", "%.3f s per million messages", r.ClientCPUPerMillion)
	}
	if u := r.Broker; u != nil {
		line("broker CPU", "%.3f s per million messages", u.CPUPerMillion)
		line("resident", "%.1f MB before, %.1f MB after, at most %.1f MB", float64(u.RSSBefore)/1e6, float64(u.RSSAfter)/1e6, float64(u.RSSMax)/1e6)
	}
	return b.String()
}

func stallText(r *loadgen.Report) string {
	var parts []string
	if r.StalledSeconds > 0 {
		parts = append(parts, fmt.Sprintf("nothing in or nothing out for %d s", r.StalledSeconds))
	}
	if n := r.StalledWorkerSeconds; n > 0 {
		parts = append(parts, fmt.Sprintf("single publishers or consumers stood still, for %d s in all", n))
	}
	if r.BlockedSeconds > 0 {
		parts = append(parts, fmt.Sprintf("blocked by the broker for %d s", r.BlockedSeconds))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, "; ")
}

func rateText(n int64, seconds float64) string {
	if seconds <= 0 {
		return thousands(n)
	}
	return fmt.Sprintf("%s, %s/s", thousands(n), thousands(int64(float64(n)/seconds)))
}

// millis has three digits that mean something.
func millis(ms float64) string {
	switch {
	case ms < 1:
		return strconv.FormatFloat(ms, 'f', 3, 64)
	case ms < 100:
		return strconv.FormatFloat(ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(ms, 'f', 0, 64)
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
