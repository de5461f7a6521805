package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/vfs"
)

func checkCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Verify a data directory and say what is in it",
		Long: `Check reads all of a data directory: every checksum, the numbers of all records, and
whether each message stands where its queue says. It prints what it found in each
file and each queue, and what is damaged. It changes nothing. No broker may be
using the directory.

Exit status: 0 everything can be read, 1 something is damaged, 2 there is nothing
to check.`,
		Example: `  warren check ./warren-data
  warren check ./warren-data --json | jq '.queues[] | {name, messages}'`,
		Args: exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := inspect(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			show := printInspection
			if asJSON {
				show = printInspectionJSON
			}
			if err := show(cmd.OutOrStdout(), args[0], in); err != nil {
				return err
			}
			if in.Damaged() {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object, for programs")
	return cmd
}

func salvageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "salvage DIR NEWDIR",
		Short: "Copy what can be read of a damaged data directory to a new one",
		Long: `Salvage reads a data directory as check does and writes everything that can be read
to NEWDIR, which must be missing or empty: exchanges, queues, bindings, and
messages in their order. It says for each queue what was kept and what was lost.
DIR stays as it is.

Acknowledgements that cannot be read are lost too, so messages that were done may
come back. Messages of a queue whose definition is lost come into a queue named
salvaged-queue-N in the virtual host /.

Exit status: 0 nothing was lost, 1 something was, 2 there is nothing to salvage.`,
		Example: `  warren salvage ./warren-data ./warren-data-salvaged
  warren serve --data ./warren-data-salvaged`,
		Args: exactArgs("DIR", "NEWDIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := inspect(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			if err := in.Salvage(args[1]); errors.Is(err, store.ErrNotEmpty) {
				return &usageError{text: err.Error() + ": salvage writes to a new one"}
			} else if err != nil {
				return fmt.Errorf("cannot write %s: %w", args[1], err)
			}
			if err := printSalvaged(cmd.OutOrStdout(), args[0], args[1], in); err != nil {
				return err
			}
			if in.Damaged() {
				return errReported
			}
			return nil
		},
	}
}

// inspect reads a directory; what cannot be read at all is a usage error, to be
// told from damage by its status.
func inspect(dir string) (*store.Inspection, error) {
	in, err := store.Inspect(vfs.OS{}, dir)
	switch {
	case err == nil:
		return in, nil
	case errors.Is(err, vfs.ErrLocked):
		return nil, &usageError{text: fmt.Sprintf("the data directory %s is in use by a broker: stop it first", dir)}
	case errors.Is(err, fs.ErrNotExist):
		return nil, &usageError{text: dir + " is no data directory: " + err.Error()}
	}
	return nil, &usageError{text: fmt.Sprintf("the data directory %s cannot be read: %v", dir, err)}
}

func printInspection(w io.Writer, dir string, in *store.Inspection) error {
	var b strings.Builder
	fmt.Fprintf(&b, "data directory %s\n\n", dir)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "file\trecords\tfirst\tlast\tbytes\t")
	for _, f := range in.Log.Files {
		last := fmt.Sprint(f.End - 1)
		if f.End == f.First {
			last = "-"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%d\t\n", f.Name, f.Records, f.First, last, f.UsedBytes)
	}
	t.Flush() // into memory
	if in.Checkpoint != "" {
		fmt.Fprintf(&b, "checkpoint %s: a start reads the log from LSN %d on\n", in.Checkpoint, in.Log.Mark.From)
	}
	switch {
	case in.Log.Clean:
		b.WriteString("shut down in order\n")
	case in.Log.TornBytes > 0:
		fmt.Fprintf(&b, "not shut down in order; %d bytes at the end were being written and never confirmed\n", in.Log.TornBytes)
	default:
		b.WriteString("not shut down in order\n")
	}
	fmt.Fprintf(&b, "%s, %s, %s\n", count(len(in.Exchanges), "exchange"), count(len(in.Queues), "queue"), count(len(in.Bindings), "binding"))
	if in.Blobs+in.LeftBlobs > 0 {
		fmt.Fprintf(&b, "%s with a large body each, %d bytes", count(in.Blobs, "file"), in.BlobBytes)
		if in.LeftBlobs > 0 {
			fmt.Fprintf(&b, "; %d more that nothing needs, a start removes them", in.LeftBlobs)
		}
		b.WriteString("\n")
	}
	if len(in.Queues) > 0 {
		b.WriteString("\n")
		t = tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, "messages\tredelivered\tbytes\tlost\t  queue")
		for _, q := range in.Queues {
			fmt.Fprintf(t, "%d\t%d\t%d\t%d\t  %s in %s\n", q.Messages, q.Redelivered, q.BodyBytes, len(q.Unreadable), q.Name, q.VHost)
		}
		t.Flush() // into memory
	}
	b.WriteString("\n")
	if in.Damaged() {
		printDamage(&b, in)
		fmt.Fprintf(&b, "'warren salvage %s NEWDIR' copies what can be read\n", dir)
	} else {
		b.WriteString("everything can be read\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// maxShown bounds how many places of one queue are listed.
const maxShown = 20

// printDamage names every bad place and what it costs.
func printDamage(b *strings.Builder, in *store.Inspection) {
	for _, s := range in.Bad {
		fmt.Fprintf(b, "DAMAGED %s at offset %d: %s%s\n", s.File, s.Offset, s.Why, lostRecords(s))
	}
	unreadable := 0
	for _, q := range in.Queues {
		if q.Orphan {
			fmt.Fprintf(b, "LOST the definition of the queue with id %d, which holds %s\n", q.ID, count(q.Messages, "message"))
		}
		for i, u := range q.Unreadable {
			if i == maxShown {
				fmt.Fprintf(b, "LOST %d more of queue %s in %s\n", len(q.Unreadable)-i, q.Name, q.VHost)
				break
			}
			fmt.Fprintf(b, "LOST a message of queue %s in %s, which stood in %s at offset %d\n", q.Name, q.VHost, u.File, u.Offset)
		}
		unreadable += len(q.Unreadable)
	}
	lost := in.Log.Lost()
	fmt.Fprintf(b, "%s damaged", count(len(in.Bad), "place"))
	switch {
	case lost == 0 && unreadable == 0:
		b.WriteString("; nothing that was confirmed is lost\n")
	case lost == 0:
		fmt.Fprintf(b, "; %s lost\n", count(unreadable, "message"))
	default:
		fmt.Fprintf(b, "; %s lost, each a message, an acknowledgement or a definition", count(int(lost), "confirmed record"))
		if unreadable > 0 {
			fmt.Fprintf(b, "; of them or besides, %s that a queue still names", count(unreadable, "message"))
		}
		b.WriteString("\n")
	}
}

func lostRecords(s seglog.BadSpot) string {
	switch s.End - s.First {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; LSN %d is lost", s.First)
	}
	return fmt.Sprintf("; LSN %d to %d are lost", s.First, s.End-1)
}

func printSalvaged(w io.Writer, dir, newDir string, in *store.Inspection) error {
	var b strings.Builder
	fmt.Fprintf(&b, "copied from %s to %s: %s, %s, %s\n", dir, newDir,
		count(len(in.Exchanges), "exchange"), count(len(in.Queues), "queue"), count(len(in.Bindings), "binding"))
	for _, q := range in.Queues {
		fmt.Fprintf(&b, "queue %s in %s: %s kept, %d lost\n", q.Name, q.VHost, count(q.Messages, "message"), len(q.Unreadable))
	}
	if in.Damaged() {
		printDamage(&b, in)
	} else {
		b.WriteString("nothing was damaged, nothing is lost\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
