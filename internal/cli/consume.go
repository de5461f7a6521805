package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
)

// consuming is the consume command with its flags.
type consuming struct {
	target
	queue             string
	exchange          string
	keys              []string
	asJSON, null      bool
	count             int
	prefetch          int
	idle              time.Duration
	autoAck           bool
	noRequeue         bool
	exclusive         bool
	tag               string
	priority          int
	args              []string
	bindArgs          []string
	deliveries        <-chan amqp.Delivery
	cancelled         chan string
	written, settled  int    // deliveries written to stdout, and acked or rejected
	lastTag           uint64 // of what is written
	out               writer
	mixedWarningGiven bool
}

func consumeCommand() *cobra.Command {
	c := &consuming{}
	cmd := &cobra.Command{
		Use:   "consume (QUEUE | --exchange NAME [--routing-key KEY]…)",
		Short: "Print the messages of a queue as they arrive",
		Long: `Consume prints the bodies of messages, one a line, until Ctrl-C, --count or --idle.

A message is acknowledged only after its line has been written to stdout, so a
message whose line you did not get is still in the queue. Up to --prefetch
messages are on their way at a time. Never more than --count messages leave the
queue.

With --exchange it shows what passes through an exchange instead: it binds a
queue of its own, which exists only as long as the command runs.

With --json each line is an object with exchange, routing_key, properties,
headers and body (body_base64 if it is not text), which 'publish --json' turns
back into the same message.`,
		Example: `  warren consume orders                              until Ctrl-C
  warren consume orders -n 10 --json                 ten messages with everything
  warren consume orders --idle 1s > backup.txt       until none came for a second
  warren consume -e amq.topic -k 'user.#'            watch an exchange
  warren consume orders --no-requeue                 reject them: to the dead letters`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&c.exchange, "exchange", "e", "", "watch this exchange through a temporary queue")
	f.StringArrayVarP(&c.keys, "routing-key", "k", nil, "routing `KEY` or pattern to bind the temporary queue with; repeat for more (default '#', which on a topic exchange is everything)")
	f.StringArrayVar(&c.bindArgs, "bind-arg", nil, "argument of that binding (for headers exchanges), "+argUsage)
	f.BoolVar(&c.asJSON, "json", false, "print each message as a JSON object")
	f.BoolVarP(&c.null, "null", "0", false, "end messages with a NUL byte instead of a newline")
	f.IntVarP(&c.count, "count", "n", 0, "stop after so many messages")
	f.DurationVar(&c.idle, "idle", 0, "stop when no message came for so long, such as 5s")
	f.IntVar(&c.prefetch, "prefetch", 100, "messages the broker may have on their way here, unacknowledged")
	f.BoolVar(&c.autoAck, "auto-ack", false, "let the broker forget a message as soon as it is sent: faster, and lost if this command dies")
	f.BoolVar(&c.noRequeue, "no-requeue", false, "reject each message after printing it instead of acknowledging: it goes to the dead letters, or is dropped")
	f.BoolVar(&c.exclusive, "exclusive", false, "be the only consumer of the queue, or fail")
	f.StringVar(&c.tag, "consumer-tag", "", "name of this consumer (default: a random one)")
	f.IntVar(&c.priority, "priority", 0, "consumers of a higher priority get messages first (x-priority)")
	f.StringArrayVar(&c.args, "arg", nil, "consumer argument, "+argUsage+"; repeat for more")
	c.target.addFlags(cmd)
	return cmd
}

func (c *consuming) check(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return usagef(cmd, "consume reads one queue, got %d arguments", len(args))
	case len(args) == 0 && c.exchange == "":
		return usagef(cmd, "consume what? Name a QUEUE, or watch an exchange with --exchange")
	case len(args) == 1 && c.exchange != "":
		return usagef(cmd, "give a QUEUE or --exchange, not both")
	case c.exchange == "" && len(c.keys)+len(c.bindArgs) > 0:
		return usagef(cmd, "--routing-key and --bind-arg belong to --exchange")
	case c.count < 0:
		return usagef(cmd, "--count cannot be negative")
	case c.prefetch < 1 || c.prefetch > 65535:
		return usagef(cmd, "--prefetch must be from 1 to 65535")
	case c.autoAck && c.noRequeue:
		return usagef(cmd, "--auto-ack and --no-requeue contradict each other")
	case c.autoAck && c.count > 0:
		return usagef(cmd, "--auto-ack with --count would lose what the broker sends beyond the count")
	case c.idle < 0:
		return usagef(cmd, "--idle cannot be negative")
	}
	return nil
}

func (c *consuming) run(cmd *cobra.Command, args []string) error {
	if err := c.check(cmd, args); err != nil {
		return err
	}
	consumerArgs, err := parseArguments(cmd, "arg", c.args)
	if err != nil {
		return err
	}
	bindArgs, err := parseArguments(cmd, "bind-arg", c.bindArgs)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("priority") {
		consumerArgs["x-priority"] = int32(c.priority)
	}
	if c.count > 0 {
		c.prefetch = min(c.prefetch, c.count)
	}
	c.out = writer{asJSON: c.asJSON, end: endByte(c.null)}
	cl, err := c.open(cmd)
	if err != nil {
		return err
	}
	defer cl.close()
	if len(args) == 1 {
		c.queue = args[0]
	} else if err := c.tap(cl, bindArgs); err != nil {
		return err
	}
	if err := cl.ch.Qos(c.prefetch, 0, false); err != nil {
		return cl.explain(err)
	}
	if c.tag == "" {
		c.tag = "warren-consume-" + rand.Text()
	}
	c.cancelled = cl.ch.NotifyCancel(make(chan string, 1))
	c.deliveries, err = cl.ch.Consume(c.queue, c.tag, c.autoAck, c.exclusive, false, false, consumerArgs)
	if err != nil {
		return cl.explain(err)
	}
	defer context.AfterFunc(cmd.Context(), func() {
		time.AfterFunc(endGrace, func() { _ = cl.conn.CloseDeadline(time.Now()) }) // for a broker that no longer answers
	})()
	err = c.loop(cmd, cl)
	if endErr := c.end(cmd, cl); err == nil {
		err = endErr
	}
	return err
}

// end stops the deliveries and only then settles the rest: an ack while the
// broker still sends would make it send more.
func (c *consuming) end(cmd *cobra.Command, cl *client) error {
	if cl.ch.Cancel(c.tag, false) == nil {
		for d := range c.deliveries {
			if !c.autoAck {
				continue // not printed, so it goes back when the channel closes
			}
			if err := c.writeRun(cmd, d); err != nil { // the broker has forgotten it already
				return err
			}
		}
	}
	return c.settle(cl, true)
}

// tap binds a temporary queue to the exchange.
func (c *consuming) tap(cl *client, bindArgs amqp.Table) error {
	q, err := cl.ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return cl.explain(err)
	}
	c.queue = q.Name
	keys := c.keys
	if len(keys) == 0 {
		keys = []string{"#"} // everything on a topic exchange; fanout and headers do not look at it
	}
	for _, key := range keys {
		if err := cl.ch.QueueBind(c.queue, key, c.exchange, false, bindArgs); err != nil {
			return cl.explain(err)
		}
	}
	return nil
}

// errDone ends the loop with success.
var errDone = errors.New("done")

// loop writes deliveries until something ends it. Whatever has been written and
// flushed is settled by the caller even if it ends with an error.
func (c *consuming) loop(cmd *cobra.Command, cl *client) error {
	var timer *time.Timer
	var idle <-chan time.Time
	if c.idle > 0 {
		timer = time.NewTimer(c.idle)
		defer timer.Stop()
		idle = timer.C
	}
	for {
		switch err := c.step(cmd, cl, idle); {
		case errors.Is(err, errDone):
			return nil
		case err != nil:
			return err
		}
		if timer != nil {
			timer.Reset(c.idle)
		}
	}
}

// step waits for one delivery, writes it and everything else that is there
// already, flushes, and settles what was written.
func (c *consuming) step(cmd *cobra.Command, cl *client, idle <-chan time.Time) error {
	select {
	case d, ok := <-c.deliveries:
		if !ok {
			return c.whyEnded(cmd.Context(), cl)
		}
		if err := c.writeRun(cmd, d); err != nil {
			return err
		}
		if err := c.settle(cl, false); err != nil {
			return err
		}
		if c.count > 0 && c.written >= c.count {
			return errDone
		}
		return nil
	case <-idle:
		return errDone
	case <-cmd.Context().Done():
		return errDone
	}
}

// writeRun writes d and the deliveries that wait behind it, at most a prefetch.
func (c *consuming) writeRun(cmd *cobra.Command, d amqp.Delivery) error {
	written, last := c.written, c.lastTag
	for n := 1; ; n++ {
		if err := c.out.add(&d, nil); err != nil {
			return err
		}
		written, last = written+1, d.DeliveryTag
		if n >= c.prefetch || c.count > 0 && written >= c.count {
			break
		}
		more := false
		select {
		case d, more = <-c.deliveries:
		default:
		}
		if !more {
			break
		}
	}
	if c.out.mixed && !c.mixedWarningGiven {
		c.mixedWarningGiven = true
		fmt.Fprintln(cmd.ErrOrStderr(), "warren: a body contains the end-of-message byte, so messages cannot be told apart; use --json")
	}
	if err := c.out.flush(cmd.OutOrStdout()); err != nil {
		return err
	}
	c.written, c.lastTag = written, last
	return nil
}

// settle acks (or rejects) what has been written. Before the end it holds back
// so many acks that, with --count, the broker never sends more than the count:
// a message taken and given back would be marked redelivered.
func (c *consuming) settle(cl *client, atEnd bool) error {
	if c.autoAck {
		return nil
	}
	n := c.written - c.settled
	if c.count > 0 && !atEnd {
		n = min(n, c.count-c.prefetch-c.settled)
	}
	if n <= 0 {
		return nil
	}
	tag := c.lastTag - uint64(c.written-c.settled-n) // tags of one channel are consecutive
	var err error
	if c.noRequeue {
		err = cl.ch.Nack(tag, true, false)
	} else {
		err = cl.ch.Ack(tag, true)
	}
	if err != nil {
		return fmt.Errorf("%s printed but not acknowledged, so they will come again: %w", count(n, "message"), cl.explain(err))
	}
	c.settled += n
	return nil
}

// whyEnded tells why the broker stopped sending.
func (c *consuming) whyEnded(ctx context.Context, cl *client) error {
	if ctx.Err() != nil {
		return errDone
	}
	select {
	case _, ok := <-c.cancelled:
		if ok {
			return fmt.Errorf("the broker ended the consumer: queue '%s' was deleted or moved", c.queue)
		}
	default:
	}
	if why := cl.whyClosed(); why != nil {
		return why
	}
	return fmt.Errorf("lost the connection to %s", cl.address)
}
