package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/warrenmq/warren/broker"
	"github.com/warrenmq/warren/internal/config"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
)

// drainTimeout is how long serve waits for clients to say goodbye.
const drainTimeout = 10 * time.Second

func serveCommand() *cobra.Command {
	var file string
	var print bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a broker",
		Long: `Serve runs a broker until it gets SIGTERM or SIGINT (Ctrl-C); then it tells its
clients that it is going, waits for them up to 10 seconds, and ends with status 0.

Durable queues, exchanges and bindings, and the persistent messages in durable
queues, are kept in the data directory (--data, ./warren-data by default). They
survive a restart, a crash and a power loss; a publisher confirm of such a message
means that it is on the disk. With --memory nothing survives.

Every setting can be given as a flag, as an environment variable (in brackets
below) or in a TOML file; a flag wins over a variable, a variable over the file.
--print-config shows the outcome in the form of such a file. Users and virtual
hosts add up. As long as no user is configured there is guest with the password
guest, who may log in from this machine only.`,
		Example: `  warren serve
  warren serve --data /var/lib/warren
  warren serve --memory --listen 127.0.0.1:5672 --listen '[::1]:5672'
  warren serve --user-hash "anna:$(warren hash-password)" --vhost shop
  warren serve --config warren.toml --print-config`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(config.Sources{File: file, Getenv: os.LookupEnv, Flags: givenSettings(cmd)})
			if err != nil {
				return &usageError{text: err.Error()}
			}
			if print {
				return c.Print(cmd.OutOrStdout())
			}
			return serve(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&file, "config", "", "TOML `FILE` [$"+config.FileEnv+"]")
	cmd.Flags().BoolVar(&print, "print-config", false, "print the effective settings and end")
	addSettings(cmd.Flags())
	return cmd
}

// settingFlag is the flag of a setting. What its values mean is up to config,
// which then reports a wrong one like a wrong value from any other source.
type settingFlag struct {
	setting config.Setting
	values  []string
}

func (f *settingFlag) String() string { return strings.Join(f.values, ",") }

// Type is what the help calls the value.
func (f *settingFlag) Type() string {
	if f.setting.Bool {
		return "bool"
	}
	return f.setting.Arg
}

func (f *settingFlag) Set(value string) error {
	if !f.setting.List {
		f.values = nil // the last one counts
	}
	f.values = append(f.values, value)
	return nil
}

// addSettings makes a flag of every setting.
func addSettings(flags *pflag.FlagSet) {
	for _, s := range config.Settings() {
		usage := strings.ReplaceAll(s.Usage, "`", "'") + " [$" + s.Env + "]"
		if d := s.Default(); d != "" && !s.Bool {
			usage += " (default " + d + ")"
		}
		flags.Var(&settingFlag{setting: s}, s.Flag, usage)
		if s.Bool {
			flags.Lookup(s.Flag).NoOptDefVal = "true"
		}
	}
}

// givenSettings returns the values of the flags that are on the command line.
func givenSettings(cmd *cobra.Command) map[string][]string {
	given := map[string][]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if s, ok := f.Value.(*settingFlag); ok {
			given[f.Name] = s.values
		}
	})
	return given
}

// serve runs a broker until ctx ends or a listener fails.
func serve(ctx context.Context, c *config.Config, stdout, stderr io.Writer) error {
	tended, cancelTending := context.WithCancel(ctx)
	defer cancelTending()
	go tendHeap(tended)
	if c.Data != "" {
		defer addProcessors()()
	}
	logger := newLogger(c.Log, stderr)
	listeners, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	management, err := listenManagement(ctx, c)
	if err != nil {
		closeAll(listeners)
		return err
	}
	b, err := broker.Open(c.Broker(logger, Version()))
	if err != nil {
		closeAll(append(listeners, management...))
		return openError(c.Data, err)
	}
	failed := make(chan error, len(listeners)+len(management))
	for _, l := range listeners {
		go func() { failed <- b.Serve(l) }()
	}
	for _, l := range management {
		go func() { failed <- b.ServeManagement(l) }()
	}
	fmt.Fprintf(stdout, "WarrenMQ %s listening on %s (%s)%s\n", Version(), addresses(listeners), where(c), managementText(c, management))
	left := len(listeners) + len(management)
	select {
	case <-ctx.Done():
		logger.Info("shutting down", "connections", b.ConnectionCount())
	case err = <-failed:
		left--
		err = fmt.Errorf("a listener failed: %w", err)
	case <-b.Failed():
		err = fmt.Errorf("the data directory %s has failed, and nothing is confirmed any more; what was confirmed is on the disk: %w", c.Data, b.Err())
		logger.Error("stopping because the data directory has failed", "data", c.Data, "error", b.Err())
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	switch shutdownErr := b.Shutdown(drain); {
	case shutdownErr == nil:
	case errors.Is(shutdownErr, context.DeadlineExceeded):
		logger.Warn("some clients were cut off", "reason", shutdownErr)
	case err == nil:
		err = shutdownErr
	}
	if err == nil {
		err = b.Err() // the disk may fail in the last moment, too
	}
	for range left {
		if serveErr := <-failed; !errors.Is(serveErr, broker.ErrClosed) && err == nil {
			err = serveErr
		}
	}
	if err == nil {
		logger.Info("stopped")
	}
	return err
}

// where says in the start line what survives.
func where(c *config.Config) string {
	if c.Data == "" {
		return "memory only: nothing survives a restart"
	}
	if path, err := filepath.Abs(c.Data); err == nil {
		return "data in " + path
	}
	return "data in " + c.Data
}

// openError says what to do about a data directory that cannot be used.
func openError(dir string, err error) error {
	switch {
	case dir == "":
		return err
	case errors.Is(err, vfs.ErrLocked):
		return fmt.Errorf("the data directory %s is in use by another broker: stop that one, or choose another directory with --data", dir)
	case errors.Is(err, seglog.ErrDamaged):
		_, what, _ := strings.Cut(err.Error(), seglog.ErrDamaged.Error()+": ") // the rest has been said
		return fmt.Errorf("the data directory %s is damaged, nothing has been changed: %s; "+
			"'warren check %s' shows what is wrong, 'warren salvage %s NEWDIR' copies what can be read", dir, what, dir, dir)
	case errors.Is(err, store.ErrFormat):
		return fmt.Errorf("the data directory %s was written by a newer version, nothing has been changed: %s; use that version", dir, plainOpen(err))
	}
	return fmt.Errorf("the data directory %s cannot be used: %s", dir, plainOpen(err))
}

// plainOpen is an error of broker.Open without the name of the package.
func plainOpen(err error) string { return strings.TrimPrefix(err.Error(), "broker: ") }

func newLogger(c config.Log, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// listen opens all addresses or none.
func listen(ctx context.Context, addrs []string) ([]net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // it has not all options that the server sets
	var open []net.Listener
	for _, a := range addrs {
		l, err := lc.Listen(ctx, "tcp", a)
		if err != nil {
			closeAll(open)
			return nil, fmt.Errorf("cannot listen on %s: %w", a, listenError(err))
		}
		open = append(open, l)
	}
	return open, nil
}

// listenManagement opens the address of the management API: none if it is off. An
// address that somebody named has to be free. The default one need not, so that a
// second broker on a machine, or one next to RabbitMQ, starts with nothing but
// another --listen; the start line says so then.
func listenManagement(ctx context.Context, c *config.Config) ([]net.Listener, error) {
	if c.Management == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Management)
	switch {
	case err == nil:
		return []net.Listener{l}, nil
	case errors.Is(err, syscall.EADDRINUSE) && !c.Named("management"):
		return nil, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s for the management API: the address is already in use (choose another with --management, or --management off)", c.Management)
	}
	return nil, fmt.Errorf("cannot listen on %s for the management API: %w", c.Management, listenError(err))
}

// managementText says in the start line where the management API is.
func managementText(c *config.Config, l []net.Listener) string {
	switch {
	case len(l) > 0:
		return ", management API on http://" + addresses(l) + "/api"
	case c.Management == "":
		return ""
	}
	return ", no management API: " + c.Management + " is already in use (choose another address with --management, or off)"
}

// listenError is the reason without the address, which the caller names.
func listenError(err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.New("the address is already in use (choose another with --listen)")
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &dns):
		return errors.New(dns.Err)
	}
	return err
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close() // nothing has been accepted yet
	}
}

func addresses(listeners []net.Listener) string {
	names := make([]string, len(listeners))
	for i, l := range listeners {
		names[i] = l.Addr().String()
	}
	return strings.Join(names, ", ")
}
