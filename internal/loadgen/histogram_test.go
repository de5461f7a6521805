package loadgen

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestBuckets: every value is in the bucket whose top is the next one at or
// above it, by at most 1/64.
func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Int64Range(0, 1<<maxValueBits-1).Draw(t, "ns")
		i := bucketOf(v)
		if top := bucketTop(i); top < v || float64(top-v) > float64(v)/64 {
			t.Fatalf("%d is in bucket %d, which ends at %d", v, i, top)
		}
		if i > 0 && bucketTop(i-1) >= v {
			t.Fatalf("%d is in bucket %d, but the one before ends at %d", v, i, bucketTop(i-1))
		}
	})
	for _, v := range []int64{1 << maxValueBits, math.MaxInt64} {
		if got := bucketOf(v); got != histogramLen-1 {
			t.Errorf("%d is in bucket %d", v, got)
		}
	}
	if bucketOf(-5) != 0 {
		t.Error("a negative duration must count as 0")
	}
}

// TestPercentiles compares with the definition on a thousand known values.
func TestPercentiles(t *testing.T) {
	h := &histogram{}
	for ms := int64(1); ms <= 1000; ms++ {
		h.record(ms*1e6, 1)
	}
	var before, after counts
	h.snapshot(&before)
	if l := before.latency(); l == nil || l.Count != 1000 || !near(l.P50, 500) || !near(l.P95, 950) || !near(l.P99, 990) || !near(l.P999, 999) || !near(l.Max, 1000) {
		t.Errorf("got %+v", l)
	}
	h.record(5e6, 3)
	h.snapshot(&after)
	after.minus(&before)
	if l := after.latency(); l == nil || l.Count != 3 || !near(l.P50, 5) || !near(l.Max, 5) {
		t.Errorf("the difference is %+v", l)
	}
	if (&counts{}).latency() != nil {
		t.Error("nothing must have no distribution")
	}
}

func near(got, want float64) bool { return got >= want && got <= want*65/64 }
