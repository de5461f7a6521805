package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/warrenmq/warren/internal/benchsuite"
)

// suiteFlags are the flags of bench that belong to --suite and --report.
type suiteFlags struct {
	only   []string
	rounds int
	out    string
	disk   string
	resume bool
	report string
	scale  float64
}

// suiteTime is the length of a run unless --time says otherwise.
const suiteTime = 10 * time.Second

func (s *suiteFlags) add(cmd *cobra.Command, suite *bool) {
	f := cmd.Flags()
	f.BoolVar(suite, "suite", false, "measure the fixed list of loads, against each --url in turns")
	f.StringSliceVar(&s.only, "only", nil, "rows of the suite, by name or its beginning; a wrong one lists them")
	f.IntVar(&s.rounds, "rounds", 5, "rounds of each row; the table has medians")
	f.StringVar(&s.out, "out", "warren-bench", "`DIRECTORY` for the records of the suite, its table.md and chart.svg")
	f.StringVar(&s.disk, "disk", "", "`DIRECTORY` on the disk of the brokers, to measure fdatasync in turns with confirms (default --out)")
	f.BoolVar(&s.resume, "resume", false, "leave out rounds that are in --out already, from runs of the same --time; else rows are recorded anew")
	f.Float64Var(&s.scale, "scale", 1, "part of the counts that the suite has, such as 1 million queued messages; less for a try")
	f.StringVar(&s.report, "report", "", "measure nothing: make table and chart of the records in this `DIRECTORY`")
}

// suiteOnly are the flags that mean nothing without --suite; suiteToo those that
// a load of one's own shares with it.
var (
	suiteOnly = [...]string{"only", "rounds", "out", "disk", "scale", "resume"}
	suiteToo  = [...]string{"suite", "url", "pid", "time", "quiet", "timeout", "tls-ca", "tls-cert", "tls-key", "tls-server-name", "tls-insecure", "help"}
)

// runSuite measures the matrix and shows its table.
func (b *benching) runSuite(cmd *cobra.Command) error {
	if err := b.onlySuiteFlags(cmd); err != nil {
		return err
	}
	o := benchsuite.Options{Only: b.only, Rounds: b.rounds, Duration: suiteTime, Out: b.out, Disk: b.disk, Resume: b.resume, Scale: b.scale}
	if cmd.Flags().Changed("time") {
		o.Duration = time.Duration(b.duration)
	}
	if !b.quiet {
		o.Progress = func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
	}
	brokers, err := b.brokers(cmd)
	if err != nil {
		return err
	}
	for i := range brokers {
		o.Brokers = append(o.Brokers, &brokers[i].Broker)
	}
	if err := o.Check(); err != nil {
		return usagef(cmd, "%s", err)
	}
	failed := benchsuite.Run(cmd.Context(), o)
	if failed != nil && !errors.Is(failed, benchsuite.ErrFailedRuns) {
		if cmd.Context().Err() != nil {
			return fmt.Errorf("interrupted; what was measured is in %s (warren bench --report %s shows it, and --resume goes on)", b.out, b.out)
		}
		return failed
	}
	b.report = b.out
	return errors.Join(failed, b.showReport(cmd))
}

// onlySuiteFlags refuses flags of a single load, which would be ignored.
func (b *benching) onlySuiteFlags(cmd *cobra.Command) error {
	allowed := map[string]bool{}
	for _, name := range suiteOnly {
		allowed[name] = true
	}
	for _, name := range suiteToo {
		allowed[name] = true
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && !allowed[f.Name] {
			err = usagef(cmd, "--%s is for a load of your own; the suite has a fixed list (--only takes some of it)", f.Name)
		}
	})
	return err
}

// showReport makes table and chart of a folder of records.
func (b *benching) showReport(cmd *cobra.Command) error {
	records, err := benchsuite.Load(b.report)
	if err != nil {
		return err
	}
	table, err := benchsuite.Table(records)
	if err != nil {
		return err
	}
	chart, err := benchsuite.Chart(records)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"table.md": table, "chart.svg": chart} {
		if err := os.WriteFile(filepath.Join(b.report, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), table)
	return err
}
