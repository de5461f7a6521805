package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/reliable"
)

// listing are the flags of ls, show and export.
type listing struct {
	letters
	chosen
	limit int
}

func (l *listing) addFlags(cmd *cobra.Command, limit int) {
	cmd.Flags().IntVar(&l.limit, "limit", limit, "at most so many; 0 for all")
	l.chosen.addFlags(cmd)
	l.target.addFlags(cmd)
}

// scan calls each for the dead letters that are chosen, oldest first, and says in
// the end what the look has done.
func (l *listing) scan(cmd *cobra.Command, queue string, each func(*reliable.DeadLetter) error) (shown int, err error) {
	if l.limit < 0 {
		return 0, usagef(cmd, "--limit cannot be negative")
	}
	f, err := l.filter(cmd)
	if err != nil {
		return 0, err
	}
	err = l.with(cmd, queue, func(ctx context.Context, d *reliable.DeadLetters) error {
		for letter, err := range d.Scan(ctx, f) {
			if err == nil {
				err = each(&letter)
			}
			if err != nil {
				return err
			}
			if shown++; shown == l.limit {
				break
			}
		}
		return nil
	})
	if l.scanned > 0 {
		note := "is"
		if l.scanned > 1 {
			note = "are"
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d of %s, which %s marked redelivered now: over AMQP a look takes messages and gives them back\n",
			queue, shown, count(l.scanned, "dead letter"), note)
	} else if err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: no dead letters\n", queue)
	}
	return shown, err
}

func dlqListCommand() *cobra.Command {
	l := &listing{}
	var from api
	var vhost string
	cmd := &cobra.Command{
		Use:   "ls [QUEUE]",
		Short: "List dead letters, or with --api the queues that have them",
		Long: `Ls QUEUE lists the dead letters of a queue, oldest first: since when they are dead,
why, how often they were tried, from which work queue they come, and the last error.

Without a QUEUE, and with --api, it finds the queues of dead letters of a broker and
says how many they hold: those at which the dead letters of another queue end, and
those for messages whose work queue is gone. That only reads the management API and
leaves no trace on messages.`,
		Example: `  warren dlq ls --api http://localhost:15672
  warren dlq ls orders.dlq
  warren dlq ls orders.dlq --reason attempts --error timeout --newer-than 24h
  warren dlq ls orders.dlq --json | jq -r .error | sort | uniq -c`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := from.client(cmd, &l.target)
			switch {
			case err != nil:
				return err
			case c == nil && len(args) == 0:
				return usagef(cmd, "AMQP cannot list queues: name a QUEUE, or give --api, such as --api http://localhost:15672")
			case c == nil && cmd.Flags().Changed("vhost"):
				return usagef(cmd, "--vhost goes with --api; over AMQP the virtual host is that of --url")
			case c == nil:
				return l.list(cmd, args[0])
			}
			defer c.Close()
			if len(args) > 0 || l.any(cmd) {
				return usagef(cmd, "--api finds queues; to look into one, name it without --api")
			}
			found, err := findDeadLetterQueues(cmd.Context(), c, vhost)
			if err != nil {
				return err
			}
			return printDeadLetterQueues(cmd, found, l.asJSON)
		},
	}
	from.addFlags(cmd, "to find the queues of dead letters")
	cmd.Flags().StringVar(&vhost, "vhost", "", "virtual host to look at with --api, if not all that the user may see")
	l.jsonFlag(cmd, "print each as a line of JSON: a dead letter as export does")
	l.addFlags(cmd, 0)
	return cmd
}

func (l *listing) list(cmd *cobra.Command, queue string) error {
	out := cmd.OutOrStdout()
	if l.asJSON {
		_, err := l.scan(cmd, queue, lineWriter(out))
		return err
	}
	header := false
	_, err := l.scan(cmd, queue, func(d *reliable.DeadLetter) error {
		if !header {
			header = true
			if err := printLetterRow(out, "ID", "DIED", "REASON", "TRIED", "FROM", "ERROR"); err != nil {
				return err
			}
		}
		return printLetterRow(out, d.ID, shortTime(d.Died), d.Reason, strconv.Itoa(d.Attempts), d.Queue, d.Error)
	})
	return err
}

func printLetterRow(out io.Writer, id, died, reason, tried, from, text string) error {
	row := fmt.Sprintf("%-36s  %-20s  %-14s %5s  %-20s  %s", cell(id, 60), cell(died, 20), cell(reason, 30), tried, cell(from, 60), cell(text, 120))
	_, err := fmt.Fprintln(out, strings.TrimRight(row, " "))
	return err
}

// cell is a text of somebody else's for one place in a line: clipped, and without
// what could break the line or command a terminal.
func cell(s string, most int) string {
	if s == "" {
		return "-"
	}
	s = visible(oneLine(s))
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most-1]) + "…"
	}
	return s
}

// visible quotes what a terminal would not show as it is.
func visible(s string) string {
	odd := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t' }
	if strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}

func shortTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// lineWriter writes dead letters in the form of an export.
func lineWriter(out io.Writer) func(*reliable.DeadLetter) error {
	var buf bytes.Buffer
	return func(d *reliable.DeadLetter) error {
		buf.Reset()
		e := json.NewEncoder(&buf)
		e.SetEscapeHTML(false)
		if err := e.Encode(d); err != nil {
			return fmt.Errorf("dead letter %s cannot be written as JSON: %w", d.ID, err)
		}
		_, err := out.Write(buf.Bytes())
		return err
	}
}

func dlqShowCommand() *cobra.Command {
	l := &listing{}
	cmd := &cobra.Command{
		Use:   "show QUEUE [ID...]",
		Short: "Show dead letters in full",
		Long: `Show prints all that there is to know about dead letters: those with the ids, or
those that the filters choose, the oldest one unless --limit says otherwise. If there
is none it ends with status 3.`,
		Example: `  warren dlq show orders.dlq
  warren dlq show orders.dlq 01998f2e-7c1b-7d3a-b2a0-5d7f9e1c0a44
  warren dlq show orders.dlq --error timeout --limit 10`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd, "%s wants QUEUE, and perhaps ids", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return l.show(cmd, args[0], args[1:]) },
	}
	l.jsonFlag(cmd, "print each as a line of JSON, as export does")
	l.addFlags(cmd, 1)
	return cmd
}

func (l *listing) show(cmd *cobra.Command, queue string, ids []string) error {
	if len(ids) > 0 {
		for _, id := range ids {
			if err := cmd.Flags().Set("id", id); err != nil {
				return err
			}
		}
		if !cmd.Flags().Changed("limit") {
			l.limit = 0
		}
	}
	each := lineWriter(cmd.OutOrStdout())
	if !l.asJSON {
		between := ""
		each = func(d *reliable.DeadLetter) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), between, letterText(d))
			between = "\n"
			return err
		}
	}
	missing := map[string]bool{}
	for _, id := range l.ids {
		missing[id] = true
	}
	shown, err := l.scan(cmd, queue, func(d *reliable.DeadLetter) error {
		delete(missing, d.ID)
		return each(d)
	})
	if err != nil {
		return err
	}
	if shown == 0 {
		return noSuchLetter(queue, l.any(cmd))
	}
	if len(missing) > 0 && shown != l.limit {
		return fmt.Errorf("%s has no dead letter with the id %s that is chosen", queue, strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
	}
	return nil
}

// errNoLetters is the failure of a show that found nothing.
var errNoLetters = errors.New("no such dead letter")

func noSuchLetter(queue string, filtered bool) error {
	if filtered {
		return fmt.Errorf("%w in %s", errNoLetters, queue)
	}
	return fmt.Errorf("%w: %s", errEmpty, queue)
}

// letterText is a dead letter for people.
func letterText(d *reliable.DeadLetter) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(&b, "%-14s %s\n", name, visible(text))
		}
	}
	line("id", "%s", d.ID)
	line("died", "%s", shortTime(d.Died))
	line("reason", "%s", d.Reason)
	line("error", "%s", d.Error)
	line("tried", "%s", map[bool]string{true: "unknown: only the server has seen it fail", false: strconv.Itoa(d.Attempts)}[d.Attempts == 0])
	if d.Generation > 0 {
		line("sent back", "%s before", count(d.Generation, "time"))
	}
	for _, h := range d.History {
		line("  attempt "+strconv.Itoa(h.Number), "%s  %s", shortTime(h.At), oneLine(h.Error))
	}
	if d.Duplicate {
		line("duplicate", "the same message stands in front of it")
	}
	line("work queue", "%s", d.Queue)
	line("published to", "exchange %q, routing key %q", d.Exchange, d.Key)
	line("published", "%s", shortTime(d.Published))
	line("first failed", "%s", shortTime(d.FirstFailed))
	line("type", "%s", d.Type)
	line("content type", "%s", d.ContentType)
	line("encoding", "%s", d.ContentEncoding)
	line("correlation", "%s", d.CorrelationID)
	line("reply to", "%s", d.ReplyTo)
	line("application", "%s", d.AppID)
	if d.Priority > 0 {
		line("priority", "%d", d.Priority)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		line("header", "%s: %s", name, headerText(d.Headers[name]))
	}
	line("body", "%s", count(len(d.Body), "byte"))
	if len(d.Body) > 0 {
		b.WriteString(visible(string(d.Body)))
		if !bytes.HasSuffix(d.Body, []byte("\n")) {
			b.WriteByte('\n')
		}
	}
	return b.String()
}
