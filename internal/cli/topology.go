package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/internal/topoplan"
	"github.com/warrenmq/warren/reliable"
)

func topologyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topology (plan | apply | verify) QUEUE...",
		Short: "Print, make or check what retries and dead letters need",
		Long: `Topology is about the queues, exchanges and bindings that package reliable uses for
work queues: delayed retries, dead letters, and a place for what belongs nowhere.
Plan prints them, for any broker and without one; apply makes them; verify compares
a broker with them. The declarations are those of the package itself.`,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	cmd.AddCommand(topologyPlanCommand(), topologyApplyCommand(), topologyVerifyCommand())
	return cmd
}

// workQueues are the flags that say which queues, and how they are declared.
type workQueues struct {
	kind          string
	deliveryLimit int
	args          []string
}

func (w *workQueues) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.kind, "type", "auto", "type of the queues: quorum, classic, or auto for quorum where the server has what it takes")
	f.IntVar(&w.deliveryLimit, "delivery-limit", 0, "deliveries without an answer before the broker gives a message up (quorum): 0 for 20, -1 for no limit")
	f.StringArrayVar(&w.args, "arg", nil, "further argument of the work queues, "+argUsage+"; repeat for more")
}

func (w *workQueues) queues(cmd *cobra.Command, names []string) ([]reliable.Queue, reliable.QueueType, error) {
	kinds := map[string]reliable.QueueType{"auto": reliable.Auto, "quorum": reliable.Quorum, "classic": reliable.Classic}
	kind, known := kinds[w.kind]
	if !known {
		return nil, kind, usagef(cmd, "--type: %q is not auto, quorum or classic", w.kind)
	}
	table, err := parseArguments(cmd, "arg", w.args)
	if err != nil {
		return nil, kind, err
	}
	var queues []reliable.Queue
	for _, name := range names {
		queues = append(queues, reliable.Queue{Name: name, DeliveryLimit: w.deliveryLimit, Arguments: table})
	}
	return queues, kind, nil
}

func queueNames(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef(cmd, "%s wants the names of work queues", cmd.CommandPath())
	}
	return nil
}

// policyFlags are those of a retry policy.
type policyFlags struct {
	topoplan.Policy
	delays []time.Duration
}

func (p *policyFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&p.Attempts, "attempts", 10, "how often a message is tried")
	f.DurationVar(&p.Base, "base", time.Second, "delay after the first attempt")
	f.DurationVar(&p.Max, "max", time.Hour, "longest delay")
	f.Float64Var(&p.Factor, "factor", 2, "from one delay to the next")
	f.Float64Var(&p.Jitter, "jitter", 0.25, "by how much of it a delay varies, by chance, 0 to 1")
	f.DurationSliceVar(&p.delays, "delays", nil, "the delays one by one, such as 1s,10s,5m, instead of --base, --max and --factor; the last one goes on, jitter is 0 unless given")
}

func (p *policyFlags) policy(cmd *cobra.Command) (topoplan.Policy, error) {
	f := cmd.Flags()
	policy := p.Policy
	policy.Delays = p.delays
	if f.Changed("delays") {
		if f.Changed("base") || f.Changed("max") || f.Changed("factor") {
			return policy, usagef(cmd, "--delays is the whole schedule; --base, --max and --factor say another")
		}
		if !f.Changed("jitter") {
			policy.Jitter = 0
		}
		if !f.Changed("attempts") {
			policy.Attempts = len(p.delays) + 1
		}
	}
	if err := policy.Check(); err != nil {
		return policy, usagef(cmd, "%s", err)
	}
	return policy, nil
}

func topologyPlanCommand() *cobra.Command {
	var queues workQueues
	var policy policyFlags
	var server, vhost string
	var asJSON, definitions bool
	cmd := &cobra.Command{
		Use:   "plan QUEUE...",
		Short: "Print the topology of work queues, and the way of a message that fails",
		Long: `Plan prints the exact exchanges, queues, arguments, bindings and routing keys that
package reliable declares for the work queues, what each is for, and the delays that
a message goes through that fails every time. It needs no broker.

--definitions prints a definitions file, which RabbitMQ imports:
  rabbitmqctl import_definitions FILE`,
		Example: `  warren topology plan orders
  warren topology plan orders --attempts 5 --base 2s --factor 3 --max 10m
  warren topology plan orders --delays 1s,1m,1h --json | jq '.schedule'
  warren topology plan orders invoices --server rabbitmq:3.10 --definitions > definitions.json`,
		Args: queueNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			if asJSON && definitions {
				return usagef(cmd, "--json and --definitions are two forms; give one of them")
			}
			s, err := serverNamed(cmd, server)
			if err != nil {
				return err
			}
			list, kind, err := queues.queues(cmd, names)
			if err != nil {
				return err
			}
			p, err := policy.policy(cmd)
			if err != nil {
				return err
			}
			plan, err := topoplan.New(s, kind, list, p)
			if err != nil {
				return usagef(cmd, "%s", err)
			}
			if !asJSON && !definitions {
				return plan.Text(cmd.OutOrStdout())
			}
			form := plan.JSON
			if definitions {
				form = func() ([]byte, error) { return plan.Definitions(vhost) }
			}
			text, err := form()
			if err == nil {
				_, err = cmd.OutOrStdout().Write(text)
			}
			return err
		},
	}
	queues.addFlags(cmd)
	policy.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&server, "server", "rabbitmq:4.3", "`SERVER` to plan for: warren, or rabbitmq with its version")
	f.StringVar(&vhost, "vhost", "/", "virtual host in the definitions file")
	f.BoolVar(&asJSON, "json", false, "print a JSON object, for programs")
	f.BoolVar(&definitions, "definitions", false, "print a definitions file of RabbitMQ")
	return cmd
}

// serverNamed reads --server.
func serverNamed(cmd *cobra.Command, text string) (topoplan.Server, error) {
	name, version, _ := strings.Cut(text, ":")
	var major, minor int
	switch _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); {
	case name == "warren":
		return topoplan.Server{Product: "WarrenMQ", Version: Version()}, nil
	case name == "rabbitmq" && err == nil:
		return topoplan.Server{Product: "RabbitMQ", Version: version}, nil
	}
	return topoplan.Server{}, usagef(cmd, "--server: %q is neither warren nor rabbitmq with a version, such as rabbitmq:3.10", text)
}

// planFor plans for a server that is there; the policy plays no part.
func (w *workQueues) planFor(cmd *cobra.Command, s topoplan.Server, names []string) (*topoplan.Plan, error) {
	list, kind, err := w.queues(cmd, names)
	if err != nil {
		return nil, err
	}
	plan, err := topoplan.New(s, kind, list, topoplan.Policy{Attempts: 1, Delays: []time.Duration{0}})
	if err != nil {
		return nil, usagef(cmd, "%s", err)
	}
	return plan, nil
}

func topologyApplyCommand() *cobra.Command {
	var queues workQueues
	var to target
	cmd := &cobra.Command{
		Use:   "apply QUEUE...",
		Short: "Make the topology of work queues on a broker",
		Long: `Apply makes what plan prints, for the version of the broker that it finds, and says
what was there already. It can be repeated. If something is there in another form,
it says what differs and makes nothing: a queue's arguments cannot be changed.`,
		Example: `  warren topology apply orders invoices
  warren topology apply orders --arg x-max-length=1000000 --url amqp://guest:guest@broker/shop`,
		Args: queueNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			raw, _, tlsConfig, err := to.resolve(cmd)
			if err != nil {
				return err
			}
			return to.withClient(cmd, func(c *client) error {
				plan, err := queues.planFor(cmd, topoplan.ServerOf(c.conn.Properties), names)
				if err != nil {
					return err
				}
				found, err := topoplan.Survey(c.conn, &plan.Topology)
				if err != nil {
					return err
				}
				if err := refuse(cmd, found); err != nil {
					return err
				}
				t := reliable.Transport{URLs: []string{raw}, TLS: tlsConfig}
				if err := declare(cmd.Context(), t, &to, plan); err != nil {
					return err
				}
				return printApplied(cmd, plan, found)
			})
		},
	}
	queues.addFlags(cmd)
	to.addFlags(cmd)
	return cmd
}

// refuse reports what is there in another form.
func refuse(cmd *cobra.Command, found []topoplan.Finding) error {
	differs := 0
	for _, f := range found {
		if f.State == topoplan.Different {
			differs++
			fmt.Fprintf(cmd.ErrOrStderr(), "warren: %s %s: %s\n", f.Kind, f.Name, oneLine(f.Note))
		}
	}
	if differs == 0 {
		return nil
	}
	return fmt.Errorf("%s there already with other properties: nothing was made. Delete what is in the way (messages go with a queue), or choose another name", count(differs, "thing"))
}

// declare makes the plan with the toolkit's own client.
func declare(ctx context.Context, t reliable.Transport, to *target, plan *topoplan.Plan) error {
	ctx, cancel := context.WithTimeout(ctx, 6*to.timeout) // a quorum queue takes a while to make
	defer cancel()
	c, err := reliable.Open(ctx, t, reliable.Config{Name: "warren topology apply", ConnectTimeout: to.timeout})
	if err != nil {
		return err
	}
	err = c.Declare(ctx, plan.Topology)
	return errors.Join(err, c.Close(ctx))
}

func printApplied(cmd *cobra.Command, plan *topoplan.Plan, found []topoplan.Finding) error {
	var b strings.Builder
	made, there := 0, 0
	for _, f := range found {
		switch f.State {
		case topoplan.Missing:
			made++
			fmt.Fprintf(&b, "%s %s: made\n", f.Kind, f.Name)
		case topoplan.Same:
			there++
			fmt.Fprintf(&b, "%s %s: was there\n", f.Kind, f.Name)
		}
	}
	fmt.Fprintf(&b, "%s: %d exchanges and queues made, %d were there; all %d bindings are in place (AMQP does not tell which were there)\n",
		plan.Server, made, there, len(plan.Topology.Bindings))
	_, err := fmt.Fprint(cmd.OutOrStdout(), b.String())
	return err
}
