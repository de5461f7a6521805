package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
)

// argUsage explains the values of --arg and --header.
// The backquotes make it the name of the value in the help.
const argUsage = "`KEY=VALUE`: a whole number if it looks like one, true or false, else text; KEY:=JSON for any other type"

// parseArgument reads key=value or key:=JSON. In key=value a value that is a
// whole number becomes an int64, true and false become booleans, and everything
// else is text, so 'key:="5"' is the way to the text 5.
func parseArgument(text string) (key string, value any, err error) {
	key, raw, ok := strings.Cut(text, "=")
	if !ok || key == "" || key == ":" {
		return "", nil, fmt.Errorf("%q is not key=value or key:=JSON", text)
	}
	if name, isJSON := strings.CutSuffix(key, ":"); isJSON {
		value, err := decodeJSONValue(raw)
		if err != nil {
			return "", nil, fmt.Errorf("%q: %w", text, err)
		}
		return name, value, nil
	}
	if n, err := strconv.ParseInt(raw, 10, 64); err == nil {
		return key, n, nil
	}
	switch raw {
	case "true":
		return key, true, nil
	case "false":
		return key, false, nil
	}
	return key, raw, nil
}

func decodeJSONValue(raw string) (any, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("what follows := is not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one JSON value after :=")
	}
	return fieldFromJSON(v)
}

// parseArguments makes a table of the values of a repeated flag.
func parseArguments(cmd *cobra.Command, flag string, texts []string) (amqp.Table, error) {
	table := amqp.Table{}
	for _, text := range texts {
		key, value, err := parseArgument(text)
		if err != nil {
			return nil, usagef(cmd, "--%s: %s", flag, err)
		}
		table[key] = value
	}
	return table, nil
}

// queueArguments are the friendly names of queue arguments.
type queueArguments struct {
	kind           string
	ttl            time.Duration
	expires        time.Duration
	maxLength      int64
	maxLengthBytes int64
	overflow       string
	dlx            string
	dlKey          string
	maxPriority    int64
	deliveryLimit  int64
	single         bool
	args           []string
}

func (q *queueArguments) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&q.kind, "type", "", "queue type: classic or quorum (x-queue-type)")
	f.DurationVar(&q.ttl, "ttl", 0, "how long a message may wait, such as 30s (x-message-ttl)")
	f.DurationVar(&q.expires, "expires", 0, "delete the queue when unused for so long (x-expires)")
	f.Int64Var(&q.maxLength, "max-length", 0, "messages the queue may hold (x-max-length)")
	f.Int64Var(&q.maxLengthBytes, "max-length-bytes", 0, "bytes of bodies the queue may hold (x-max-length-bytes)")
	f.StringVar(&q.overflow, "overflow", "", "when full: drop-head, reject-publish or reject-publish-dlx (x-overflow)")
	f.StringVar(&q.dlx, "dead-letter-exchange", "", "exchange for rejected, expired and dropped messages, '' for the default one (x-dead-letter-exchange)")
	f.StringVar(&q.dlKey, "dead-letter-routing-key", "", "their routing key, if not their own (x-dead-letter-routing-key)")
	f.Int64Var(&q.maxPriority, "max-priority", 0, "make it a priority queue with priorities up to N (x-max-priority)")
	f.Int64Var(&q.deliveryLimit, "delivery-limit", 0, "failed deliveries before a message is dead-lettered, quorum only (x-delivery-limit)")
	f.BoolVar(&q.single, "single-active-consumer", false, "only one consumer gets messages, the others stand by (x-single-active-consumer)")
	f.StringArrayVar(&q.args, "arg", nil, "any other argument, "+argUsage+"; repeat for more")
}

// table has an entry for every flag that was given, even with a zero value:
// --ttl 0 and --dead-letter-exchange ” mean something.
func (q *queueArguments) table(cmd *cobra.Command) (amqp.Table, error) {
	table, err := parseArguments(cmd, "arg", q.args)
	if err != nil {
		return nil, err
	}
	for _, a := range []struct {
		flag, key string
		value     any
	}{
		{"type", "x-queue-type", q.kind},
		{"ttl", "x-message-ttl", q.ttl.Milliseconds()},
		{"expires", "x-expires", q.expires.Milliseconds()},
		{"max-length", "x-max-length", q.maxLength},
		{"max-length-bytes", "x-max-length-bytes", q.maxLengthBytes},
		{"overflow", "x-overflow", q.overflow},
		{"dead-letter-exchange", "x-dead-letter-exchange", q.dlx},
		{"dead-letter-routing-key", "x-dead-letter-routing-key", q.dlKey},
		{"max-priority", "x-max-priority", q.maxPriority},
		{"delivery-limit", "x-delivery-limit", q.deliveryLimit},
		{"single-active-consumer", "x-single-active-consumer", q.single},
	} {
		if cmd.Flags().Changed(a.flag) {
			table[a.key] = a.value
		}
	}
	return table, nil
}
