package cli

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestMessagesSurviveJSON(t *testing.T) {
	for name, d := range map[string]amqp.Delivery{
		"nothing set": {Body: []byte{}},
		"everything set": {
			Exchange: "x", RoutingKey: "a.b", Headers: amqp.Table{"k": "v"}, ContentType: "text/plain", ContentEncoding: "gzip",
			DeliveryMode: 1, Priority: 7, CorrelationId: "c", ReplyTo: "r", Expiration: "1000", MessageId: "m",
			Timestamp: time.Unix(1767323045, 0).UTC(), Type: "t", UserId: "u", AppId: "a", Body: []byte("line\nline \"quoted\" <é> \u2028"),
		},
		"bytes":               {Body: []byte{0xff, 0, 0xfe}},
		"a date without form": {Timestamp: time.Unix(1<<40, 0).UTC(), Body: []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := writer{asJSON: true, end: '\n'}
			if err := w.add(&d, nil); err != nil {
				t.Fatal(err)
			}
			line := w.buf.Bytes()
			if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
				t.Errorf("not one line: %q", line)
			}
			got, err := messageFromJSON(line)
			if err != nil {
				t.Fatal(err)
			}
			want := outgoing{exchange: d.Exchange, key: d.RoutingKey, msg: amqp.Publishing{
				Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode,
				Priority: d.Priority, CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId,
				Timestamp: d.Timestamp, Type: d.Type, UserId: d.UserId, AppId: d.AppId, Body: d.Body,
			}}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s\nbecame %+v\nwant   %+v", line, got, want)
			}
		})
	}
}

func TestAShortLineIsAPersistentMessage(t *testing.T) {
	got, err := messageFromJSON([]byte(`{"routing_key":"q","redelivered":true,"message_count":3}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.key != "q" || got.exchange != "" || got.msg.DeliveryMode != amqp.Persistent || len(got.msg.Body) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestBadLines(t *testing.T) {
	for line, want := range map[string]string{
		``:                                     "not a complete JSON object",
		`{"body":"x"`:                          "not a complete JSON object",
		`hello`:                                "not a JSON object",
		`"hello"`:                              "not a JSON object",
		`[1]`:                                  "not a JSON object",
		`{"bdoy":"x"}`:                         `unknown field "bdoy"`,
		`{"body":5}`:                           "body cannot be a number",
		`{"body":"x"}{}`:                       "more than one JSON value on the line",
		`{"body":"x","body_base64":""}`:        "has both body and body_base64",
		`{"body_base64":"!"}`:                  "illegal base64 data at input byte 0",
		`{"properties":{"delivery_mode":300}}`: "properties.delivery_mode cannot be a number 300",
		`{"properties":{"timestamp":"x"}}`:     `properties: timestamp: "x" is not a time such as 2026-01-02T03:04:05Z`,
		`{"headers":{"n":{"$int8":500}}}`:      "headers: n: $int8 has a value that is not one",
		"{\"body\":\"\xff\"}":                  "not UTF-8 (a body of bytes goes into body_base64)",
		`{"properties":{"type":"` + strings.Repeat("x", 256) + `"}}`: `properties: "xxxxxxxxxxxxxxxxxxxx"… has 256 bytes, at most 255 are allowed`,
	} {
		_, err := messageFromJSON([]byte(line))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}
}

func TestPlainWriterWarnsOfMixedMessages(t *testing.T) {
	w := writer{end: '\n'}
	for _, body := range []string{"a", "b"} {
		if err := w.add(&amqp.Delivery{Body: []byte(body)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if w.mixed || w.buf.String() != "a\nb\n" {
		t.Errorf("mixed %v, %q", w.mixed, w.buf.String())
	}
	if err := w.add(&amqp.Delivery{Body: []byte("c\nd")}, nil); err != nil || !w.mixed {
		t.Errorf("a body with a newline went unnoticed (%v)", err)
	}
}

func TestReadLines(t *testing.T) {
	for _, c := range []struct {
		in   string
		end  byte
		want []string
	}{
		{"", '\n', nil}, {"a", '\n', []string{"a"}}, {"a\n", '\n', []string{"a"}}, {"a\n\nb\r\n", '\n', []string{"a", "", "b\r"}},
		{"a\nb\x00c", 0, []string{"a\nb", "c"}}, {strings.Repeat("x", 100_000) + "\ny", '\n', []string{strings.Repeat("x", 100_000), "y"}},
	} {
		var got []string
		for l := range readLines(t.Context(), strings.NewReader(c.in), c.end) {
			if l.err != nil {
				t.Fatal(l.err)
			}
			got = append(got, string(l.data))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%.20q: got %.40q, want %.40q", c.in, got, c.want)
		}
	}
}
