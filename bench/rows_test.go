package bench

import (
	"context"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/benchsuite"
	"github.com/warrenmq/warren/internal/loadgen"
)

// BenchmarkRow is each load of the matrix with b.N messages, broker and load in one
// process, for benchstat:
//
//	go test -run '^$' -bench Row/window-256 -benchtime 300000x -count 10 ./bench
//
// An operation is a message on its way in and out (or on its way in, where the row is
// about that). cpu-ns/op is the processor time of both sides.
func BenchmarkRow(b *testing.B) {
	for _, row := range benchsuite.Rows() {
		for _, l := range row.Counted() {
			name := row.Name
			if l.Name != "" {
				name += "/" + l.Name
			}
			b.Run(name, func(b *testing.B) { benchmarkLoad(b, l.Config(b.N)) })
		}
	}
}

func benchmarkLoad(b *testing.B, cfg loadgen.Config) {
	report(b, measured(b, target(listen(b, b.TempDir())), &cfg))
}

// report shows what benchstat compares.
func report(b *testing.B, rep *loadgen.Report) {
	n := float64(rep.Messages())
	if n == 0 {
		b.Fatalf("no messages: %+v", rep)
	}
	b.ReportMetric(rep.Seconds*1e9/n, "ns/op")
	b.ReportMetric(rep.ClientCPU*1e9/n, "cpu-ns/op")
	if l := rep.DeliveryLatency; l != nil {
		b.ReportMetric(l.P50, "p50-ms")
		b.ReportMetric(l.P99, "p99-ms")
	}
}

// TestRowsByCount: each load of the matrix ends by itself when it has a count instead
// of a duration, so that the benchmarks run.
func TestRowsByCount(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	const n = 400
	for _, row := range benchsuite.Rows() {
		for _, l := range row.Counted() {
			t.Run(row.Name+l.Name, func(t *testing.T) {
				cfg := l.Config(n)
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				rep, err := loadgen.Run(ctx, target(listen(t, t.TempDir())), &cfg)
				if err != nil || rep.Interrupted || rep.Messages() < n {
					t.Errorf("%+v: %+v, %v", cfg, rep, err)
				}
			})
		}
	}
}
