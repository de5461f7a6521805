package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/reliable"
)

func dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq (ls | show | redrive | purge | export | import)",
		Short: "Look at dead letters, send them back, remove or move them",
		Long: `Dlq works on queues of dead letters: those of package reliable, which know why each
message failed, and any other queue that an exchange for dead letters leads to.

All commands work on the queue that is named, over AMQP. To look, they take messages
and give them back: nobody else gets them meanwhile, and they are marked redelivered
afterwards. A look at the whole queue keeps their order; one that stops before does
not on RabbitMQ, whose quorum queues can put what is given back at the end. If the queue has a delivery limit, the look counts
on servers that count what is given back; the queues of package reliable have none.
Ctrl-C loses nothing: what has not been settled goes back.`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(dlqListCommand(), dlqShowCommand(), dlqRedriveCommand(), dlqPurgeCommand(), dlqExportCommand(), dlqImportCommand())
	return cmd
}

// letters are the flags that all commands on one queue of dead letters have.
type letters struct {
	target
	asJSON bool
}

// with runs do on the queue and closes the connection. An error tells what the
// server said; that of an interrupted command is "interrupted".
func (l *letters) with(cmd *cobra.Command, queue string, do func(context.Context, *reliable.DeadLetters) error) error {
	raw, uri, tlsConfig, err := l.resolve(cmd)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	transport := reliable.Transport{URLs: []string{raw}, TLS: tlsConfig}
	c, err := reliable.Open(ctx, transport, reliable.Config{Name: cmd.CommandPath(), ConnectTimeout: l.timeout, Passive: true})
	if err == nil {
		err = do(ctx, c.DeadLettersIn(queue))
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), endGrace)
		defer cancel()
		if cerr := c.Close(closing); err == nil {
			err = cerr
		}
	} else {
		err = fmt.Errorf("cannot connect to %s: %w", displayAddress(uri), l.dialError(err))
	}
	var usage *usageError
	var server *amqp.Error
	var publish *reliable.PublishError
	switch {
	case err == nil, errors.As(err, &usage), errors.Is(err, errReported):
		return err
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case errors.As(err, &publish):
		return errors.New(unsentText(err))
	case errors.As(err, &server) && server.Server:
		return errors.New(amqpText(server))
	case errors.As(err, &server):
		return fmt.Errorf("lost the connection to %s: %s; nothing is lost, run it again", displayAddress(uri), server.Reason)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "reliable: "))
}

// unsentText says why a dead letter could not be published, in the broker's words.
func unsentText(err error) string {
	var e *reliable.PublishError
	text := strings.ReplaceAll(err.Error(), "reliable: ", "")
	if !errors.As(err, &e) {
		return oneLine(text)
	}
	to := fmt.Sprintf("exchange %q with key %q", e.Exchange, e.Key)
	if e.Exchange == "" {
		to = fmt.Sprintf("queue %q", e.Key)
	}
	text = fmt.Sprintf("dead letter %s to %s: %s", cell(e.ID, 100), to, e.Kind)
	var server *amqp.Error
	switch {
	case errors.As(e.Cause, &server) && server.Code == amqp.NoRoute:
		text += ": no queue is there for it"
	case errors.As(e.Cause, &server):
		text += ": " + amqpText(server)
	case e.Cause != nil:
		text += ": " + e.Cause.Error()
	}
	return oneLine(text)
}

// report is what redrive, purge, export and import say in the end.
type report struct {
	Queue      string   `json:"queue"`
	Scanned    int      `json:"scanned"`
	Matched    int      `json:"matched"`
	Done       int      `json:"done"`
	Failed     int      `json:"failed"`
	Duplicates int      `json:"duplicates"`
	DryRun     bool     `json:"dry_run,omitempty"`
	Broken     bool     `json:"broken_off,omitempty"` // the other numbers are what was done until then
	Errors     []string `json:"errors,omitempty"`
	Targets    targets  `json:"targets,omitempty"`
}

// reportOf makes a report of the toolkit's.
func reportOf(queue string, r reliable.Report, dryRun bool, err error) *report {
	out := &report{Queue: queue, Scanned: r.Scanned, Matched: r.Matched, Done: r.Done, Failed: r.Failed,
		Duplicates: r.Duplicates, DryRun: dryRun, Broken: err != nil}
	for _, e := range r.Errors {
		out.Errors = append(out.Errors, unsentText(e))
	}
	return out
}

// print writes the report: done says what happened to the dead letters, will what
// would have. Failures go to stderr, each in a line.
func (r *report) print(cmd *cobra.Command, asJSON bool, done, will string) error {
	for _, text := range r.Errors {
		fmt.Fprintf(cmd.ErrOrStderr(), "warren: %s\n", text)
	}
	if more := r.Failed - len(r.Errors); more > 0 && len(r.Errors) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "warren: and %s more\n", count(more, "failure"))
	}
	if asJSON {
		if err := writeJSON(cmd.OutOrStdout(), r); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(cmd.OutOrStdout(), r.text(done, will)); err != nil {
		return err
	}
	if r.Failed > 0 {
		return errReported
	}
	return nil
}

func (r *report) text(done, will string) string {
	verb := done
	if r.DryRun {
		verb = will
	}
	text := fmt.Sprintf("%s: %s %s", r.Queue, count(r.Done, "dead letter"), verb)
	if r.Scanned > 0 {
		text += fmt.Sprintf(", %d looked at", r.Scanned)
	}
	if r.Duplicates > 0 {
		text += fmt.Sprintf(", %s %s", count(r.Duplicates, "duplicate"), map[bool]string{false: "removed", true: "would be removed"}[r.DryRun])
	}
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d failed and stay", r.Failed)
	}
	switch {
	case r.Broken && r.Scanned > 0:
		text += "; broken off, the others stay"
	case r.Broken:
		text += "; broken off"
	case r.DryRun && r.Scanned > 0:
		text += "; nothing was changed, but they are marked redelivered now"
	}
	return text + "\n" + r.Targets.text()
}

// jsonFlag adds --json.
func (l *letters) jsonFlag(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&l.asJSON, "json", false, what)
}

// checkLimit refuses limits that mean nothing.
func checkLimit(cmd *cobra.Command, limit int) error {
	if limit < 0 || limit == 0 && cmd.Flags().Changed("limit") {
		return usagef(cmd, "--limit must be at least 1; without it there is no limit")
	}
	return nil
}
