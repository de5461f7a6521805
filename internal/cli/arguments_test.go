package cli

import (
	"reflect"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/spf13/cobra"
)

func TestParseArgument(t *testing.T) {
	for text, want := range map[string]any{
		"k=5": int64(5), "k=-5": int64(-5), "k=5x": "5x", "k=true": true, "k=false": false, "k=": "", "k=a=b": "a=b", "k=1.5": "1.5",
		`k:="5"`: "5", "k:=1.5": 1.5, "k:=5": int64(5), "k:=null": nil, `k:={"$int32":5}`: int32(5), `k:=[1,"x"]`: []any{int64(1), "x"},
		`k:={"a":{"b":true}}`: amqp.Table{"a": amqp.Table{"b": true}},
	} {
		key, got, err := parseArgument(text)
		if err != nil || key != "k" || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %s, %#v, %v; want %#v", text, key, got, err, want)
		}
	}
	for _, text := range []string{"", "k", "=v", ":=1", "k:=", "k:=x", "k:=1 2", `k:={"$int8":999}`} {
		if key, got, err := parseArgument(text); err == nil {
			t.Errorf("%q was read as %s, %#v", text, key, got)
		}
	}
}

func TestQueueArguments(t *testing.T) {
	for _, c := range []struct {
		args []string
		want amqp.Table
	}{
		{nil, amqp.Table{}},
		{[]string{"--ttl", "30s", "--expires", "1h", "--type", "quorum"}, amqp.Table{"x-message-ttl": int64(30000), "x-expires": int64(3600000), "x-queue-type": "quorum"}},
		{[]string{"--ttl", "0s", "--dead-letter-exchange", "", "--max-length", "0"}, amqp.Table{"x-message-ttl": int64(0), "x-dead-letter-exchange": "", "x-max-length": int64(0)}},
		{[]string{"--arg", "x-a=1", "--arg", "x-b:=[true]", "--single-active-consumer"}, amqp.Table{"x-a": int64(1), "x-b": []any{true}, "x-single-active-consumer": true}},
		{[]string{"--max-length-bytes", "9", "--overflow", "reject-publish", "--dead-letter-routing-key", "k", "--max-priority", "5", "--delivery-limit", "3"},
			amqp.Table{"x-max-length-bytes": int64(9), "x-overflow": "reject-publish", "x-dead-letter-routing-key": "k", "x-max-priority": int64(5), "x-delivery-limit": int64(3)}},
	} {
		var q queueArguments
		cmd := &cobra.Command{}
		q.addFlags(cmd)
		if err := cmd.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		got, err := q.table(cmd)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: got %v, %v; want %v", c.args, got, err, c.want)
		}
	}
}
