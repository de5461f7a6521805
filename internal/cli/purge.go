package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func purgeCommand() *cobra.Command {
	var to target
	cmd := &cobra.Command{
		Use:   "purge QUEUE",
		Short: "Delete the waiting messages of a queue",
		Long: `Purge deletes the messages that wait in a queue. Messages that are with a consumer,
not yet acknowledged, stay.`,
		Example: `  warren purge orders`,
		Args:    exactArgs("QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return to.withClient(cmd, func(c *client) error {
				n, err := c.ch.QueuePurge(args[0], false)
				if err != nil {
					return c.explain(err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "queue %s: %s purged\n", args[0], count(n, "message"))
				return err
			})
		},
	}
	to.addFlags(cmd)
	return cmd
}
