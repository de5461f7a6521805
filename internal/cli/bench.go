package cli

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/warrenmq/warren/internal/loadgen"
	"github.com/warrenmq/warren/internal/wire"
)

// benching is the bench command with its flags.
type benching struct {
	target
	urls []string
	pids []int
	cfg  loadgen.Config

	queue, pattern       string
	from, to             int
	queueArgs, flags     []string
	expiration           time.Duration
	duration, warmup     seconds
	interval             seconds
	quiet, asJSON, suite bool
	suiteFlags
}

// seconds is a duration of which a bare number is seconds, as PerfTest has it.
type seconds time.Duration

func (s *seconds) String() string { return time.Duration(*s).String() }
func (s *seconds) Type() string   { return "duration" }

func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		text = strconv.FormatFloat(n, 'f', -1, 64) + "s"
	}
	d, err := time.ParseDuration(text)
	*s = seconds(d)
	return err
}

func benchCommand() *cobra.Command {
	b := &benching{interval: seconds(time.Second)}
	cmd := &cobra.Command{
		Use:   "bench [--suite]",
		Short: "Load a broker, and measure rates, latency, processor time and memory",
		Long: `Bench publishes to and consumes from any AMQP 0-9-1 broker, and prints what it
measured: every second on stderr, and in the end on stdout. Without --time or a
count it runs until Ctrl-C. Queues and exchanges that are not there are declared
first and deleted in the end; those that are there are used as they are.

Each publisher and each consumer has a connection of its own. They write once per
publish and once per ack, as common clients do; with --batched they write up to
64 KiB at once, which costs so little that it shows the broker and not the load.

Latency counts from the time at which a message was to be sent: with --rate that
is the schedule, so a broker that pauses cannot hide it. Without a rate, latency
shows how long the queue is and not how fast the broker: publishers send what they
can.

Flags are those of RabbitMQ's PerfTest where it has them. With --suite it measures
a fixed list of loads against one or several brokers in turns, and writes each run
as JSON, a table and a chart to --out.`,
		Example: `  warren bench                                     one publisher, one consumer, until Ctrl-C
  warren bench -s 1000 -f persistent -c 256 -A 100 -q 1000 -z 10
                                                   durable, 256 unconfirmed, 10 seconds
  warren bench -x 20 -c 1 -f persistent -C 1000    20 publishers, 1000 messages each
  warren bench --queue-pattern 'q-%d' --queue-pattern-to 100 -x 100 -y 100
  warren bench -e news -t fanout --queue-pattern 'q-%d' --queue-pattern-to 10 -y 10
  warren bench -r 5000 -c 100 -f persistent -z 10  latency at a fixed rate

  warren bench --suite --url amqp://localhost:5672 --url amqp://localhost:5673 --out results
  warren bench --suite --only latency --rounds 3 --time 5
  warren bench --suite --resume --out results      what an earlier one did not get to
  warren bench --report results                    table and chart of recorded runs`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	b.addFlags(cmd)
	return cmd
}

func (b *benching) addFlags(cmd *cobra.Command) {
	f, c := cmd.Flags(), &b.cfg
	f.StringArrayVar(&b.urls, "url", nil, "broker to load, amqp:// or amqps:// (default $AMQP_URL, else "+defaultURL+"); with --suite repeat for more")
	f.IntSliceVar(&b.pids, "pid", nil, "process of the broker on this machine, for its processor time and memory; repeat as --url")
	f.IntVarP(&c.Producers, "producers", "x", 1, "publishers")
	f.IntVarP(&c.Consumers, "consumers", "y", 1, "consumers")
	f.StringVarP(&b.queue, "queue", "u", "", "queue (default one of its own)")
	f.StringVar(&b.pattern, "queue-pattern", "", "several queues, such as 'q-%d'")
	f.IntVar(&b.from, "queue-pattern-from", 1, "first number for --queue-pattern")
	f.IntVar(&b.to, "queue-pattern-to", 1, "last number for --queue-pattern")
	f.StringArrayVar(&b.queueArgs, "queue-args", nil, "arguments of the queues, "+argUsage+"; separate them by commas, or repeat")
	f.BoolVar(&c.AutoDelete, "auto-delete", false, "queues go away with their last consumer")
	f.BoolVarP(&c.Predeclared, "predeclared", "p", false, "declare and bind nothing")
	f.StringVarP(&c.Exchange, "exchange", "e", "", "exchange to publish to (default the default exchange)")
	f.StringVarP(&c.ExchangeType, "type", "t", "direct", "type of --exchange")
	f.StringVarP(&c.RoutingKey, "routing-key", "k", "", "routing key for --exchange (default the name of the queue)")
	f.IntVarP(&c.BodyBytes, "size", "s", 12, "bytes of a message; latency to delivery needs 12")
	f.StringSliceVarP(&b.flags, "flag", "f", nil, "persistent or mandatory; repeat for both")
	f.IntVar(&c.Priorities, "priorities", 0, "messages have priorities 0 to N-1 in turns; with 2 or more, queues are declared for them")
	f.DurationVar(&b.expiration, "expiration", 0, "time to live of each message, such as 30s")
	f.BoolVar(&c.Batched, "batched", false, "up to 64 KiB in one write instead of one publish or ack")
	f.IntVarP(&c.Confirm, "confirm", "c", 0, "confirms, with at most so many publishes unconfirmed")
	f.IntVarP(&c.TxSize, "ptxsize", "m", 0, "transactions of so many publishes")
	f.Float64VarP(&c.Rate, "rate", "r", 0, "publishes per second of each publisher, 0 for as many as it can")
	f.BoolVarP(&c.AutoAck, "autoack", "a", false, "consume without acknowledgements")
	f.IntVarP(&c.AckEvery, "multi-ack-every", "A", 1, "acknowledge so many deliveries at once")
	f.IntVarP(&c.Prefetch, "qos", "q", 0, "deliveries a consumer may have unacknowledged, 0 for any number")
	f.Float64VarP(&c.ConsumerRate, "consumer-rate", "R", 0, "deliveries per second of each consumer, 0 for as many as it can")
	f.BoolVar(&c.Polling, "polling", false, "consumers use basic.get")
	f.IntVar(&c.Deaf, "deaf-consumers", 0, "further consumers that subscribe and never read from their sockets")
	f.IntVar(&c.Prefill, "prefill", 0, "messages to put into the queues beforehand")
	f.VarP(&b.duration, "time", "z", "end after this `DURATION` (a bare number is seconds; --duration is the same)")
	f.Var(&b.warmup, "warmup", "leave this `DURATION` at the beginning out of the measurement")
	f.Int64VarP(&c.PublishCount, "pmessages", "C", 0, "end after so many publishes of each publisher")
	f.Int64VarP(&c.ConsumeCount, "cmessages", "D", 0, "end after so many deliveries to each consumer")
	f.VarP(&b.interval, "interval", "i", "`DURATION` between lines of progress")
	f.BoolVar(&b.quiet, "quiet", false, "no lines of progress")
	f.BoolVar(&b.asJSON, "json", false, "print the result as JSON")
	b.suiteFlags.add(cmd, &b.suite)
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "duration" {
			name = "time" // PerfTest's word
		}
		return pflag.NormalizedName(name)
	})
	b.target.addConnectionFlags(cmd)
}

func (b *benching) run(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + loadgen.MaxLoops) // for Broker.OwnThreads
	defer runtime.GOMAXPROCS(before)
	switch {
	case b.suite && given("report"):
		return usagef(cmd, "--suite measures and --report shows what was measured; give one of them")
	case given("report"):
		return b.showReport(cmd)
	case b.suite:
		return b.runSuite(cmd)
	}
	for _, name := range suiteOnly {
		if given(name) {
			return usagef(cmd, "--%s is for --suite", name)
		}
	}
	if len(b.urls) > 1 || len(b.pids) > 1 {
		return usagef(cmd, "one broker at a time; --suite measures several in turns")
	}
	if err := b.complete(cmd); err != nil {
		return err
	}
	brokers, err := b.brokers(cmd)
	if err != nil {
		return err
	}
	if !b.quiet {
		b.cfg.Progress = func(s loadgen.Sample) { fmt.Fprintln(cmd.ErrOrStderr(), progressLine(&s)) }
	}
	rep, err := loadgen.Run(cmd.Context(), &brokers[0].Broker, &b.cfg)
	if rep != nil {
		if perr := b.print(cmd, rep); perr != nil {
			return perr
		}
	}
	if err != nil && rep == nil && cmd.Context().Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// complete turns flags into the load, and refuses what makes no sense.
func (b *benching) complete(cmd *cobra.Command) error {
	given, c := cmd.Flags().Changed, &b.cfg
	c.Duration, c.Warmup, c.Interval = time.Duration(b.duration), time.Duration(b.warmup), time.Duration(b.interval)
	for _, flag := range b.flags {
		switch flag {
		case "persistent":
			c.Persistent = true
		case "mandatory":
			c.Mandatory = true
		default:
			return usagef(cmd, "--flag is persistent or mandatory, not %q", flag)
		}
	}
	switch {
	case given("queue") && given("queue-pattern"):
		return usagef(cmd, "--queue is one queue and --queue-pattern are several; give one of them")
	case given("queue") && b.queue == "":
		return usagef(cmd, "--queue needs a name")
	case given("queue-pattern") && strings.Count(b.pattern, "%d") != 1:
		return usagef(cmd, "--queue-pattern needs one %%d, for the number")
	case !given("queue-pattern") && (given("queue-pattern-from") || given("queue-pattern-to")):
		return usagef(cmd, "--queue-pattern-from and -to need a --queue-pattern")
	case b.to < b.from || b.from < 0 || b.to-b.from >= maxBenchQueues:
		return usagef(cmd, "--queue-pattern-from %d to %d: give 1 to %d queues", b.from, b.to, maxBenchQueues)
	case c.Interval < 100*time.Millisecond:
		return usagef(cmd, "--interval must be at least 100ms")
	case b.expiration < 0:
		return usagef(cmd, "--expiration cannot be negative")
	case (given("type") || given("routing-key")) && c.Exchange == "":
		return usagef(cmd, "--type and --routing-key need an --exchange")
	}
	if given("expiration") {
		c.Expiration = expirationOf(b.expiration)
	}
	switch {
	case b.pattern != "":
		for n := b.from; n <= b.to; n++ {
			c.Queues = append(c.Queues, strings.Replace(b.pattern, "%d", strconv.Itoa(n), 1))
		}
	case b.queue != "":
		c.Queues = []string{b.queue}
	default:
		c.Queues = []string{"warren-bench-" + rand.Text()[:8]}
	}
	var err error
	if c.QueueArgs, err = benchArguments(cmd, b.queueArgs); err != nil {
		return err
	}
	if _, has := c.QueueArgs.Get("x-max-priority"); c.Priorities > 1 && !has {
		c.QueueArgs = c.QueueArgs.Set("x-max-priority", int64(c.Priorities-1))
	}
	if err := c.Check(); err != nil {
		return usagef(cmd, "%s", err)
	}
	return nil
}

// maxBenchQueues bounds --queue-pattern.
const maxBenchQueues = 100_000

// benchArguments are queue arguments of the simple kinds, in order.
func benchArguments(cmd *cobra.Command, texts []string) (wire.Table, error) {
	var t wire.Table
	var single []string
	for _, text := range texts {
		if strings.Contains(text, ":=") { // JSON has commas of its own
			single = append(single, text)
			continue
		}
		single = append(single, strings.Split(text, ",")...)
	}
	for _, text := range single {
		key, value, err := parseArgument(text)
		if err != nil {
			return nil, usagef(cmd, "--queue-args: %s", err)
		}
		switch value.(type) {
		case string, bool, int64, float64, int32:
			t = t.Set(key, value)
		default:
			return nil, usagef(cmd, "--queue-args: %s: only text, numbers and booleans", key)
		}
	}
	return t, nil
}

// namedBroker is a broker with its address for people.
type namedBroker struct {
	loadgen.Broker
	address string
}

// brokers resolves --url and --pid.
func (b *benching) brokers(cmd *cobra.Command) ([]namedBroker, error) {
	urls := b.urls
	if len(urls) == 0 {
		urls = []string{""}
	}
	if len(b.pids) > 0 && len(b.pids) != len(urls) {
		return nil, usagef(cmd, "%s, but %s: give one --pid for each --url, 0 where there is none", count(len(urls), "broker"), count(len(b.pids), "--pid"))
	}
	var list []namedBroker
	for i, raw := range urls {
		t := b.target
		t.url = raw
		_, uri, tlsConfig, err := t.resolve(cmd)
		if err != nil {
			return nil, err
		}
		if uri.Scheme == "amqps" && tlsConfig == nil {
			tlsConfig = &tls.Config{}
		}
		if tlsConfig != nil && tlsConfig.ServerName == "" {
			tlsConfig.ServerName = uri.Host
		}
		n := namedBroker{address: displayAddress(uri)}
		n.OwnThreads = true
		n.LoginTimeout = t.timeout
		n.Login = loadgen.Login{User: uri.Username, Password: uri.Password, VHost: uri.Vhost, Name: cmd.CommandPath()}
		addr := net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))
		n.Dial = func(ctx context.Context) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, t.timeout)
			defer cancel()
			var nc net.Conn
			var err error
			if tlsConfig != nil {
				nc, err = (&tls.Dialer{Config: tlsConfig}).DialContext(ctx, "tcp", addr)
			} else {
				nc, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
			}
			if err != nil {
				return nil, fmt.Errorf("cannot connect to %s: %w", n.address, t.dialError(err))
			}
			return nc, nil
		}
		if len(b.pids) > 0 && b.pids[i] != 0 {
			n.PID = b.pids[i]
			if _, err := loadgen.ProcessCPU(n.PID); err != nil {
				return nil, fmt.Errorf("--pid: %w", err)
			}
		}
		list = append(list, n)
	}
	return list, nil
}

// print writes the result.
func (b *benching) print(cmd *cobra.Command, rep *loadgen.Report) error {
	out := cmd.OutOrStdout()
	if b.asJSON {
		e := json.NewEncoder(out)
		return e.Encode(struct {
			Load *loadgen.Config `json:"load"`
			*loadgen.Report
		}{&b.cfg, rep})
	}
	_, err := fmt.Fprint(out, benchSummary(&b.cfg, rep))
	return err
}
