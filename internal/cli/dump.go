package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/internal/core/message"
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
	"github.com/warrenmq/warren/internal/wire"
)

// dumping is the dump command with its flags.
type dumping struct {
	asJSON, bodies bool
	queue          string
	types          []string
	in             *store.Inspection
	out            *bufio.Writer
}

// recordTypes are the names that --type takes.
func recordTypes() []string {
	return []string{"publish", "publish-large", "settled", "delivered", "returned", "died", "queue", "queue-gone", "exchange", "exchange-gone",
		"binding", "binding-gone", "counters"}
}

func dumpCommand() *cobra.Command {
	d := &dumping{}
	cmd := &cobra.Command{
		Use:   "dump DIR",
		Short: "Print the records of a data directory, one a line",
		Long: `Dump prints what stands in the log of a data directory, one record a line, oldest
first, whether it still matters or not. It changes nothing. Records that cannot be
read are left out: check names them. No broker may be using the directory.

The types of records are ` + strings.Join(recordTypes(), ", ") + `.`,
		Example: `  warren dump ./warren-data --queue orders
  warren dump ./warren-data --type publish --json --bodies | jq -r .body`,
		Args: exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, t := range d.types {
				if !slices.Contains(recordTypes(), t) {
					return usagef(cmd, "--type: there are no records of type %q", t)
				}
			}
			in, err := inspect(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			return d.run(in, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.asJSON, "json", false, "print each record as a JSON object")
	f.BoolVar(&d.bodies, "bodies", false, "print message bodies too")
	f.StringVar(&d.queue, "queue", "", "only records of the queues with this `NAME`")
	f.StringSliceVar(&d.types, "type", nil, "only records of this `TYPE`; repeat for more")
	return cmd
}

func (d *dumping) run(in *store.Inspection, w io.Writer) error {
	d.in, d.out = in, bufio.NewWriterSize(w, 64<<10)
	err := in.Records(func(e seglog.Entry) error {
		l, ok := d.line(e)
		if !ok {
			return nil
		}
		if !d.asJSON {
			_, err := d.out.WriteString(l.text() + "\n")
			return err
		}
		enc := json.NewEncoder(d.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(l)
	})
	if ferr := d.out.Flush(); err == nil {
		err = ferr
	}
	return err
}

// dumpLine is one record; what does not apply to its type is left out.
type dumpLine struct {
	LSN        uint64      `json:"lsn"`
	File       string      `json:"file"`
	Offset     int64       `json:"offset"`
	Time       time.Time   `json:"time"` // of the batch it was written in
	Type       string      `json:"type"`
	VHost      *string     `json:"vhost,omitempty"`
	Name       *string     `json:"name,omitempty"`
	ID         uint64      `json:"id,omitempty"`
	Kind       string      `json:"exchange_type,omitempty"`
	Source     *string     `json:"source,omitempty"`
	Key        *string     `json:"routing_key,omitempty"`
	Exchange   *string     `json:"exchange,omitempty"`
	Arguments  []string    `json:"arguments,omitempty"`
	Queues     []dumpQueue `json:"queues,omitempty"`
	MessageID  string      `json:"message_id,omitempty"`
	BodyBytes  *uint64     `json:"body_bytes,omitempty"`
	Blob       string      `json:"blob,omitempty"` // the file with the body
	Body       *string     `json:"body,omitempty"`
	BodyBase64 []byte      `json:"body_base64,omitempty"`
	Error      string      `json:"error,omitempty"`
}

// dumpQueue is a queue's part in a record: one message, or a range of them.
type dumpQueue struct {
	ID       uint64 `json:"id"`
	Name     string `json:"queue,omitempty"`
	Priority int    `json:"priority,omitempty"`
	From     uint64 `json:"from"` // positions within the priority level
	To       uint64 `json:"to"`
	Returned uint32 `json:"returned,omitempty"`
	Failed   uint32 `json:"failed,omitempty"` // of these
	Died     string `json:"died,omitempty"`   // why
}

func (d *dumping) part(id queue.ID, from, to queue.Seq, t queue.Tries) dumpQueue {
	level, first := from.Split()
	_, last := to.Split()
	return dumpQueue{ID: uint64(id), Name: d.in.QueueName(id), Priority: level, From: first, To: last, Returned: t.Returned, Failed: t.Failed}
}

// line makes a line of a record, if it is wanted.
func (d *dumping) line(e seglog.Entry) (l dumpLine, ok bool) {
	l = dumpLine{LSN: uint64(e.LSN), File: fmt.Sprintf("log-%08d", e.Place.File()), Offset: e.Place.Offset(),
		Time: time.UnixMilli(e.TimeMillis).UTC(), Type: store.TypeName(e.Type)}
	if len(d.types) > 0 && !slices.Contains(d.types, l.Type) {
		return l, false
	}
	r, err := store.Decode(e)
	if err != nil {
		l.Error = err.Error()
		return l, d.queue == ""
	}
	switch r := r.(type) {
	case *store.Published:
		d.message(&l, r)
	case *store.Facts:
		for _, x := range r.Ranges {
			part := d.part(r.Queue, x.From, x.To, x.Tries)
			if x.Died != 0 {
				part.Died = x.Died.String()
			}
			l.Queues = append(l.Queues, part)
		}
	case *store.Definition:
		d.definition(&l, r)
	}
	if d.queue == "" {
		return l, true
	}
	named := l.Exchange == nil && l.Kind == "" && l.Name != nil && *l.Name == d.queue
	return l, named || slices.ContainsFunc(l.Queues, func(q dumpQueue) bool { return q.Name == d.queue })
}

func (d *dumping) message(l *dumpLine, p *store.Published) {
	m := message.Record(p.Message)
	exchange, key, size := string(m.Exchange()), string(m.Key()), m.BodyBytes()
	l.Exchange, l.Key, l.BodyBytes, l.Blob = &exchange, &key, &size, p.BlobName()
	if props, err := m.Properties(); err == nil {
		l.MessageID = props.MessageID
	}
	p.Queues(func(id queue.ID, seq queue.Seq, times uint32) {
		l.Queues = append(l.Queues, d.part(id, seq, seq, queue.Tries{Returned: times}))
	})
	if !d.bodies {
		return
	}
	body, err := d.in.Body(nil, p)
	if err != nil {
		l.Error = err.Error()
		return
	}
	if utf8.Valid(body) {
		text := string(body)
		l.Body = &text
	} else {
		l.BodyBase64 = body
	}
}

func (d *dumping) definition(l *dumpLine, def *store.Definition) {
	l.ID = def.ID
	for _, f := range def.Args {
		l.Arguments = append(l.Arguments, fmt.Sprintf("%s=%s", f.Key, argument(f.Value)))
	}
	switch def.Kind {
	case store.Counters:
		return
	case store.QueueDeleted:
		name := d.in.QueueName(queue.ID(def.ID))
		l.Name = &name
		return
	case store.ExchangeDeclared, store.ExchangeDeleted:
		l.Kind = def.Type
	case store.Bound, store.Unbound:
		l.Source, l.Key = &def.Source, &def.Key
		if def.ToExchange {
			l.Kind = "to an exchange"
		}
	}
	l.VHost, l.Name = &def.VHost, &def.Name
}

func argument(v any) string {
	if t, ok := v.(wire.Table); ok {
		return fmt.Sprintf("a table of %d", len(t))
	}
	return fmt.Sprint(v)
}

// text is the line for people.
func (l *dumpLine) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s:%d %s", l.LSN, l.File, l.Offset, l.Type)
	for _, q := range l.Queues {
		name := q.Name
		if name == "" {
			name = fmt.Sprintf("(queue %d)", q.ID)
		}
		fmt.Fprintf(&b, " %s#%d", name, q.From)
		if q.To != q.From {
			fmt.Fprintf(&b, "-%d", q.To)
		}
		if q.Priority > 0 {
			fmt.Fprintf(&b, " priority=%d", q.Priority)
		}
		if q.Returned > 0 {
			fmt.Fprintf(&b, " returned=%d", q.Returned)
		}
		if q.Failed > 0 {
			fmt.Fprintf(&b, " failed=%d", q.Failed)
		}
		if q.Died != "" {
			fmt.Fprintf(&b, " died=%s", q.Died)
		}
	}
	for _, f := range []struct {
		name  string
		value *string
	}{{"vhost", l.VHost}, {"source", l.Source}, {"name", l.Name}, {"exchange", l.Exchange}, {"key", l.Key}} {
		if f.value != nil {
			fmt.Fprintf(&b, " %s=%q", f.name, *f.value)
		}
	}
	if l.ID > 0 {
		fmt.Fprintf(&b, " id=%d", l.ID)
	}
	if l.Kind != "" {
		fmt.Fprintf(&b, " %s", l.Kind)
	}
	for _, a := range l.Arguments {
		b.WriteString(" " + a)
	}
	if l.MessageID != "" {
		fmt.Fprintf(&b, " id=%q", l.MessageID)
	}
	if l.BodyBytes != nil {
		fmt.Fprintf(&b, " %d bytes", *l.BodyBytes)
	}
	if l.Blob != "" {
		b.WriteString(" in " + l.Blob)
	}
	if l.Body != nil {
		fmt.Fprintf(&b, " %q", *l.Body)
	}
	if l.BodyBase64 != nil {
		fmt.Fprintf(&b, " %x", l.BodyBase64)
	}
	if l.Error != "" {
		b.WriteString(" ERROR " + l.Error)
	}
	return b.String()
}
