package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// getting is the get command with its flags.
type getting struct {
	target
	asJSON, null       bool
	count              int
	requeue, noRequeue bool
}

func getCommand() *cobra.Command {
	g := &getting{}
	cmd := &cobra.Command{
		Use:   "get QUEUE",
		Short: "Take one message (or --count) out of a queue and print it",
		Long: `Get takes messages out of a queue, prints them one a line and acknowledges them
once they are written. It does not wait: if the queue is empty it says so and
ends with status 3.

With --requeue it only looks: the messages go back to where they were (the broker
marks them as redelivered).`,
		Example: `  warren get orders                      the next message
  warren get orders --requeue --json     look at it without taking it
  while warren get jobs > job; do ./work < job; done`,
		Args: exactArgs("QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error { return g.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.BoolVar(&g.asJSON, "json", false, "print each message as a JSON object, as consume --json does")
	f.BoolVarP(&g.null, "null", "0", false, "end messages with a NUL byte instead of a newline")
	f.IntVarP(&g.count, "count", "n", 1, "messages to get at most")
	f.BoolVar(&g.requeue, "requeue", false, "put the messages back after printing them")
	f.BoolVar(&g.noRequeue, "no-requeue", false, "reject the messages after printing them: to the dead letters, or dropped")
	g.target.addFlags(cmd)
	return cmd
}

func (g *getting) run(cmd *cobra.Command, queue string) error {
	if g.count < 1 {
		return usagef(cmd, "--count must be at least 1")
	}
	if g.requeue && g.noRequeue {
		return usagef(cmd, "--requeue and --no-requeue contradict each other")
	}
	return g.withClient(cmd, func(c *client) error {
		out := writer{asJSON: g.asJSON, end: endByte(g.null)}
		var last uint64
		for n := 0; n < g.count; n++ {
			d, ok, err := c.ch.Get(queue, false)
			if err != nil {
				return c.explain(err)
			}
			if !ok {
				break
			}
			if err := out.add(&d, &d.MessageCount); err != nil {
				return err
			}
			if err := out.flush(cmd.OutOrStdout()); err != nil {
				return err
			}
			last = d.DeliveryTag
			if !g.requeue { // what goes back goes back at the end, or it would be got again
				if err := g.settle(c, last); err != nil {
					return err
				}
			}
		}
		if last == 0 {
			return fmt.Errorf("%w: %s", errEmpty, queue)
		}
		if g.requeue {
			return g.settle(c, last)
		}
		return nil
	})
}

func (g *getting) settle(c *client, tag uint64) error {
	var err error
	switch {
	case g.requeue:
		err = c.ch.Nack(tag, true, true)
	case g.noRequeue:
		err = c.ch.Nack(tag, false, false)
	default:
		err = c.ch.Ack(tag, false)
	}
	if err != nil {
		return fmt.Errorf("printed but not settled, so it will come again: %w", c.explain(err))
	}
	return nil
}
