package loadgen

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets that are at most 1/64 of their value
// wide, from 1 ns to 18 minutes; longer ones count as that. Any number of
// goroutines may record.
type histogram struct {
	buckets [histogramLen]atomic.Int64
}

const (
	subBits      = 6 // buckets of a power of two: 1 << subBits
	maxValueBits = 40
	histogramLen = (maxValueBits - subBits + 1) << subBits
)

// bucketOf is the bucket of a number of nanoseconds.
func bucketOf(ns int64) int {
	v := uint64(max(ns, 0))
	if v >= 1<<maxValueBits {
		v = 1<<maxValueBits - 1
	}
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) int64 {
	if i < 2<<subBits {
		return int64(i)
	}
	shift := i>>subBits - 1
	return int64(i-shift<<subBits+1)<<shift - 1
}

// record counts a duration n times.
func (h *histogram) record(ns int64, n int64) { h.buckets[bucketOf(ns)].Add(n) }

// counts is the state of a histogram at one time.
type counts [histogramLen]int64

func (h *histogram) snapshot(to *counts) {
	for i := range h.buckets {
		to[i] = h.buckets[i].Load()
	}
}

// minus takes away an earlier state.
func (c *counts) minus(earlier *counts) {
	for i := range c {
		c[i] -= earlier[i]
	}
}

// Latency is a distribution in milliseconds. Each value is at most 1/64 above
// what was measured.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

// latency is nil if nothing was counted.
func (c *counts) latency() *Latency {
	var total int64
	for _, n := range c {
		total += n
	}
	if total == 0 {
		return nil
	}
	at := func(perMille int64) float64 {
		// The smallest value that so many are not above.
		want, seen := (total*perMille+999)/1000, int64(0)
		for i, n := range c {
			if seen += n; seen >= want && n > 0 {
				return float64(bucketTop(i)) / float64(time.Millisecond)
			}
		}
		return 0
	}
	return &Latency{Count: total, P50: at(500), P95: at(950), P99: at(990), P999: at(999), Max: at(1000)}
}
