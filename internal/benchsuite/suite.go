package benchsuite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
)

// Options say what to measure.
type Options struct {
	Brokers  []*loadgen.Broker
	Only     []string      // rows by name, or by the beginning of their names; all if empty
	Rounds   int           // of each row
	Duration time.Duration // of each run
	Scale    float64       // of counts, such as the million queued messages; 1 if 0
	Out      string        // folder for records
	Disk     string        // folder on the disk that the brokers use; Out if ""
	Resume   bool          // leave out rounds that Out has already; else rows are recorded anew
	Progress func(line string)
}

// ErrFailedRuns says that some runs failed; they are recorded as such.
var ErrFailedRuns = errors.New("runs failed")

// choose finds the rows that are wanted.
func (o *Options) choose() ([]Row, error) {
	all := Rows()
	if len(o.Only) == 0 {
		return all, nil
	}
	var names []string
	for _, r := range all {
		names = append(names, r.Name)
	}
	for _, want := range o.Only {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, want) }) {
			return nil, fmt.Errorf("there is no row %q; the rows are %s", want, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(all, func(r Row) bool {
		// A whole name is that row alone, although others may begin like it.
		return !slices.ContainsFunc(o.Only, func(want string) bool {
			return r.Name == want || strings.HasPrefix(r.Name, want) && !slices.Contains(names, want)
		})
	}), nil
}

// Check says what is wrong with the options.
func (o *Options) Check() error {
	switch {
	case len(o.Brokers) == 0:
		return errors.New("there must be a broker")
	case o.Rounds < 1 || o.Rounds > 1000:
		return fmt.Errorf("%d is no number of rounds: it goes from 1 to 1000", o.Rounds)
	case o.Duration < 100*time.Millisecond:
		return errors.New("a run must have at least 100ms")
	case o.Scale < 0 || o.Scale > 1:
		return errors.New("the scale goes from 0 to 1")
	}
	_, err := o.choose()
	return err
}

// suite is a run of the matrix.
type suite struct {
	Options
	disk    *Disk
	machine Machine
	names   []string // of the brokers
	commits []string // that they were built from, "" if that is not known
	failed  int
}

// Run measures. A run that fails is recorded and does not end the rest; the error
// is then ErrFailedRuns. When ctx ends, the run under way is not recorded.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.Check(); err != nil {
		return err
	}
	rows, err := o.choose()
	if err != nil {
		return err
	}
	s := &suite{Options: o, machine: thisMachine()}
	if s.Scale == 0 {
		s.Scale = 1
	}
	if s.Disk == "" {
		s.Disk = s.Out
	}
	if err := os.MkdirAll(s.Out, 0o755); err != nil {
		return err
	}
	for i, b := range s.Brokers {
		name, err := loadgen.Server(ctx, b)
		if err != nil {
			return err
		}
		if slices.Contains(s.names, name) {
			name = fmt.Sprintf("%s (%d)", name, i+1)
		}
		s.names = append(s.names, name)
		s.commits = append(s.commits, brokerCommit(b.PID))
	}
	p, err := s.makePlan(rows)
	if err != nil {
		return err
	}
	s.announce(p)
	if slices.ContainsFunc(p.rows, func(r planned) bool { return r.disk && len(r.missing) > 0 }) {
		if s.disk, err = OpenDisk(s.Disk); err != nil {
			return fmt.Errorf("measuring the disk: %w", err)
		}
		defer func() { err = errors.Join(err, s.disk.Close()) }()
	}
	for i := range p.rows {
		if err := p.rows[i].clear(); err != nil {
			return err
		}
		for _, round := range p.rows[i].missing {
			if err := s.round(ctx, p, &p.rows[i], round); err != nil {
				return err
			}
		}
	}
	if s.failed > 0 {
		return fmt.Errorf("%d %w", s.failed, ErrFailedRuns)
	}
	return nil
}

// round gives every broker its turn; who begins changes.
func (s *suite) round(ctx context.Context, p *plan, row *planned, round int) error {
	for turn := range s.Brokers {
		i := (turn + round) % len(s.Brokers)
		for _, v := range row.Loads {
			began := time.Now()
			r := Record{Row: row.Name, Variant: v.name, Round: round + 1, Broker: s.names[i], Commit: s.commits[i], Order: i + 1,
				Started: time.Now().UTC().Truncate(time.Second), Length: s.Duration, Scale: s.Scale, Machine: s.machine}
			if err := s.measure(ctx, &row.Row, &v, i, &r); err != nil {
				return err
			}
			if r.Report != nil && r.Report.Interrupted {
				return context.Canceled
			}
			if err := r.write(s.Out); err != nil {
				return err
			}
			p.took(s.estimateRun(&row.Row, &v), time.Since(began))
			if s.Progress != nil {
				s.Progress(fmt.Sprintf("%*d/%d %8s left  %s", len(strconv.Itoa(p.runs)), p.done, p.runs, roughly(p.remaining()), r.line(row.rounds)))
			}
		}
	}
	return nil
}

// measure carries out one run. Its failure stands in the record; the error is one
// that ends the suite.
func (s *suite) measure(ctx context.Context, row *Row, v *variant, i int, r *Record) error {
	b := s.Brokers[i]
	if err := loadgen.Calm(ctx, b); err != nil {
		return err
	}
	if row.disk {
		n, took, err := s.disk.Syncs(s.Duration / diskShare)
		if err != nil {
			return fmt.Errorf("measuring the disk: %w", err)
		}
		r.Syncs = float64(n) / took.Seconds()
	}
	p := s.runParams()
	var err error
	switch {
	case v.load != nil:
		c := v.load(p)
		r.Load = &c
		r.Report, err = loadgen.Run(ctx, b, &c)
	case v.churn != nil:
		c := *v.churn
		c.Duration = s.Duration
		r.Churn = &c
		r.Report, err = loadgen.RunChurn(ctx, b, &c)
	default:
		r.Idle = p.count(v.idle)
		r.Report, err = loadgen.RunIdle(ctx, b, r.Idle, p.settle())
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.Error = err.Error()
		s.failed++
	}
	return nil
}

// runParams are those of one run, with queues of its own.
func (s *suite) runParams() runParams {
	prefix := "warren-bench-" + rand.Text()[:8]
	return runParams{duration: s.Duration, scale: s.Scale, queue: func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("%s-%d", prefix, i+1)
		}
		return list
	}}
}

// line is a run for people.
func (r *Record) line(rounds int) string {
	name := r.Row
	if r.Variant != "" {
		name += " " + r.Variant
	}
	text := fmt.Sprintf("%-24s %d/%d  %-20s ", name, r.Round, rounds, r.Broker)
	if r.Error != "" {
		return text + "failed: " + r.Error
	}
	rep := r.Report
	switch {
	case rep.Operations > 0:
		text += fmt.Sprintf("%s/s", short(rep.OperationRate))
	default:
		text += fmt.Sprintf("in %s/s  out %s/s", short(rep.PublishRate), short(rep.ReceiveRate))
	}
	if rep.Broker != nil {
		text += fmt.Sprintf("  cpu/M %s  %s MB", short(rep.Broker.CPUPerMillion), short(float64(rep.Broker.RSSMax)/1e6))
	}
	if rep.StalledSeconds > 0 {
		text += fmt.Sprintf("  stalled for %d s", rep.StalledSeconds)
	}
	if r.Syncs > 0 {
		text += fmt.Sprintf("  raw fdatasync %s/s", short(r.Syncs))
	}
	return text
}
