package mgmt

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/wire"
)

const (
	// maxGetMessages bounds how many messages one request may look at, and
	// maxGetBytes their bodies: what is behind stays in the queue.
	maxGetMessages = 10_000
	maxGetBytes    = 64 << 20
)

// body reads the request's body: a JSON object that has all of the keys.
func (q *request) body(required ...string) (map[string]any, error) {
	raw, err := io.ReadAll(q.http.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, &failure{http.StatusRequestEntityTooLarge, "bad_request",
				fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
		}
		return nil, badRequest("the body cannot be read: " + err.Error())
	}
	var parsed map[string]any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&parsed); err != nil || parsed == nil {
		return nil, badRequest("not_json")
	}
	var missing []string
	for _, key := range required {
		if _, ok := parsed[key]; !ok {
			missing = append(missing, "{key_missing,"+key+"}")
		}
	}
	if len(missing) == 0 {
		return parsed, nil
	}
	text := "[" + strings.Join(missing, ",") + "]"
	if len(text) > 80 { // the width at which RabbitMQ breaks its terms
		text = "[" + strings.Join(missing, ",\n ") + "]"
	}
	return nil, badRequest(text)
}

// integerOf is a number from 0 to 2^53, also one in quotes: rabbitmqadmin writes them
// so.
func integerOf(v any) (int, error) {
	text := fmt.Sprint(v)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return 0, badRequest([]string{"not_integer", text})
	}
	return int(n), nil
}

func disposalOf(ackmode any) (status.Disposal, error) {
	switch ackmode {
	case "ack_requeue_true", "reject_requeue_true":
		return status.PutBack, nil
	case "ack_requeue_false":
		return status.Take, nil
	case "reject_requeue_false":
		return status.Reject, nil
	}
	return 0, badRequest(fmt.Sprintf("Invalid ackmode value: %v. Valid values are: ack_requeue_true, "+
		"ack_requeue_false, reject_requeue_true, reject_requeue_false", ackmode))
}

// getMessages is POST …/get: it polls messages and gives them back, unless asked
// to end them.
func (q *request) getMessages() error {
	h, err := q.queue()
	if err != nil {
		if isMissing(err) {
			return &failure{http.StatusNotFound, "not_found", "queue_not_found"}
		}
		return err
	}
	body, err := q.body("count", "ackmode", "encoding")
	if err != nil {
		return err
	}
	count, err := integerOf(body["count"])
	if err != nil {
		return err
	}
	what, err := disposalOf(body["ackmode"])
	if err != nil {
		return err
	}
	encoding := body["encoding"]
	if encoding != "auto" && encoding != "base64" {
		return badRequest("Unsupported encoding. Please use auto or base64.")
	}
	truncate := -1
	if v, ok := body["truncate"]; ok {
		if truncate, err = integerOf(v); err != nil {
			return err
		}
	}
	answer, bytes := []byte{'['}, 0
	err = q.api.Messages.GetMessages(q.params[0], h.Name(), q.caller.name, min(count, maxGetMessages), what, func(m status.Message) bool {
		if len(answer) > 1 {
			answer = append(answer, ',')
		}
		answer = appendJSON(answer, messageRow(&m, encoding == "base64", truncate))
		bytes += len(m.Body)
		return bytes < maxGetBytes
	})
	if err != nil {
		return protocolFailure(err)
	}
	q.begin(http.StatusOK)
	q.w.Write(append(answer, ']'))
	return nil
}

func isMissing(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.err == "Object Not Found"
}

// protocolFailure is an AMQP error as RabbitMQ reports it here.
func protocolFailure(err error) error {
	var e *wire.Error
	if !errors.As(err, &e) {
		return err
	}
	return badRequest(fmt.Sprintf("%d %s", e.Code, e.Error()))
}

func messageRow(m *status.Message, inBase64 bool, truncate int) object {
	payload := m.Body
	if truncate >= 0 && truncate < len(payload) {
		payload = payload[:truncate]
	}
	text, encoding := string(payload), "string"
	if inBase64 || !utf8.Valid(payload) {
		text, encoding = base64.StdEncoding.EncodeToString(payload), "base64"
	}
	return object{
		{"payload_bytes", len(m.Body)}, {"redelivered", m.Redelivered}, {"exchange", m.Exchange}, {"routing_key", m.Key},
		{"message_count", m.Left}, {"properties", propertiesRow(&m.Properties)}, {"payload", text}, {"payload_encoding", encoding},
	}
}

// publishMessage is POST …/publish.
func (q *request) publishMessage() error {
	vhost, err := q.vhost(0)
	if err != nil {
		return err
	}
	name := exchangeName(q.params[1])
	if q.api.Topology.Exchange(vhost, name) == nil {
		return &failure{http.StatusNotFound, "not_found", "exchange_not_found"}
	}
	body, err := q.body("routing_key", "properties", "payload", "payload_encoding")
	if err != nil {
		return err
	}
	key, isString := body["routing_key"].(string)
	if !isString || len(key) > 255 {
		return badRequest("routing_key has to be a string of at most 255 bytes")
	}
	p := status.Publication{Exchange: name, Key: key}
	if p.Body, err = payloadOf(body["payload"], body["payload_encoding"]); err != nil {
		return err
	}
	if int64(len(p.Body)) > q.api.MaxMessageBytes {
		return badRequest(fmt.Sprintf("406 PRECONDITION_FAILED - message size %d is larger than configured max size %d",
			len(p.Body), q.api.MaxMessageBytes))
	}
	if p.Properties, err = propertiesOf(body["properties"]); err != nil {
		return err
	}
	routed, err := q.api.Messages.PublishMessage(q.http.Context(), vhost, q.caller.name, p)
	if err != nil {
		return protocolFailure(err)
	}
	q.send(http.StatusOK, object{{"routed", routed}})
	return nil
}

func payloadOf(payload, encoding any) ([]byte, error) {
	text, ok := payload.(string)
	if !ok {
		return nil, badRequest("payload has to be a string")
	}
	switch encoding {
	case "string":
		return []byte(text), nil
	case "base64":
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, badRequest([]string{"not_base64", text})
		}
		return b, nil
	}
	return nil, badRequest([]string{"unsupported_encoding", fmt.Sprint(encoding)})
}

func (q *request) purge() error {
	h, err := q.queue()
	if err != nil {
		return err
	}
	if err := q.api.Messages.PurgeQueue(q.params[0], h.Name(), q.caller.name); err != nil {
		return protocolFailure(err)
	}
	return q.noContent()
}
