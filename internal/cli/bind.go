package cli

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
)

func bindCommand() *cobra.Command {
	return bindingCommand(&cobra.Command{
		Use:   "bind EXCHANGE QUEUE",
		Short: "Let messages flow from an exchange to a queue",
		Long: `Bind makes an exchange put messages into a queue: those whose routing key the
binding matches. With --to-exchange the second name is an exchange too, which
then routes further.`,
		Example: `  warren bind events orders -k 'order.*' -k 'refund.#'
  warren bind mail letters --arg x-match=any --arg colour=red --arg size:='{"$int32": 2}'
  warren bind events archive --to-exchange -k '#'`,
	}, "bound", bindOne)
}

func unbindCommand() *cobra.Command {
	return bindingCommand(&cobra.Command{
		Use:   "unbind EXCHANGE QUEUE",
		Short: "Take a binding away",
		Long: `Unbind takes away the binding with exactly this routing key and these arguments.
That there was none is no failure.`,
		Example: `  warren unbind events orders -k 'order.*'`,
	}, "unbound", unbindOne)
}

// binding is one binding between two names.
type binding struct {
	source, destination, key string
	toExchange               bool
	args                     amqp.Table
}

func bindOne(ch *amqp.Channel, b binding) error {
	if b.toExchange {
		return ch.ExchangeBind(b.destination, b.key, b.source, false, b.args)
	}
	return ch.QueueBind(b.destination, b.key, b.source, false, b.args)
}

func unbindOne(ch *amqp.Channel, b binding) error {
	if b.toExchange {
		return ch.ExchangeUnbind(b.destination, b.key, b.source, false, b.args)
	}
	return ch.QueueUnbind(b.destination, b.key, b.source, b.args)
}

// bindingCommand completes cmd so that it does one thing for each routing key.
func bindingCommand(cmd *cobra.Command, done string, do func(*amqp.Channel, binding) error) *cobra.Command {
	var to target
	var keys, args []string
	var toExchange bool
	cmd.Args = exactArgs("EXCHANGE", "QUEUE")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		table, err := parseArguments(cmd, "arg", args)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			keys = []string{""}
		}
		return to.withClient(cmd, func(c *client) error {
			for _, key := range keys {
				b := binding{source: names[0], destination: names[1], key: key, toExchange: toExchange, args: table}
				if err := do(c.ch, b); err != nil {
					return c.explain(err)
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s -> %s %s with key '%s'\n", b.source, b.destination, done, key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	f := cmd.Flags()
	f.StringArrayVarP(&keys, "routing-key", "k", nil, "routing `KEY` or pattern; repeat for more bindings (default '')")
	f.StringArrayVar(&args, "arg", nil, "binding argument, "+argUsage+"; repeat for more")
	f.BoolVar(&toExchange, "to-exchange", false, "the second name is an exchange")
	to.addFlags(cmd)
	return cmd
}
