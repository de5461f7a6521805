package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// jsonMessage is one line of --json. Consume and get write it, publish reads it;
// what only a delivery has (redelivered, …) is ignored when reading.
type jsonMessage struct {
	Exchange     *string         `json:"exchange,omitempty"`
	RoutingKey   *string         `json:"routing_key,omitempty"`
	Redelivered  bool            `json:"redelivered,omitempty"`
	MessageCount *uint32         `json:"message_count,omitempty"` // left in the queue, get only
	Properties   *jsonProperties `json:"properties,omitempty"`
	Headers      map[string]any  `json:"headers,omitempty"`
	Body         *string         `json:"body,omitempty"`
	BodyBase64   []byte          `json:"body_base64,omitempty"`
}

// jsonProperties are the properties of class basic but headers. DeliveryMode is
// written even if the message has none (0), because publish takes a line
// without one for a persistent message.
type jsonProperties struct {
	ContentType     string `json:"content_type,omitempty"`
	ContentEncoding string `json:"content_encoding,omitempty"`
	DeliveryMode    *uint8 `json:"delivery_mode,omitempty"`
	Priority        uint8  `json:"priority,omitempty"`
	CorrelationID   string `json:"correlation_id,omitempty"`
	ReplyTo         string `json:"reply_to,omitempty"`
	Expiration      string `json:"expiration,omitempty"`
	MessageID       string `json:"message_id,omitempty"`
	Timestamp       any    `json:"timestamp,omitempty"`
	Type            string `json:"type,omitempty"`
	UserID          string `json:"user_id,omitempty"`
	AppID           string `json:"app_id,omitempty"`
}

// writer puts messages on a stream, each ended by a newline (or NUL).
type writer struct {
	asJSON bool
	end    byte
	buf    bytes.Buffer
	mixed  bool // a body held the end byte, so messages cannot be told apart
}

// add appends one message to the buffer.
func (w *writer) add(d *amqp.Delivery, left *uint32) error {
	if !w.asJSON {
		w.mixed = w.mixed || bytes.IndexByte(d.Body, w.end) >= 0
		w.buf.Write(d.Body)
		w.buf.WriteByte(w.end)
		return nil
	}
	enc := json.NewEncoder(&w.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(messageToJSON(d, left)); err != nil {
		return fmt.Errorf("a message cannot be written as JSON: %w", err)
	}
	if w.end != '\n' {
		w.buf.Bytes()[w.buf.Len()-1] = w.end
	}
	return nil
}

// flush writes what was added.
func (w *writer) flush(out io.Writer) error {
	_, err := w.buf.WriteTo(out)
	if err != nil {
		return fmt.Errorf("cannot write the messages: %w", err)
	}
	return nil
}

func messageToJSON(d *amqp.Delivery, left *uint32) *jsonMessage {
	m := &jsonMessage{
		Exchange: &d.Exchange, RoutingKey: &d.RoutingKey, Redelivered: d.Redelivered, MessageCount: left,
		Properties: &jsonProperties{
			ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: &d.DeliveryMode,
			Priority: d.Priority, CorrelationID: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration,
			MessageID: d.MessageId, Type: d.Type, UserID: d.UserId, AppID: d.AppId,
		},
	}
	if !d.Timestamp.IsZero() {
		m.Properties.Timestamp = timeToJSON(d.Timestamp)
	}
	if len(d.Headers) > 0 {
		m.Headers = tableToJSON(d.Headers)
	}
	if utf8.Valid(d.Body) {
		body := string(d.Body)
		m.Body = &body
	} else {
		m.BodyBase64 = d.Body
	}
	return m
}

// outgoing is a message to publish and where it came from.
type outgoing struct {
	exchange, key string
	msg           amqp.Publishing
	line          int // 1 is the first of the input
}

// messageFromJSON reads one line of --json.
func messageFromJSON(line []byte) (outgoing, error) {
	if !utf8.Valid(line) {
		return outgoing{}, errors.New("not UTF-8 (a body of bytes goes into body_base64)")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	d.DisallowUnknownFields()
	var m jsonMessage
	if err := d.Decode(&m); err != nil {
		return outgoing{}, jsonError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return outgoing{}, errors.New("more than one JSON value on the line")
	}
	if m.Body != nil && m.BodyBase64 != nil {
		return outgoing{}, errors.New("has both body and body_base64")
	}
	headers, err := tableFromJSON(m.Headers)
	if err != nil {
		return outgoing{}, fmt.Errorf("headers: %w", err)
	}
	o := outgoing{msg: amqp.Publishing{Body: m.BodyBase64, DeliveryMode: amqp.Persistent}}
	if len(headers) > 0 {
		o.msg.Headers = headers
	}
	if m.Exchange != nil {
		o.exchange = *m.Exchange
	}
	if m.RoutingKey != nil {
		o.key = *m.RoutingKey
	}
	if m.Body != nil {
		o.msg.Body = []byte(*m.Body)
	}
	if m.Properties != nil {
		if err := m.Properties.apply(&o.msg); err != nil {
			return outgoing{}, fmt.Errorf("properties: %w", err)
		}
	}
	return o, nil
}

// jsonError says in which way a line is not a message.
func jsonError(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("%s cannot be a %s", wrong.Field, wrong.Value)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("not a complete JSON object")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.As(err, &wrong) {
		return errors.New("not a JSON object")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: ")) // json: unknown field "x"
}

func (p *jsonProperties) apply(msg *amqp.Publishing) error {
	msg.ContentType, msg.ContentEncoding = p.ContentType, p.ContentEncoding
	msg.Priority, msg.CorrelationId, msg.ReplyTo = p.Priority, p.CorrelationID, p.ReplyTo
	msg.Expiration, msg.MessageId, msg.Type = p.Expiration, p.MessageID, p.Type
	msg.UserId, msg.AppId = p.UserID, p.AppID
	if p.DeliveryMode != nil {
		msg.DeliveryMode = *p.DeliveryMode
	}
	if p.Timestamp != nil {
		t, err := timeFromJSON(p.Timestamp)
		if err != nil {
			return fmt.Errorf("timestamp: %w", err)
		}
		msg.Timestamp = t
	}
	for _, s := range []string{
		p.ContentType, p.ContentEncoding, p.CorrelationID, p.ReplyTo, p.Expiration, p.MessageID, p.Type, p.UserID, p.AppID,
	} {
		if len(s) > 255 {
			return fmt.Errorf("%.20q… has %d bytes, at most 255 are allowed", s, len(s))
		}
	}
	return nil
}

// expirationOf is a time to live as the property expiration has it.
func expirationOf(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
