package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Embedded starts a broker inside this process: in memory, or with a directory on
// that. Connections must log in guest with password guest.
type Embedded func(ctx context.Context, dir string) (EmbeddedBroker, error)

// EmbeddedBroker is a broker inside this process.
type EmbeddedBroker struct {
	Dial func(network, addr string) (net.Conn, error)
	Stop func()
	// Kill and Hold are as in Options; nil in memory.
	Kill func(ctx context.Context) error
	Hold func()
}

// Command is `warren demo`. Without --url and AMQP_URL it starts the embedded
// broker; with either it uses that broker and never falls back to the embedded one. The command returns an
// error, for the caller to show in one line, whenever the exit code must not be 0.
//
// The environment comes in through getenv, and signals as the end of the command's
// context: whatever should end the lesson (SIGINT, SIGTERM, and best SIGHUP and
// SIGPIPE too, so that closing the terminal or the pipe does not leave queues
// behind for a minute) must end that context, and the lesson cleans up.
func Command(getenv func(string) string, embedded Embedded) *cobra.Command {
	var url string
	var asJSON bool
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show reliable messaging live, step by step, on the embedded broker or on a RabbitMQ",
		Long: `Demo tells reliable messaging in seven short steps, each with real messages:
routing, confirmed publishing, acks and prefetch, a consumer that dies, dead
letters, retries with growing delays, duplicates. The programs in it are written
with the package reliable.

With --data the broker inside this process keeps its data in that directory, and
an eighth step kills it in the middle of a stream of publishes, starts it again and
counts that nothing confirmed was lost.

It runs on a broker inside this process, unless --url or AMQP_URL names another
one: the very same lesson then runs there. It touches only names that begin with
a random prefix (warren-demo-...) and deletes them at the end, also when it is
interrupted.

Every number it prints is counted from what arrived. Demo exits with 0 only if
they add up, else with 1 and a line for each that does not.`,
		Example: `  warren demo
  warren demo --json | jq 'select(.event == "summary").totals'
  warren demo --data ./demo-data
  warren demo --url amqp://guest:guest@localhost:5672/
  AMQP_URL=amqps://user:secret@rabbit.example.org/shop warren demo`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true // from here on, errors are not about usage
			switch {
			case !cmd.Flags().Changed("url"):
				url = getenv("AMQP_URL")
			case url == "":
				return errors.New("--url is empty") // a forgotten variable must not choose another broker
			case dir != "":
				return errors.New("--data is for the broker inside this process, and --url names another")
			}
			if cmd.Flags().Changed("data") {
				if dir == "" {
					return errors.New("--data is empty")
				}
				url = "" // it asks for the broker inside this process, whatever the environment says
			}
			out := cmd.OutOrStdout()
			o := Options{URL: url, Out: out, JSON: asJSON, Color: wantsColor(out, getenv)}
			if url == "" {
				b, err := embedded(cmd.Context(), dir)
				if err != nil {
					return err
				}
				defer b.Stop()
				o.Dial, o.Kill, o.Hold = b.Dial, b.Kill, b.Hold
				o.Broker = "the WarrenMQ broker inside this process (set AMQP_URL to use a RabbitMQ)"
				if dir != "" {
					o.Broker = "the WarrenMQ broker inside this process, data in " + dir
				}
			}
			_, err := Run(cmd.Context(), o)
			return err
		},
	}
	cmd.Flags().StringVarP(&url, "url", "u", "", "AMQP `URL` of the broker to use (default: $AMQP_URL, else a broker inside this process)")
	cmd.Flags().StringVar(&dir, "data", "", "run the broker inside this process on the data directory `DIR`, and kill it in the middle")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per event and line, the last one a summary")
	return cmd
}

// wantsColor follows the terminal, and no-color.org: any NO_COLOR but an empty one
// turns colour off.
func wantsColor(out io.Writer, getenv func(string) string) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
