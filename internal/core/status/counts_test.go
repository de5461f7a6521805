package status

import "testing"

func TestMeter(t *testing.T) {
	const second = int64(1_000_000_000)
	var m Meter
	for i, step := range []struct {
		at    int64
		value int64
		want  float64
	}{
		{0, 100, 0},              // the first look knows nothing
		{2 * second, 120, 10},    // since the first
		{2 * second, 120, 10},    // the same instant again
		{10 * second, 200, 10},   // since the first, which is replaced now
		{11 * second, 200, 9.09}, // the span before the last counts, too
		{16 * second, 260, 10},   // since 10
		{20 * second, 200, 0},    // since 10, where it was 200
	} {
		rates := []float64{0}
		m.Read(step.at, []int64{step.value}, rates)
		if d := rates[0] - step.want; d > 0.01 || d < -0.01 {
			t.Errorf("look %d: rate %v, want %v", i+1, rates[0], step.want)
		}
	}
}
