package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
)

// way is one of two ways to do the same. It handles messages until stop says
// that the time is up, which it asks after each, and returns how many.
type way func(stop func() bool) (int, error)

// cost is the processor time of a message.
type cost struct {
	messages int
	cpu      time.Duration
}

func (c cost) perMessage() float64 { return float64(c.cpu.Nanoseconds()) / float64(c.messages) }

// compare has two ways take turns and prints the medians: of what a message costs in
// a turn, and of the ratio in a pair of turns, with the lowest and the highest.
// prepare comes before each turn and is not measured.
func (r *run) compare(what string, prepare func() error, direct, toolkit way) error {
	var costs [2][]float64 // nanoseconds a message
	for round := range r.rounds + 1 {
		for i := range 2 {
			if round%2 == 1 { // each is the first of a pair as often as the other
				i = 1 - i
			}
			err := prepare()
			var c cost
			if err == nil {
				c, err = r.turn([2]way{direct, toolkit}[i], i == 1 && round > 0)
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", what, [2]string{"direct", "toolkit"}[i], err)
			}
			if round > 0 { // in the first everything is touched for the first time
				costs[i] = append(costs[i], c.perMessage())
			}
		}
	}
	ratios := make([]float64, r.rounds)
	for i := range ratios {
		ratios[i] = costs[1][i] / costs[0][i]
	}
	ratio, a, b := median(ratios), median(costs[0]), median(costs[1])
	r.row(what, fmt.Sprintf("%.2f µs, directly %.2f µs: %+.0f %% (%+.0f to %+.0f)", b/1000, a/1000,
		percent(ratio), percent(ratios[0]), percent(ratios[len(ratios)-1])), "at most +25 %")
	return nil
}

// median sorts the values.
func median(values []float64) float64 {
	slices.Sort(values)
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}

func percent(ratio float64) float64 { return math.Round((ratio - 1) * 100) }

// turn measures one way for a turn's time.
func (r *run) turn(w way, profile bool) (cost, error) {
	runtime.GC()
	if profile && r.profile != "" {
		f, err := os.Create(r.profile)
		if err != nil {
			return cost{}, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return cost{}, err
		}
		defer pprof.StopCPUProfile()
	}
	start, before := time.Now(), loadgen.OwnCPU()
	n := 0
	done, err := w(func() bool {
		n++
		return n%64 == 0 && time.Since(start) >= r.duration
	})
	return cost{messages: done, cpu: loadgen.OwnCPU() - before}, err
}
