package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"

	"github.com/warrenmq/warren/reliable"
)

// chosen are the flags that choose dead letters. A flag that is not given does not
// matter; with several, all have to hold.
type chosen struct {
	ids                      []string
	reason, text, kind       string
	queue, exchange, key     string
	headers                  []string
	minAttempts, maxAttempts int
	olderThan, newerThan     time.Duration
	scanned                  int // how many the filter has been asked about
}

// filterFlags are the names of the flags.
var filterFlags = [...]string{"id", "reason", "error", "type", "from-queue", "from-exchange", "from-key", "header",
	"min-attempts", "max-attempts", "older-than", "newer-than"}

func (c *chosen) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&c.ids, "id", nil, "only the message with this id; repeat for more")
	f.StringVar(&c.reason, "reason", "", "only those of this reason, such as permanent, attempts, rejected, expired, maxlen, delivery_limit, no-queue")
	f.StringVar(&c.text, "error", "", "only those whose last error contains this text")
	f.StringVar(&c.kind, "type", "", "only messages of this type")
	f.StringVar(&c.queue, "from-queue", "", "only those that come from this work queue")
	f.StringVar(&c.exchange, "from-exchange", "", `only those that were published to this exchange; "" for the default one`)
	f.StringVar(&c.key, "from-key", "", "only those that were published with this routing key")
	f.StringArrayVar(&c.headers, "header", nil, "only those with the header `NAME`, or NAME=VALUE; repeat for more, all have to be there")
	f.IntVar(&c.minAttempts, "min-attempts", 0, "only those that were tried at least so often")
	f.IntVar(&c.maxAttempts, "max-attempts", 0, "only those that were tried at most so often")
	f.DurationVar(&c.olderThan, "older-than", 0, "only those that have been dead for longer")
	f.DurationVar(&c.newerThan, "newer-than", 0, "only those that have not been dead for so long")
}

// any tells whether a flag was given.
func (c *chosen) any(cmd *cobra.Command) bool {
	return slices.ContainsFunc(filterFlags[:], cmd.Flags().Changed)
}

// filter reads the flags. A dead letter that does not say when it died is neither
// older nor newer than anything.
func (c *chosen) filter(cmd *cobra.Command) (reliable.Filter, error) {
	var none reliable.Filter
	if c.minAttempts < 0 || c.maxAttempts < 0 {
		return none, usagef(cmd, "--min-attempts and --max-attempts cannot be negative")
	}
	if c.olderThan < 0 || c.newerThan < 0 {
		return none, usagef(cmd, "--older-than and --newer-than cannot be negative")
	}
	given := cmd.Flags().Changed
	for _, name := range filterFlags {
		// A variable forgotten in a script must not choose everything.
		if f := cmd.Flags().Lookup(name); name != "from-exchange" && name != "from-key" && f.Changed && f.Value.Type() == "string" && f.Value.String() == "" {
			return none, usagef(cmd, "--%s is empty", name)
		}
	}
	var tests []func(*reliable.DeadLetter) bool
	need := func(is bool, test func(*reliable.DeadLetter) bool) {
		if is {
			tests = append(tests, test)
		}
	}
	now := time.Now()
	need(given("id"), func(d *reliable.DeadLetter) bool { return slices.Contains(c.ids, d.ID) })
	need(given("reason"), func(d *reliable.DeadLetter) bool { return d.Reason == c.reason })
	need(given("error"), func(d *reliable.DeadLetter) bool { return strings.Contains(d.Error, c.text) })
	need(given("type"), func(d *reliable.DeadLetter) bool { return d.Type == c.kind })
	need(given("from-queue"), func(d *reliable.DeadLetter) bool { return d.Queue == c.queue })
	need(given("from-exchange"), func(d *reliable.DeadLetter) bool { return d.Exchange == c.exchange })
	need(given("from-key"), func(d *reliable.DeadLetter) bool { return d.Key == c.key })
	need(given("min-attempts"), func(d *reliable.DeadLetter) bool { return d.Attempts >= c.minAttempts })
	need(given("max-attempts"), func(d *reliable.DeadLetter) bool { return d.Attempts <= c.maxAttempts })
	need(given("older-than"), func(d *reliable.DeadLetter) bool { return !d.Died.IsZero() && now.Sub(d.Died) > c.olderThan })
	need(given("newer-than"), func(d *reliable.DeadLetter) bool { return !d.Died.IsZero() && now.Sub(d.Died) < c.newerThan })
	for _, h := range c.headers {
		name, value, valued := strings.Cut(h, "=")
		if name == "" {
			return none, usagef(cmd, "--header: %q is not NAME or NAME=VALUE", h)
		}
		need(true, func(d *reliable.DeadLetter) bool {
			is, there := d.Headers[name]
			return there && (!valued || headerText(is) == value)
		})
	}
	return reliable.Filter{Match: func(d *reliable.DeadLetter) bool {
		c.scanned++
		for _, test := range tests {
			if !test(d) {
				return false
			}
		}
		return true
	}}, nil
}

// headerText is a header's value as a person writes it.
func headerText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case time.Time:
		return fmt.Sprint(timeToJSON(v))
	case []byte, []any, amqp.Table, amqp.Decimal:
		text, err := json.Marshal(fieldToJSON(v))
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	case nil:
		return "null"
	}
	return fmt.Sprint(v) // numbers, booleans
}
