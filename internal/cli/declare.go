package cli

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
)

func declareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "declare (queue | exchange) NAME",
		Short: "Make a queue or an exchange, or check that it is as you say",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	cmd.AddCommand(declareQueueCommand(), declareExchangeCommand())
	return cmd
}

func declareQueueCommand() *cobra.Command {
	var to target
	var arguments queueArguments
	var transient, autoDelete, passive bool
	cmd := &cobra.Command{
		Use:   "queue NAME",
		Short: "Make a queue, or check that it is as you say",
		Long: `Declare queue makes a durable queue. If there is one of that name already, with
the same properties and arguments, nothing happens; if it differs in any, the
broker says in which, and the status is 1. An empty NAME ('') lets the broker
choose a name, which is printed.`,
		Example: `  warren declare queue orders
  warren declare queue orders --type quorum --delivery-limit 5
  warren declare queue retry --ttl 30s --dead-letter-exchange '' --dead-letter-routing-key orders
  warren declare queue last --max-length 1 --arg x-queue-mode=default
  warren declare queue orders --passive          is it there, and how long is it?`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			table, err := arguments.table(cmd)
			if err != nil {
				return err
			}
			return to.withClient(cmd, func(c *client) error {
				declare := c.ch.QueueDeclare
				if passive {
					declare = c.ch.QueueDeclarePassive
				}
				q, err := declare(args[0], !transient, autoDelete, false, false, table)
				if err != nil {
					return c.explain(err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "queue %s: %s, %s\n", q.Name, count(q.Messages, "message"), count(q.Consumers, "consumer"))
				return err
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&transient, "transient", false, "the queue goes away when the broker restarts")
	f.BoolVar(&autoDelete, "auto-delete", false, "the queue goes away with its last consumer")
	f.BoolVar(&passive, "passive", false, "make nothing, only fail if there is no such queue")
	arguments.addFlags(cmd)
	to.addFlags(cmd)
	return cmd
}

func declareExchangeCommand() *cobra.Command {
	var to target
	var kind, alternate string
	var args []string
	var transient, autoDelete, internal, passive bool
	cmd := &cobra.Command{
		Use:   "exchange NAME",
		Short: "Make an exchange, or check that it is as you say",
		Long: `Declare exchange makes a durable exchange. The type says how it routes:
  direct   to queues bound with exactly the message's routing key
  topic    to queues whose pattern matches: words with dots between, * for one, # for any number
  fanout   to every queue bound
  headers  to queues whose binding arguments match the message's headers`,
		Example: `  warren declare exchange events --type topic
  warren declare exchange events --type topic --alternate-exchange unrouted`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			table, err := parseArguments(cmd, "arg", args)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("alternate-exchange") {
				table["alternate-exchange"] = alternate
			}
			return to.withClient(cmd, func(c *client) error {
				declare := c.ch.ExchangeDeclare
				if passive {
					declare = c.ch.ExchangeDeclarePassive
				}
				if err := declare(names[0], kind, !transient, autoDelete, internal, false, table); err != nil {
					return c.explain(err)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "exchange %s\n", names[0])
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "type", amqp.ExchangeDirect, "direct, topic, fanout, headers, or another type the broker has")
	f.StringVar(&alternate, "alternate-exchange", "", "exchange for messages that no binding takes")
	f.BoolVar(&transient, "transient", false, "the exchange goes away when the broker restarts")
	f.BoolVar(&autoDelete, "auto-delete", false, "the exchange goes away with its last binding")
	f.BoolVar(&internal, "internal", false, "clients cannot publish to it, only other exchanges can")
	f.BoolVar(&passive, "passive", false, "make nothing, only fail if there is no such exchange")
	f.StringArrayVar(&args, "arg", nil, "exchange argument, "+argUsage+"; repeat for more")
	to.addFlags(cmd)
	return cmd
}
