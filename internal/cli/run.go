package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/warrenmq/warren/internal/config"
	"github.com/warrenmq/warren/internal/demo"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitEmpty  = 3
)

// usageError is a command line that cannot be carried out as it stands.
type usageError struct {
	text    string
	command string // whose --help to point at, "" for none
}

func (e *usageError) Error() string { return e.text }

// notSeen is the error of a command that compares, and could not see what it has to:
// its status is not that of a difference, but that of bad usage.
func notSeen(err error) error {
	var usage *usageError
	if errors.As(err, &usage) {
		return err
	}
	return &usageError{text: err.Error()}
}

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...), command: cmd.CommandPath()}
}

// errReported ends a command whose failures have been printed one by one.
var errReported = errors.New("some messages failed")

// errEmpty is the failure of a get that found nothing.
var errEmpty = errors.New("the queue is empty")

// Run carries out one command line (without the program's name) and returns the
// exit status. It returns soon after ctx ends: a command that is under way
// finishes what it can and says what it could not.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	stderr = &lockedWriter{w: stderr}
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		hint := ""
		if usage.command != "" {
			hint = " (see " + usage.command + " --help)"
		}
		fmt.Fprintf(stderr, "warren: %s%s\n", oneLine(usage.text), hint)
		return exitUsage
	case errors.Is(err, errReported), errors.Is(err, syscall.EPIPE):
		return exitFailed // has been told, or nobody reads any more
	case errors.Is(err, errEmpty), errors.Is(err, errNoLetters):
		fmt.Fprintf(stderr, "warren: %s\n", oneLine(err.Error()))
		return exitEmpty
	}
	fmt.Fprintf(stderr, "warren: %s\n", oneLine(err.Error()))
	return exitFailed
}

// oneLine keeps the promise that an error is one line, whoever wrote it.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "warren",
		Short: "An AMQP 0-9-1 broker that RabbitMQ clients use unchanged, and tools for any such broker",
		Long: `WarrenMQ is a message broker: it speaks AMQP 0-9-1 as RabbitMQ does, so every
RabbitMQ client works with it unchanged.

The client commands work against WarrenMQ, RabbitMQ and any other AMQP 0-9-1
broker. They connect to --url, else to $AMQP_URL, else to
amqp://guest:guest@localhost:5672/.`,
		Example: `  warren demo                                    see what a broker does, in 20 seconds
  warren serve                                   run a broker on port 5672

  warren declare queue orders                    make a queue
  echo 'one order' | warren publish -q orders    put a message into it
  warren consume orders                          print what arrives, until Ctrl-C`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: "broker", Title: "Broker:"},
		&cobra.Group{ID: "data", Title: "Data directories, of brokers that do not run:"},
		&cobra.Group{ID: "messages", Title: "Messages, on any AMQP 0-9-1 broker:"},
		&cobra.Group{ID: "topology", Title: "Queues, exchanges and bindings, on any AMQP 0-9-1 broker:"},
	)
	add := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	lesson := demo.Command(os.Getenv, embeddedBroker)
	lesson.Args = noArgs
	add("broker", lesson, serveCommand(), hashPasswordCommand())
	add("data", checkCommand(), dumpCommand(), salvageCommand())
	add("messages", publishCommand(), consumeCommand(), getCommand(), dlqCommand(), benchCommand())
	add("topology", declareCommand(), deleteCommand(), purgeCommand(), bindCommand(), unbindCommand(), topologyCommand(), doctorCommand())
	root.AddCommand(versionCommand())
	return root
}

// group is the body of a command that only holds others: alone it prints its
// help, with anything else it says what is wrong.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	var known []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			known = append(known, c.Name())
		}
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if near := config.Nearest(args[0], known); near != "" {
		text += fmt.Sprintf(", did you mean %q?", near)
	}
	return usagef(cmd, "%s", text)
}

// flagError turns the flag library's errors into usage errors, with the nearest
// flag for a mistyped one.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		f := invalid.GetFlag()
		return usagef(cmd, "--%s: %q is not %s", f.Name, invalid.GetValue(), valueKind(f.Value.Type()))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usagef(cmd, "%s", err)
	}
	name := unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() != "" {
		return usagef(cmd, "unknown flag -%s", name)
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	text := "unknown flag --" + name
	if near := config.Nearest(name, known); near != "" {
		text += ", did you mean --" + near + "?"
	}
	return usagef(cmd, "%s", text)
}

// valueKind describes the values of a flag type.
func valueKind(flagType string) string {
	switch flagType {
	case "duration":
		return "a duration such as 500ms, 10s or 5m"
	case "bool":
		return "true or false"
	case "stringSlice":
		return "a list separated by commas"
	case "float64":
		return "a number"
	case "uint8":
		return "a whole number from 0 to 255"
	}
	return "a whole number"
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "%s takes no argument, got %q", cmd.Name(), args[0])
	}
	return nil
}

// exactArgs wants the named arguments, all of them.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usagef(cmd, "%s wants %s, got %d arguments", cmd.CommandPath(), strings.Join(names, " "), len(args))
	}
}
