package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// publishing is the publish command with its flags.
type publishing struct {
	target
	exchange, key, queue string
	body, file           string
	asJSON, null, quiet  bool
	mandatory, transient bool
	window               int
	headers              []string
	expiration           time.Duration
	props                jsonProperties
}

func publishCommand() *cobra.Command {
	p := &publishing{}
	cmd := &cobra.Command{
		Use:   "publish (--queue NAME | --exchange NAME [--routing-key KEY] | --json)",
		Short: "Publish the lines of stdin as messages, confirmed",
		Long: `Publish reads messages from stdin, one a line, and publishes each of them with
confirms: it ends with status 0 only when the broker has taken in every message
and routed each to at least one queue. Every message that was not is named on
stderr by its line, and the rest are published all the same.

Messages are persistent unless --transient is given. With --json each line is a
JSON object as 'consume --json' writes it, for example
  {"routing_key": "orders", "headers": {"n": 1}, "body": "hello"}
where exchange, routing_key, properties, headers and body (or body_base64) may
all be left out. What flags say wins over what the line says.`,
		Example: `  echo hello | warren publish -q orders               to the queue orders
  warren publish -e events -k user.created < lines    to the exchange events
  warren publish -q orders --body '{"id": 1}' --content-type application/json
  warren publish -q images --file photo.png           a whole file as one message

  warren consume dead --json --idle 1s | warren publish --json -q orders
                                                      send dead letters again`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd) },
	}
	p.addFlags(cmd)
	return cmd
}

func (p *publishing) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.queue, "queue", "q", "", "publish to this queue (through the default exchange)")
	f.StringVarP(&p.exchange, "exchange", "e", "", "publish to this exchange")
	f.StringVarP(&p.key, "routing-key", "k", "", "routing `KEY`")
	f.StringVar(&p.body, "body", "", "publish this one message instead of stdin")
	f.StringVar(&p.file, "file", "", "publish this file as one message, - for the whole of stdin")
	f.BoolVar(&p.asJSON, "json", false, "each line is a JSON object with routing data, properties, headers and body")
	f.BoolVarP(&p.null, "null", "0", false, "messages end with a NUL byte instead of a newline")
	f.BoolVar(&p.mandatory, "mandatory", true, "a message that reaches no queue is a failure; =false lets the broker drop it")
	f.IntVar(&p.window, "window", 256, "messages in flight before waiting for confirms")
	f.BoolVar(&p.quiet, "quiet", false, "do not print the number of confirmed messages")
	f.BoolVar(&p.transient, "transient", false, "messages need not survive a restart of the broker (delivery mode 1)")
	f.StringArrayVarP(&p.headers, "header", "H", nil, "header, "+argUsage+"; repeat for more")
	f.DurationVar(&p.expiration, "ttl", 0, "drop or dead-letter the message if it waits longer than this, such as 30s (expiration)")
	f.StringVar(&p.props.ContentType, "content-type", "", "content type, such as application/json")
	f.StringVar(&p.props.ContentEncoding, "content-encoding", "", "content encoding, such as gzip")
	f.Uint8Var(&p.props.Priority, "priority", 0, "priority, for queues that have them")
	f.StringVar(&p.props.CorrelationID, "correlation-id", "", "correlation id")
	f.StringVar(&p.props.ReplyTo, "reply-to", "", "queue to send replies to")
	f.StringVar(&p.props.MessageID, "message-id", "", "message id")
	f.StringVar(&p.props.Type, "type", "", "message type name")
	f.StringVar(&p.props.AppID, "app-id", "", "name of the sending program")
	f.StringVar(&p.props.UserID, "user-id", "", "user id; the broker refuses any but the user logged in")
	p.target.addFlags(cmd)
}

// check finds flags that make no sense together.
func (p *publishing) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	switch {
	case given("queue") && (given("exchange") || given("routing-key")):
		return usagef(cmd, "--queue is the default exchange with the queue as routing key; give either it, or --exchange and --routing-key")
	case given("queue") && p.queue == "":
		return usagef(cmd, "--queue needs a name")
	case !p.asJSON && !given("queue") && !given("exchange") && !given("routing-key"):
		return usagef(cmd, "where to? Give --queue NAME, or --exchange NAME and perhaps --routing-key KEY")
	case given("body") && given("file"):
		return usagef(cmd, "--body and --file are two messages; give one of them")
	case p.asJSON && given("file"):
		return usagef(cmd, "--file makes a message of a whole file, --json reads one from each line; to read lines from a file use < FILE")
	case p.window < 1:
		return usagef(cmd, "--window must be at least 1")
	case p.expiration < 0:
		return usagef(cmd, "--ttl cannot be negative")
	}
	return nil
}

func (p *publishing) run(cmd *cobra.Command) error {
	if err := p.check(cmd); err != nil {
		return err
	}
	fill, err := p.filler(cmd)
	if err != nil {
		return err
	}
	c, err := p.open(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	w, err := newWindow(c.ch, p.window)
	if err != nil {
		return c.explain(err)
	}
	r := &publishReporter{stderr: cmd.ErrOrStderr(), window: w}
	announced := r.start(c.conn.NotifyBlocked(make(chan amqp.Blocking, 16)))
	defer func() { c.close(); <-announced }()
	defer context.AfterFunc(cmd.Context(), func() {
		time.AfterFunc(endGrace, func() { _ = c.conn.CloseDeadline(time.Now()) }) // ends the wait below
	})()
	sent, inputErr := p.publishAll(cmd, c, w, fill)
	w.wait()
	r.printFailures()
	confirmed, open := w.counts()
	if !p.quiet {
		fmt.Fprintf(r.stderr, "%s confirmed\n", count(confirmed, "message"))
	}
	return publishResult(c, sent, confirmed, open, inputErr)
}

// errStopped ends the publishing when the channel or the context has ended.
var errStopped = errors.New("stopped")

// publishAll publishes the input and returns how many messages went out. The
// error is about the input or is errStopped.
func (p *publishing) publishAll(cmd *cobra.Command, c *client, w *window, fill func(*outgoing)) (sent int, err error) {
	bad := 0
	err = p.eachMessage(cmd, w.done, func(o outgoing, invalid error) error {
		if invalid != nil {
			bad++
			fmt.Fprintf(cmd.ErrOrStderr(), "warren: line %d: not published: %s\n", o.line, invalid)
			return nil
		}
		fill(&o)
		if !w.add(cmd.Context(), o) {
			return errStopped
		}
		if err := c.ch.Publish(o.exchange, o.key, p.mandatory, false, o.msg); err != nil {
			return errStopped // the reason is in the close notifications
		}
		sent++
		return nil
	})
	if err == nil && bad > 0 {
		err = errReported
	}
	return sent, err
}

// publishResult turns what happened into the command's result.
func publishResult(c *client, sent, confirmed, open int, inputErr error) error {
	if open > 0 || errors.Is(inputErr, errStopped) {
		why := c.whyClosed()
		if why == nil {
			why = errors.New("interrupted")
		}
		if open == 0 {
			return why
		}
		return fmt.Errorf("%w; %s sent but not confirmed, which may or may not have arrived", why, count(open, "message"))
	}
	if inputErr == nil && sent > confirmed {
		return errReported
	}
	return inputErr
}

// filler returns what the flags do to each message.
func (p *publishing) filler(cmd *cobra.Command) (func(*outgoing), error) {
	headers, err := parseArguments(cmd, "header", p.headers)
	if err != nil {
		return nil, err
	}
	given := cmd.Flags().Changed
	var flags amqp.Publishing
	if err := p.props.apply(&flags); err != nil {
		return nil, usagef(cmd, "%s", err)
	}
	return func(o *outgoing) {
		switch {
		case given("queue"):
			o.exchange, o.key = "", p.queue
		case given("exchange"):
			o.exchange = p.exchange
		}
		if given("routing-key") {
			o.key = p.key
		}
		if len(headers) > 0 && o.msg.Headers == nil {
			o.msg.Headers = amqp.Table{}
		}
		for k, v := range headers {
			o.msg.Headers[k] = v
		}
		if p.transient {
			o.msg.DeliveryMode = amqp.Transient
		}
		if given("ttl") {
			o.msg.Expiration = expirationOf(p.expiration)
		}
		if given("priority") {
			o.msg.Priority = flags.Priority
		}
		for _, s := range []struct {
			to   *string
			from string
		}{
			{&o.msg.ContentType, flags.ContentType}, {&o.msg.ContentEncoding, flags.ContentEncoding},
			{&o.msg.CorrelationId, flags.CorrelationId}, {&o.msg.ReplyTo, flags.ReplyTo},
			{&o.msg.MessageId, flags.MessageId}, {&o.msg.Type, flags.Type},
			{&o.msg.AppId, flags.AppId}, {&o.msg.UserId, flags.UserId},
		} {
			if s.from != "" {
				*s.to = s.from
			}
		}
	}, nil
}

// eachMessage calls do for every message of the input, with an error instead of
// a message for a line of JSON that is none. It ends at the first error of do, or
// with errStopped when done is closed.
func (p *publishing) eachMessage(cmd *cobra.Command, done <-chan struct{}, do func(o outgoing, invalid error) error) error {
	plain := func(body []byte, line int) outgoing {
		return outgoing{line: line, msg: amqp.Publishing{Body: body, DeliveryMode: amqp.Persistent}}
	}
	parse := func(data []byte, line int) (outgoing, error) {
		if !p.asJSON {
			return plain(data, line), nil
		}
		o, err := messageFromJSON(data)
		o.line = line
		return o, err
	}
	switch {
	case cmd.Flags().Changed("body"):
		return do(parse([]byte(p.body), 1))
	case p.file != "":
		body, err := readWhole(cmd, p.file)
		if err != nil {
			return fmt.Errorf("cannot read the message: %w", err)
		}
		return do(plain(body, 1), nil)
	}
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintln(cmd.ErrOrStderr(), "Type one message a line, end with Ctrl-D.")
	}
	lines := readLines(cmd.Context(), cmd.InOrStdin(), endByte(p.null))
	n := 0
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				return nil
			}
			n++
			if l.err != nil {
				return fmt.Errorf("cannot read line %d: %w", n, l.err)
			}
			if err := do(parse(l.data, n)); err != nil {
				return err
			}
		case <-cmd.Context().Done():
			return errStopped
		case <-done:
			return errStopped
		}
	}
}

func readWhole(cmd *cobra.Command, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(name)
}

func endByte(null bool) byte {
	if null {
		return 0
	}
	return '\n'
}
