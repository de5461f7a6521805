package outbox

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// ErrInvalid is what Add returns for a message that could never be published.
var ErrInvalid = errors.New("invalid message")

const (
	// MaxNameBytes bounds the id, the exchange, the routing key and the properties: AMQP has room for so many.
	MaxNameBytes = 255
	// MaxKeyBytes bounds the key that messages are ordered by.
	MaxKeyBytes = 512
	// MaxBodyBytes bounds a body.
	MaxBodyBytes = 128 << 20
	// MaxHeadersBytes bounds all headers together, as they are stored. Sent, they fit one frame of RabbitMQ's
	// default size.
	MaxHeadersBytes = 128 << 10
)

// Message is one to be published, always as persistent.
type Message struct {
	ID         string // message_id, by which consumers recognise a duplicate; required
	Key        string // messages with the same key keep their order; "" has none
	Exchange   string // "" is the default exchange
	RoutingKey string
	Properties Properties
	// Headers may hold what AMQP clients can send: nil, bool, byte and signed integers, floats, string, []byte,
	// time.Time, lists and maps of them. The relay gets the same types back, with lists as []any, maps as map[string]any
	// and times in UTC.
	Headers   map[string]any
	Body      []byte
	DeliverAt time.Time // not before; zero means at once
}

// Properties are those of AMQP that a program may set.
type Properties struct {
	ContentType     string `json:"content_type,omitempty"`
	ContentEncoding string `json:"content_encoding,omitempty"`
	CorrelationID   string `json:"correlation_id,omitempty"`
	ReplyTo         string `json:"reply_to,omitempty"`
	Expiration      string `json:"expiration,omitempty"`
	Type            string `json:"type,omitempty"`
	AppID           string `json:"app_id,omitempty"`
	Priority        uint8  `json:"priority,omitempty"`
}

// Row is a message as the relay gets it.
type Row struct {
	Message
	Seq      int64     // its place in the outbox
	Attempts int       // how often it could not be published
	Added    time.Time // when Add was called
}

// check returns an ErrInvalid that says what is wrong.
func (m *Message) check() error {
	if m.ID == "" {
		return fmt.Errorf("%w: it has no id: consumers need one to recognise a duplicate", ErrInvalid)
	}
	p := &m.Properties
	for _, f := range []struct{ name, value string }{
		{"id", m.ID}, {"exchange", m.Exchange}, {"routing key", m.RoutingKey}, {"content type", p.ContentType},
		{"content encoding", p.ContentEncoding}, {"correlation id", p.CorrelationID}, {"reply-to", p.ReplyTo},
		{"expiration", p.Expiration}, {"type", p.Type}, {"app id", p.AppID},
	} {
		if len(f.value) > MaxNameBytes {
			return fmt.Errorf("%w: message %.40q: its %s has %d bytes, at most %d fit", ErrInvalid, m.ID, f.name, len(f.value), MaxNameBytes)
		}
		if !utf8.ValidString(f.value) {
			return fmt.Errorf("%w: message %.40q: its %s is not UTF-8", ErrInvalid, m.ID, f.name)
		}
	}
	if len(m.Key) > MaxKeyBytes {
		return fmt.Errorf("%w: message %q: its key has %d bytes, at most %d fit", ErrInvalid, m.ID, len(m.Key), MaxKeyBytes)
	}
	if len(m.Body) > MaxBodyBytes {
		return fmt.Errorf("%w: message %q: its body has %d bytes, at most %d fit", ErrInvalid, m.ID, len(m.Body), MaxBodyBytes)
	}
	return nil
}

// validHeaders checks the message and returns its headers as they are stored.
func (m *Message) validHeaders() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	headers, err := encodeHeaders(m.Headers)
	if err != nil {
		return nil, fmt.Errorf("%w: message %q: header %w", ErrInvalid, m.ID, err)
	}
	if len(headers) > MaxHeadersBytes {
		return nil, fmt.Errorf("%w: message %q: its headers take %d bytes, at most %d fit", ErrInvalid, m.ID, len(headers), MaxHeadersBytes)
	}
	return headers, nil
}
