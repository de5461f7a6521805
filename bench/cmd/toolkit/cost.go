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

// compare has two ways take turns and prints what the second costs next to the
// first: over all turns, and of each pair of turns the lowest and the highest.
// prepare comes before each turn and is not measured.
func (r *run) compare(what string, prepare func() error, direct, toolkit way) error {
	var sum [2]cost
	var ratios []float64
	for round := range r.rounds + 1 {
		var pair [2]float64
		for i, w := range [2]way{direct, toolkit} {
			err := prepare()
			var c cost
			if err == nil {
				c, err = r.turn(w, i == 1 && round > 0)
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", what, [2]string{"direct", "toolkit"}[i], err)
			}
			if round == 0 { // everything is touched for the first time
				continue
			}
			pair[i] = c.perMessage()
			sum[i].messages += c.messages
			sum[i].cpu += c.cpu
		}
		if round > 0 {
			ratios = append(ratios, pair[1]/pair[0])
		}
	}
	slices.Sort(ratios)
	a, b := sum[0].perMessage(), sum[1].perMessage()
	r.row(what, fmt.Sprintf("%.2f µs, directly %.2f µs: %+.0f %% (%+.0f to %+.0f)", b/1000, a/1000,
		percent(b/a), percent(ratios[0]), percent(ratios[len(ratios)-1])), "at most +25 %")
	return nil
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
