// Command toolkit measures what package reliable costs: processor time for each
// message next to amqp091-go used directly, the rate of asynchronous publishing,
// how punctual retries are, and what waiting retries take of the program's memory.
//
//	go run ./bench/cmd/toolkit
//	go run ./bench/cmd/toolkit -only publish,consume -seconds 1 -rounds 15
//
// Processor time is that of this process. With the broker in another process it
// is that of the client alone; in this one, it is that of both. The two ways of
// publishing or consuming take turns, so that what else happens on the machine
// meets both.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/warrenmq/warren/bench/internal/turns"
)

// run is what the figures share.
type run struct {
	dir      string        // for data directories
	duration time.Duration // of a turn
	rounds   int           // of turns
	messages int           // that a turn consumes
	retries  time.Duration // how long messages fail, for the punctuality of retries
	waiting  int           // retries that wait, for memory
	profile  string        // a file for a profile of the last turn of the toolkit
}

// figures in the order in which they run.
var figures = []turns.Figure[*run]{
	{Name: "publish", Measure: (*run).publish},
	{Name: "consume", Measure: (*run).consume},
	{Name: "async", Measure: (*run).async},
	{Name: "retries", Measure: (*run).punctuality},
	{Name: "waiting", Measure: (*run).waitingRetries},
}

func main() {
	only := flag.String("only", "", "`LIST` of publish, consume, async, retries, waiting; all if empty")
	dir := flag.String("dir", "", "`DIRECTORY` for data; a temporary one if empty")
	seconds := flag.Float64("seconds", 0.5, "length of a turn of publishing")
	rounds := flag.Int("rounds", 9, "turns of each way")
	messages := flag.Int("messages", 50_000, "messages that a turn consumes")
	retries := flag.Int("retries", 20, "seconds for which messages fail, 1,000 in each")
	waiting := flag.Int("waiting", 100_000, "messages that wait for their retry")
	profile := flag.String("cpuprofile", "", "`FILE` for a profile of the last turn of the toolkit")
	serve := flag.String("serve", "", "serve a broker with this data `DIRECTORY`, or - for memory, until standard input ends")
	flag.Parse()
	if *serve != "" {
		exit(serveBroker(*serve))
	}
	r := &run{dir: *dir, duration: time.Duration(*seconds * float64(time.Second)), rounds: *rounds, messages: *messages,
		retries: time.Duration(*retries) * time.Second, waiting: *waiting, profile: *profile}
	if err := r.check(); err != nil {
		exit(err)
	}
	exit(r.all(*only))
}

// check refuses what cannot be measured.
func (r *run) check() error {
	if r.duration <= 0 || r.rounds < 1 || r.messages < 1 || r.retries <= 0 || r.waiting < 1 {
		return errors.New("-seconds, -rounds, -messages, -retries and -waiting have to be above 0")
	}
	return nil
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "toolkit:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (r *run) all(only string) error {
	return turns.InFolder(r.dir, "toolkit-", func(folder string) error {
		r.dir = folder
		return turns.Run(figures, only, r)
	})
}

// row prints one figure.
func (r *run) row(what, value, goal string) {
	fmt.Printf("%-58s %-44s %s\n", what, value, goal)
}
