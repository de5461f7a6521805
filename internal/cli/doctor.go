package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/internal/doctor"
	"github.com/warrenmq/warren/internal/mgmtclient"
)

// examine are the flags of doctor.
type examine struct {
	from     api
	to       target
	vhost    string
	interval time.Duration
	sample   int
	asJSON   bool
	options  doctor.Options
}

func doctorCommand() *cobra.Command {
	var e examine
	cmd := &cobra.Command{
		Use:   "doctor [QUEUE...]",
		Short: "Find the classic mistakes on a live broker, and say how to mend them",
		Long: `Doctor looks at a broker for settings and states with which messages are lost,
handled twice, or stand still: consumers that acknowledge too early, publishers
without confirms, queues without dead letters, messages that nobody takes, and more.
For each it says what it saw, what can be lost, and the command or the change in the
program that mends it.

It reads the management API (--api), twice within --interval, because a queue that
grows takes two looks. Without --api it can only look at the queues that are named,
and at little of them; it says what it could not examine. It changes nothing, unless
--sample is given: that takes messages from the head of the queues and gives them
back, which leaves them marked redelivered, and counts as a failed delivery where a
delivery limit counts that.

Exit status: 0 no findings, 1 findings, 2 it could not look.`,
		Example: `  warren doctor --api http://localhost:15672
  warren doctor --api http://broker:15672 --url amqp://monitor:secret@broker --vhost shop --handler-timeout 45m
  warren doctor --api http://localhost:15672 --json | jq '.findings[] | select(.severity == "loss")'
  warren doctor orders orders.dlq --sample 20`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			e.options.Queues = names
			report, err := e.report(cmd)
			if err != nil {
				return notSeen(err)
			}
			if e.asJSON {
				err = writeJSON(cmd.OutOrStdout(), report)
			} else {
				_, err = fmt.Fprint(cmd.OutOrStdout(), report.Text())
			}
			if err == nil && len(report.Findings) > 0 {
				return errReported
			}
			return err
		},
	}
	f := cmd.Flags()
	e.from.addFlags(cmd, "what doctor reads")
	f.StringVar(&e.vhost, "vhost", "", "virtual host to look at with --api, if not all that the user may see")
	f.DurationVar(&e.interval, "interval", 6*time.Second, "time between the two looks; RabbitMQ's figures are up to 5s old. 0 for one look")
	f.DurationVar(&e.options.HandlerTimeout, "handler-timeout", 0, "how long your handlers may take, to be compared with the server's patience")
	f.IntVar(&e.options.Backlog, "backlog", 1000, "ready messages from which on a growing queue is a finding")
	f.IntVar(&e.sample, "sample", 0, fmt.Sprintf("look at so many messages of each queue, at most %d: marks them redelivered", doctor.MaxSample))
	f.BoolVar(&e.asJSON, "json", false, "print a JSON object, for programs")
	e.to.addFlags(cmd)
	return cmd
}

func (e *examine) report(cmd *cobra.Command) (*doctor.Report, error) {
	switch {
	case e.interval < 0 || e.interval > time.Hour:
		return nil, usagef(cmd, "--interval must be from 0 to 1h")
	case e.sample < 0 || e.sample > doctor.MaxSample:
		return nil, usagef(cmd, "--sample must be from 0 to %d", doctor.MaxSample)
	case e.options.Backlog < 1:
		return nil, usagef(cmd, "--backlog must be at least 1")
	case e.options.HandlerTimeout < 0:
		return nil, usagef(cmd, "--handler-timeout cannot be negative")
	}
	e.options.Interval, e.options.Sampled = e.interval, e.sample > 0
	c, uri, err := e.from.client(cmd, &e.to)
	if err != nil {
		return nil, err
	}
	if c != nil {
		defer c.Close()
		return e.throughAPI(cmd.Context(), c)
	}
	if len(e.options.Queues) == 0 {
		return nil, usagef(cmd, "AMQP cannot list queues: give --api, such as --api http://localhost:15672, or name queues")
	}
	if cmd.Flags().Changed("vhost") {
		return nil, usagef(cmd, "--vhost goes with --api; over AMQP the virtual host is that of --url")
	}
	return e.overAMQP(cmd, uri.Vhost)
}

func (e *examine) throughAPI(ctx context.Context, c *mgmtclient.Client) (*doctor.Report, error) {
	first, err := doctor.LookAt(ctx, c, e.vhost)
	if err != nil {
		return nil, err
	}
	for _, name := range e.options.Queues {
		known := false
		for i := range first.Queues {
			known = known || first.Queues[i].Name == name
		}
		if !known {
			return nil, fmt.Errorf("there is no queue %s that the user may see", name)
		}
	}
	var second *doctor.Look
	if e.interval > 0 {
		if err := pause(ctx, e.interval); err != nil {
			return nil, err
		}
		if second, err = doctor.LookAt(ctx, c, e.vhost); err != nil {
			return nil, err
		}
	}
	if e.sample > 0 {
		if err := doctor.Sample(ctx, c, first, &e.options, e.sample); err != nil {
			return nil, err
		}
	}
	return doctor.Examine(first, second, e.options), nil
}

func (e *examine) overAMQP(cmd *cobra.Command, vhost string) (report *doctor.Report, err error) {
	err = e.to.withClient(cmd, func(c *client) error {
		first, err := doctor.LookOverAMQP(c.conn, vhost, &e.options, e.sample)
		if err != nil {
			return err
		}
		var second *doctor.Look
		if e.interval > 0 {
			if err := pause(cmd.Context(), e.interval); err != nil {
				return err
			}
			if second, err = doctor.LookOverAMQP(c.conn, vhost, &e.options, 0); err != nil {
				return err
			}
		}
		report, err = doctor.ExamineOverAMQP(c.conn, vhost, first, second, e.options)
		return err
	})
	return report, err
}

// pause waits, or says that it was interrupted.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}
