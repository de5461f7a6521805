package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/reliable"
)

// redriving is the redrive command with its flags.
type redriving struct {
	letters
	chosen
	options             reliable.RedriveOptions
	toExchange, toKey   string
	setExchange, setKey bool
	aimed               targets
}

func dlqRedriveCommand() *cobra.Command {
	r := &redriving{aimed: targets{}}
	cmd := &cobra.Command{
		Use:   "redrive QUEUE",
		Short: "Send dead letters back to be handled again",
		Long: `Redrive publishes dead letters again, with the body, id and headers that they had, and
removes each once the broker has confirmed that it is in a queue. They go to the work
queue that they come from, and count as not tried yet.

A dead letter that cannot be sent stays where it is, and the command ends with status
1. Interrupted, it waits for the confirms of what is on its way; should one not come,
the message can be in both places, with the same id.`,
		Example: `  warren dlq redrive orders.dlq --dry-run
  warren dlq redrive orders.dlq --error 'connection refused' --rate 50
  warren dlq redrive orders.dlq --id 01998f2e-7c1b-7d3a-b2a0-5d7f9e1c0a44 --to-queue orders.repair
  warren dlq redrive wrn.v1.lost --from-queue invoices --to-exchange events --to-key invoice.late`,
		Args: exactArgs("QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0]) },
	}
	f, o := cmd.Flags(), &r.options
	f.BoolVar(&o.DryRun, "dry-run", false, "only say what would be sent, and where to")
	f.IntVar(&o.Limit, "limit", 0, "send at most so many (default all)")
	f.Float64Var(&o.PerSecond, "rate", 0, "send at most so many in a second (default as fast as the broker confirms)")
	f.StringVar(&o.To, "to-queue", "", "send to this queue instead")
	f.BoolVar(&o.ToOrigin, "to-origin", false, "publish to the exchange and with the key of the first time: all queues bound there get it again")
	f.StringVar(&r.toExchange, "to-exchange", "", "publish to this exchange instead, with the key of the first time or --to-key")
	f.StringVar(&r.toKey, "to-key", "", "publish with this routing key, to the exchange of the first time or --to-exchange")
	f.BoolVar(&o.KeepAttempts, "keep-attempts", false, "go on counting attempts: one more failure can be the last")
	f.BoolVar(&o.Duplicates, "duplicates", false, "send the same dead letter as often as it stands in the queue (default once; the others are removed)")
	f.BoolVar(&o.NewIDs, "new-id", false, "give new ids, for consumers that know the old ones as done")
	r.jsonFlag(cmd, "print a JSON object, for programs")
	r.chosen.addFlags(cmd)
	r.target.addFlags(cmd)
	return cmd
}

func (r *redriving) run(cmd *cobra.Command, queue string) error {
	o := &r.options
	r.setExchange, r.setKey = cmd.Flags().Changed("to-exchange"), cmd.Flags().Changed("to-key")
	switch {
	case cmd.Flags().Changed("to-queue") && o.To == "":
		return usagef(cmd, "--to-queue is empty")
	case o.To != "" && (o.ToOrigin || r.setExchange || r.setKey):
		return usagef(cmd, "--to-queue is one place; --to-origin, --to-exchange and --to-key are another")
	case o.To == queue:
		return usagef(cmd, "--to-queue is the queue that they are in")
	case o.PerSecond < 0 || o.PerSecond == 0 && cmd.Flags().Changed("rate"):
		return usagef(cmd, "--rate must be above 0")
	}
	if err := checkLimit(cmd, o.Limit); err != nil {
		return err
	}
	f, err := r.filter(cmd)
	if err != nil {
		return err
	}
	o.ToOrigin = o.ToOrigin || r.setExchange || r.setKey
	o.Grace = endGrace
	o.Edit = r.edit
	return r.with(cmd, queue, func(ctx context.Context, d *reliable.DeadLetters) error {
		done, err := d.Redrive(ctx, f, *o)
		report := reportOf(queue, done, o.DryRun, err)
		if o.DryRun {
			report.Targets = r.aimed
		}
		if err != nil && done.Scanned == 0 {
			return err
		}
		if perr := report.print(cmd, r.asJSON, "sent back", "would be sent back"); err == nil {
			err = perr
		}
		return err
	})
}

// edit changes where a dead letter goes, and notes it.
func (r *redriving) edit(d *reliable.DeadLetter) {
	if r.setExchange {
		d.Exchange = r.toExchange
	}
	if r.setKey {
		d.Key = r.toKey
	}
	switch {
	case r.options.To != "":
		r.aimed.add("queue " + r.options.To)
	case r.options.ToOrigin:
		r.aimed.add(fmt.Sprintf("exchange %q with key %q", d.Exchange, d.Key))
	case d.Queue != "":
		r.aimed.add("queue " + d.Queue)
	}
}

// targets counts where dead letters go.
type targets map[string]int

// maxTargets bounds them.
const maxTargets = 100

func (t targets) add(place string) {
	if _, known := t[place]; !known && len(t) >= maxTargets {
		place = "other places"
	}
	t[place]++
}

func (t targets) text() string {
	var b strings.Builder
	for _, place := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "  %d to %s\n", t[place], visible(place))
	}
	return b.String()
}

// purging is the purge command of dlq with its flags.
type purging struct {
	letters
	chosen
	limit       int
	dryRun, all bool
}

func dlqPurgeCommand() *cobra.Command {
	p := &purging{}
	cmd := &cobra.Command{
		Use:   "purge QUEUE",
		Short: "Remove dead letters for good",
		Long: `Purge removes the dead letters that the filters choose; to remove all, say --all. What
is removed is gone: export it before. Unlike "warren purge" it leaves alone what
arrives while it runs.`,
		Example: `  warren dlq purge orders.dlq --older-than 720h --dry-run
  warren dlq purge orders.dlq --reason unreadable
  warren dlq purge orders.dlq --all`,
		Args: exactArgs("QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.BoolVar(&p.dryRun, "dry-run", false, "only say what would be removed")
	f.BoolVar(&p.all, "all", false, "remove all that are there")
	f.IntVar(&p.limit, "limit", 0, "remove at most so many (default all that are chosen)")
	p.jsonFlag(cmd, "print a JSON object, for programs")
	p.chosen.addFlags(cmd)
	p.target.addFlags(cmd)
	return cmd
}

func (p *purging) run(cmd *cobra.Command, queue string) error {
	if p.all && p.any(cmd) {
		return usagef(cmd, "--all and a filter contradict each other")
	}
	if !p.all && !p.any(cmd) {
		return usagef(cmd, "purge what? Give a filter such as --older-than, or --all")
	}
	if err := checkLimit(cmd, p.limit); err != nil {
		return err
	}
	f, err := p.filter(cmd)
	if err != nil {
		return err
	}
	return p.with(cmd, queue, func(ctx context.Context, d *reliable.DeadLetters) error {
		done, err := d.Purge(ctx, f, reliable.PurgeOptions{Limit: p.limit, DryRun: p.dryRun})
		if err != nil && done.Scanned == 0 {
			return err
		}
		if perr := reportOf(queue, done, p.dryRun, err).print(cmd, p.asJSON, "removed", "would be removed"); err == nil {
			err = perr
		}
		return err
	})
}
