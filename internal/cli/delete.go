package cli

import (
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
)

func deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete (queue | exchange) NAME",
		Short: "Delete a queue with its messages, or an exchange",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(deleteQueueCommand(), deleteExchangeCommand())
	return cmd
}

func deleteQueueCommand() *cobra.Command {
	var to target
	var ifUnused, ifEmpty bool
	cmd := &cobra.Command{
		Use:   "queue NAME",
		Short: "Delete a queue with its messages",
		Long: `Delete queue deletes a queue and every message in it. That there is no such queue
is said, but is no failure.`,
		Example: `  warren delete queue orders
  warren delete queue orders --if-empty --if-unused`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return to.withClient(cmd, func(c *client) error {
				there, err := c.exists(func() error {
					_, err := c.ch.QueueDeclarePassive(args[0], false, false, false, false, nil)
					return err
				})
				if err != nil {
					return err
				}
				if !there {
					_, err := fmt.Fprintf(cmd.OutOrStdout(), "queue %s was not there\n", args[0])
					return err
				}
				n, err := c.ch.QueueDelete(args[0], ifUnused, ifEmpty, false)
				if err != nil {
					return c.explain(err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "queue %s deleted with %s\n", args[0], count(n, "message"))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&ifUnused, "if-unused", false, "fail if the queue has consumers")
	cmd.Flags().BoolVar(&ifEmpty, "if-empty", false, "fail if the queue has messages")
	to.addFlags(cmd)
	return cmd
}

func deleteExchangeCommand() *cobra.Command {
	var to target
	var ifUnused bool
	cmd := &cobra.Command{
		Use:   "exchange NAME",
		Short: "Delete an exchange with its bindings",
		Long: `Delete exchange deletes an exchange and its bindings. That there is no such
exchange is said, but is no failure.`,
		Example: `  warren delete exchange events --if-unused`,
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return to.withClient(cmd, func(c *client) error {
				there, err := c.exists(func() error {
					return c.ch.ExchangeDeclarePassive(args[0], amqp.ExchangeDirect, false, false, false, false, nil)
				})
				if err != nil {
					return err
				}
				if !there {
					_, err := fmt.Fprintf(cmd.OutOrStdout(), "exchange %s was not there\n", args[0])
					return err
				}
				if err := c.ch.ExchangeDelete(args[0], ifUnused, false); err != nil {
					return c.explain(err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "exchange %s deleted\n", args[0])
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&ifUnused, "if-unused", false, "fail if anything is bound to the exchange")
	to.addFlags(cmd)
	return cmd
}

// exists runs a passive declare. Deleting what is not there succeeds in the
// protocol, so without this a mistyped name would look like a deletion. A
// missing thing closes the channel; a new one takes its place.
func (c *client) exists(passive func() error) (bool, error) {
	err := passive()
	var server *amqp.Error
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &server) && server.Server && server.Code == amqp.NotFound:
		return false, c.openChannel()
	}
	return false, c.explain(err)
}
