// Command figures measures what a durable broker does on this machine, with the
// built binary, and prints a table: rates, memory, and the time from a kill to
// the first message. What depends on the disk is given as a ratio to what the
// disk did in the same run.
//
//	go run ./bench/cmd/figures
//	go run ./bench/cmd/figures -only latency,window -seconds 10 -dir /mnt/disk
//
// It needs some 8 GB of disk for the time it runs.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/warrenmq/warren/bench/internal/turns"
)

// run is what the figures share.
type run struct {
	dir      string // for data directories and the raw file
	binary   string
	duration time.Duration // of a rate
	backlogs []int         // of 100 B, for memory and restart, ascending
	drain    int           // of 1 KB, for the drain rate
}

// figures in the order in which they run.
var figures = []turns.Figure[*run]{
	{Name: "latency", Measure: (*run).latency},
	{Name: "window", Measure: (*run).window},
	{Name: "fan", Measure: (*run).fan},
	{Name: "memory", Measure: (*run).memory},
	{Name: "drain", Measure: (*run).drainRate},
}

func main() {
	only := flag.String("only", "", "`LIST` of latency, window, fan, memory, drain; all if empty")
	dir := flag.String("dir", "", "`DIRECTORY` on the disk to measure; a temporary one if empty")
	binary := flag.String("binary", "", "`PATH` of warren; built if empty")
	seconds := flag.Int("seconds", 5, "length of each rate's measurement")
	millions := flag.Float64("millions", 10, "millions of small messages for memory and restart")
	drain := flag.Int("drain", 2_000_000, "messages of 1 KB for the drain rate")
	flag.Parse()
	r := &run{dir: *dir, binary: *binary, duration: time.Duration(*seconds) * time.Second, drain: *drain}
	for _, share := range []float64{0.1, 0.5, 1} {
		r.backlogs = append(r.backlogs, int(*millions*share*1e6))
	}
	if err := r.all(*only); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func (r *run) all(only string) error {
	return turns.InFolder(r.dir, "figures-", func(folder string) error {
		r.dir = folder
		if r.binary == "" {
			r.binary = filepath.Join(folder, "warren")
			build := exec.Command("go", "build", "-o", r.binary, "github.com/warrenmq/warren/cmd/warren")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				return fmt.Errorf("go build: %w\n%s", err, out)
			}
		}
		return turns.Run(figures, only, r)
	})
}

// row prints one figure.
func (r *run) row(what, value, goal string) {
	fmt.Printf("%-62s %-28s %s\n", what, value, goal)
}
