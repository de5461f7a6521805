package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

// deadLetterKeyPolicy names the queue for dead letters, where one is given.
const deadLetterKeyPolicy = "dead-letter-routing-key"

// settings are what a queue lacks, as keys of a policy, by queue.
type settings map[Place]map[string]any

// give has a queue's command include some settings. It returns a mark that stands
// for the command until all checks are done, because a queue has one policy only:
// the commands of two findings must not undo each other.
func (x *examination) give(q *mgmtclient.Queue, keys map[string]any) (mark string) {
	p := placeOf(q)
	if x.wanted[p] == nil {
		x.wanted[p] = map[string]any{}
	}
	maps.Copy(x.wanted[p], keys)
	return markOf(p)
}

// markOf is text that no name contains.
func markOf(p Place) string { return "\x00" + p.VHost + "\x00" + p.Name + "\x00" }

// writeCommands puts the commands where their marks are.
func (x *examination) writeCommands() {
	for i := range x.Findings {
		f := &x.Findings[i]
		for p := range x.wanted {
			if strings.Contains(f.Mend, markOf(p)) {
				f.Mend = strings.ReplaceAll(f.Mend, markOf(p), x.command(p))
			}
		}
	}
}

// command gives a queue all that it lacks: by a policy on RabbitMQ, which has what
// the present one has, too. WarrenMQ has no policies, so there the queue is made
// anew, with the arguments that it has.
func (x *examination) command(p Place) string {
	q, first := x.queues[p], ""
	if key, isNew := x.wanted[p][deadLetterKeyPolicy].(string); isNew {
		first = fmt.Sprintf("warren declare queue %s && ", quote(key))
	}
	if !x.warren() {
		definition := map[string]any{}
		maps.Copy(definition, q.Policy)
		maps.Copy(definition, x.wanted[p])
		text, err := json.Marshal(definition)
		if err != nil {
			text = []byte("{}") // what was read as JSON can be written
		}
		return first + fmt.Sprintf("rabbitmqctl set_policy --vhost %s --priority 100 --apply-to queues %s %s %s", quote(p.VHost),
			quote("mend-"+p.Name), quote("^"+escapeRegexp(p.Name)+"$"), quote(string(text)))
	}
	arguments := map[string]any{}
	maps.Copy(arguments, q.Arguments)
	for k, v := range x.wanted[p] {
		arguments["x-"+k] = v
	}
	delete(arguments, "x-queue-type")
	var b strings.Builder
	b.WriteString(first)
	ifEmpty, note := " --if-empty", "arguments cannot be changed; bind it again"
	if q.Type == "quorum" { // there is no such deletion of them
		ifEmpty, note = "", "once it is empty: its messages go with it. Arguments cannot be changed; bind it again"
	}
	fmt.Fprintf(&b, "warren delete queue %s%s && warren declare queue %s --type %s", quote(p.Name), ifEmpty, quote(p.Name), orAny(q.Type, "classic"))
	for _, k := range slices.Sorted(maps.Keys(arguments)) {
		b.WriteString(" --arg " + quote(argument(k, arguments[k])))
	}
	return b.String() + " (" + note + ")"
}

// argument is a queue argument as warren declare takes it.
func argument(key string, value any) string {
	switch v := value.(type) {
	case int:
		return fmt.Sprintf("%s=%d", key, v)
	case float64:
		if v == float64(int64(v)) {
			return fmt.Sprintf("%s=%d", key, int64(v))
		}
	case bool:
		return fmt.Sprintf("%s=%t", key, v)
	case string:
		if _, err := strconv.ParseInt(v, 10, 64); err != nil && v != "true" && v != "false" {
			return key + "=" + v
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		text = []byte("null") // what was read as JSON can be written
	}
	return fmt.Sprintf("%s:=%s", key, text)
}

func escapeRegexp(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(`\.+*?()|[]{}^$`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
