package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/reliable"
)

func dlqExportCommand() *cobra.Command {
	l := &listing{}
	var path string
	cmd := &cobra.Command{
		Use:   "export QUEUE",
		Short: "Write dead letters as lines of JSON, and leave them where they are",
		Long: `Export writes dead letters, oldest first, each as a line of JSON that import reads and
that keeps every byte of body, exchange, key and headers, and the headers' types. A
body that is not UTF-8 stands in base64. They stay in the queue; purge removes them.`,
		Example: `  warren dlq export orders.dlq --output orders.jsonl
  warren dlq export orders.dlq --reason attempts | jq -r .error | sort | uniq -c
  warren dlq export orders.dlq | warren dlq import orders.dlq --url amqp://guest:guest@other/`,
		Args: exactArgs("QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path == "" {
				if cmd.Flags().Changed("output") {
					return usagef(cmd, "--output is empty")
				}
				return l.export(cmd, args[0], cmd.OutOrStdout())
			}
			file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("--output: %s is there already, and is not overwritten", path)
			} else if err != nil {
				return fmt.Errorf("--output: %w", err)
			}
			err = l.export(cmd, args[0], file)
			if err == nil {
				err = file.Sync()
			}
			return errors.Join(err, file.Close())
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "file to write to instead of stdout; it must not exist")
	l.addFlags(cmd, 0)
	return cmd
}

func (l *listing) export(cmd *cobra.Command, queue string, to io.Writer) error {
	out := bufio.NewWriter(to)
	_, err := l.scan(cmd, queue, lineWriter(out))
	return errors.Join(err, out.Flush())
}

// importing is the import command with its flags.
type importing struct {
	letters
	path   string
	dryRun bool
}

func dlqImportCommand() *cobra.Command {
	i := &importing{}
	cmd := &cobra.Command{
		Use:   "import QUEUE",
		Short: "Put exported dead letters into a queue of dead letters",
		Long: `Import publishes what export wrote into a queue, and waits until the broker has
confirmed each. There they are dead letters as before, with their reason and history:
redrive sends them to the work queue that they came from.

It stops at the first line that is wrong or cannot be published and says which;
those before it are in the queue. What is imported twice is there twice.`,
		Example: `  warren dlq import orders.dlq --file orders.jsonl
  warren dlq import orders.dlq --file orders.jsonl --dry-run`,
		Args: exactArgs("QUEUE"),
		RunE: func(cmd *cobra.Command, args []string) error { return i.run(cmd, args[0]) },
	}
	cmd.Flags().StringVarP(&i.path, "file", "f", "", "file to read instead of stdin")
	cmd.Flags().BoolVar(&i.dryRun, "dry-run", false, "only check that every line can be read; needs no broker")
	i.jsonFlag(cmd, "print a JSON object, for programs")
	i.target.addFlags(cmd)
	return cmd
}

func (i *importing) run(cmd *cobra.Command, queue string) error {
	in := cmd.InOrStdin()
	switch {
	case i.path == "" && cmd.Flags().Changed("file"):
		return usagef(cmd, "--file is empty")
	case i.path != "":
		file, err := os.Open(i.path)
		if err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		defer file.Close()
		in = file
	}
	in = &interruptible{lines: readLines(cmd.Context(), in, '\n'), ctx: cmd.Context()}
	if i.dryRun {
		return i.check(cmd, queue, in)
	}
	return i.with(cmd, queue, func(ctx context.Context, d *reliable.DeadLetters) error {
		done, err := d.Import(ctx, in)
		r := reportOf(queue, done, false, err)
		r.Scanned = 0 // nothing was looked at
		if err != nil && done.Scanned == 0 {
			return err
		}
		perr := r.print(cmd, i.asJSON, "imported", "")
		if err != nil {
			return err
		}
		return perr
	})
}

// check reads all lines as the import would.
func (i *importing) check(cmd *cobra.Command, queue string, in io.Reader) error {
	d := json.NewDecoder(in)
	for n := 1; ; n++ {
		var letter reliable.DeadLetter
		err := d.Decode(&letter)
		switch {
		case errors.Is(err, io.EOF):
			r := &report{Queue: queue, Done: n - 1, DryRun: true}
			return r.print(cmd, i.asJSON, "", "could be imported")
		case cmd.Context().Err() != nil:
			return errors.New("interrupted")
		case err != nil:
			return fmt.Errorf("dead letter %d of the import: %w", n, err)
		}
	}
}

// interruptible reads lines until the command ends: reading stdin itself cannot be
// interrupted.
type interruptible struct {
	lines <-chan line
	ctx   context.Context
	rest  []byte
}

func (i *interruptible) Read(p []byte) (int, error) {
	if len(i.rest) == 0 {
		select {
		case l, more := <-i.lines:
			switch {
			case !more:
				return 0, io.EOF
			case l.err != nil:
				return 0, l.err
			}
			i.rest = append(l.data, '\n')
		case <-i.ctx.Done():
			return 0, context.Cause(i.ctx)
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}
