package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

// ofToolkit says that an exchange or a queue is one of those that the toolkit's
// work queues share, of whatever namespace. Its levels dead-letter on purpose, to
// the next level and to work queues.
func ofToolkit(name string) bool {
	return strings.HasPrefix(name, "wrn.v1") || strings.Contains(name, ".wrn.v1")
}

// deadLetterQueue is a queue where dead letters end.
type deadLetterQueue struct {
	VHost    string   `json:"vhost"`
	Name     string   `json:"name"`
	Messages int      `json:"messages"`
	Ready    int      `json:"ready"`
	Unacked  int      `json:"unacknowledged"`
	From     []string `json:"from"` // queues whose dead letters come here; empty for lost messages
}

// findDeadLetterQueues follows the dead letters of all queues. Those that end in a
// queue make it one of dead letters; a queue whose own dead letters lead back to it
// is a work queue with a retry queue next to it, or that retry queue.
func findDeadLetterQueues(ctx context.Context, c *mgmtclient.Client, vhost string) ([]deadLetterQueue, error) {
	queues, err := c.Queues(ctx, vhost)
	if err != nil {
		return nil, err
	}
	bindings, err := c.Bindings(ctx, vhost)
	if err != nil {
		return nil, err
	}
	exchanges, err := c.Exchanges(ctx, vhost)
	if err != nil {
		return nil, err
	}
	return deadLetterQueues(queues, exchanges, bindings), nil
}

// place is a queue or an exchange of a virtual host.
type place struct{ vhost, name string }

func deadLetterQueues(queues []mgmtclient.Queue, exchanges []mgmtclient.Exchange, bindings []mgmtclient.Binding) []deadLetterQueue {
	kinds := map[place]string{}
	for _, e := range exchanges {
		kinds[place{e.VHost, e.Name}] = e.Type
	}
	from := map[place][]mgmtclient.Binding{}
	for _, b := range bindings {
		from[place{b.VHost, b.Source}] = append(from[place{b.VHost, b.Source}], b)
	}
	targets, sources := map[place][]place{}, map[place][]string{}
	for i := range queues {
		q := &queues[i]
		exchange, has := q.Argument("x-dead-letter-exchange").(string)
		if !has || ofToolkit(q.Name) {
			continue
		}
		at := place{q.VHost, q.Name}
		key, keyed := q.Argument("x-dead-letter-routing-key").(string)
		for _, name := range reached(exchange, key, keyed, q, kinds, from) {
			to := place{q.VHost, name}
			targets[at] = append(targets[at], to)
			sources[to] = append(sources[to], q.Name)
		}
	}
	var found []deadLetterQueue
	for i := range queues {
		q := &queues[i]
		at := place{q.VHost, q.Name}
		lost := ofToolkit(q.Name) && strings.HasSuffix(q.Name, ".lost")
		if !lost && (len(sources[at]) == 0 || leadsTo(targets, at, at)) {
			continue
		}
		slices.Sort(sources[at])
		found = append(found, deadLetterQueue{VHost: q.VHost, Name: q.Name, Messages: q.Messages, Ready: q.Ready, Unacked: q.Unacked,
			From: append([]string{}, slices.Compact(sources[at])...)})
	}
	slices.SortFunc(found, func(a, b deadLetterQueue) int {
		return cmp.Or(cmp.Compare(a.VHost, b.VHost), cmp.Compare(a.Name, b.Name))
	})
	return found
}

// reached are the queues that an exchange can lead a dead letter of q to. Direct
// bindings are compared with the key, if it is known; what other exchanges decide by
// pattern or headers counts as reached.
func reached(exchange, key string, keyed bool, q *mgmtclient.Queue, kinds map[place]string, from map[place][]mgmtclient.Binding) (names []string) {
	if exchange == "" {
		if keyed {
			return []string{key}
		}
		return nil // it keeps its key, which led to q itself: the server drops it
	}
	seen, open := map[string]bool{exchange: true}, []string{exchange}
	for len(open) > 0 {
		at := place{q.VHost, open[0]}
		open = open[1:]
		for _, b := range from[at] {
			switch {
			case keyed && kinds[at] == "direct" && b.Key != key:
			case b.DestinationType == "queue":
				names = append(names, b.Destination)
			case !seen[b.Destination]:
				seen[b.Destination] = true
				open = append(open, b.Destination)
			}
		}
	}
	return names
}

// leadsTo tells whether dead letters of a queue can come to another one.
func leadsTo(targets map[place][]place, start, end place) bool {
	seen, open := map[place]bool{}, slices.Clone(targets[start])
	for len(open) > 0 {
		at := open[0]
		open = open[1:]
		if at == end {
			return true
		}
		if !seen[at] {
			seen[at] = true
			open = append(open, targets[at]...)
		}
	}
	return false
}

func printDeadLetterQueues(cmd *cobra.Command, found []deadLetterQueue, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		for _, q := range found {
			if err := e.Encode(q); err != nil {
				return err
			}
		}
		return nil
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "no queues of dead letters: no queue has an x-dead-letter-exchange that leads to one")
		return err
	}
	var b strings.Builder
	row := func(messages, unacked any, vhost, name, from string) {
		fmt.Fprintf(&b, "%10v %10v  %-12s  %-30s  %s\n", messages, unacked, cell(vhost, 40), cell(name, 80), cell(from, 120))
	}
	row("MESSAGES", "UNACKED", "VHOST", "QUEUE", "FROM")
	for _, q := range found {
		from := strings.Join(q.From, ", ")
		if from == "" {
			from = "messages whose work queue is gone"
		}
		row(q.Messages, q.Unacked, q.VHost, q.Name, from)
	}
	_, err := fmt.Fprint(out, b.String())
	return err
}
