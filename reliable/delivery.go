package reliable

import (
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The headers that a message gets on its way. None begins with "x-": what does
// belongs to the server, and some servers ignore it when a client sends it.
const (
	headerAttempt     = "wrn-attempt"      // int64, number of the attempt that this copy is for
	headerGeneration  = "wrn-generation"   // int64, how often it was redriven
	headerExchange    = "wrn-exchange"     // where it was published
	headerKey         = "wrn-key"          // with which key
	headerFirstFailed = "wrn-first-failed" // RFC 3339
	headerError       = "wrn-error"        // of the latest attempt
	headerHistory     = "wrn-history"      // of earlier ones, a list of tables
	headerQueue       = "wrn-queue"        // the work queue; in dead letters
	headerReason      = "wrn-reason"       // in dead letters
	headerDied        = "wrn-died"         // RFC 3339; in dead letters
)

// Why a message is a dead letter. Besides these, what the server says: "rejected",
// "expired", "maxlen", "delivery_limit".
const (
	ReasonPermanent  = "permanent"  // its handler said so (Permanent, or Classify)
	ReasonAttempts   = "attempts"   // it failed MaxAttempts times
	ReasonUnreadable = "unreadable" // its body is not what the consumer reads
	ReasonNoHandler  = "no-handler" // a Mux has no handler for its type
	ReasonNoID       = "no-id"      // it has no id to be recognized by
)

const (
	maxErrorBytes   = 4 << 10
	maxHistory      = 10
	maxHistoryBytes = 256 // of the error in an entry
)

// Delivery is a message that a consumer got.
type Delivery struct {
	// ID is the message id; empty if its publisher set none.
	ID string
	// Type is what the publisher called the message.
	Type string
	// Exchange and Key are where the message was published, also when it comes from
	// a retry.
	Exchange, Key string
	// Queue is where it was consumed.
	Queue string
	// Attempt is 1 the first time, and one more after each failure. What does not
	// count: Snooze, Pause, a drain, and deliveries that were lost with their
	// connection.
	Attempt int
	// Generation is how often it was taken back from the dead letters.
	Generation int
	// Redelivered says that the broker has delivered this copy before.
	Redelivered bool
	// Published is when, to the second; zero if the publisher did not say.
	Published time.Time
	// FirstFailed is when the first attempt failed; zero before.
	FirstFailed time.Time
	// LastError is the text of the error of the attempt before.
	LastError string

	ContentType   string
	CorrelationID string
	ReplyTo       string
	Priority      uint8
	// Headers are all headers. They must not be changed.
	Headers amqp.Table
	// Raw is the body as it came.
	Raw []byte

	message *amqp.Delivery
}

// Message is a message with its body as a value.
type Message[T any] struct {
	Body T
	*Delivery
}

// newDelivery reads what came. d is the consumer's from now on.
func newDelivery(queue string, d *amqp.Delivery) *Delivery {
	m := &Delivery{
		ID: d.MessageId, Type: d.Type, Exchange: d.Exchange, Key: d.RoutingKey, Queue: queue, Attempt: 1, Redelivered: d.Redelivered,
		Published: d.Timestamp, ContentType: d.ContentType, CorrelationID: d.CorrelationId, ReplyTo: d.ReplyTo, Priority: d.Priority,
		Headers: d.Headers, Raw: d.Body, message: d,
	}
	if len(d.Headers) > 0 {
		m.readHeaders()
	}
	return m
}

func (m *Delivery) readHeaders() {
	h := m.Headers
	if n, ok := h[headerAttempt].(int64); ok && n > 0 {
		m.Attempt = int(min(n, 1<<30))
	}
	if n, ok := h[headerGeneration].(int64); ok && n > 0 {
		m.Generation = int(min(n, 1<<30))
	}
	if exchange, ok := h[headerExchange].(string); ok {
		m.Exchange = exchange
	}
	if key, ok := h[headerKey].(string); ok {
		m.Key = key
	} else if inNetwork(m.Exchange) {
		// It was published with a delay, to this queue.
		m.Exchange, m.Key = "", m.Queue
	}
	m.LastError, _ = h[headerError].(string)
	m.FirstFailed = headerTime(h, headerFirstFailed)
}

func headerTime(h amqp.Table, name string) time.Time {
	text, _ := h[name].(string)
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// serverHeader says that a header is made by the server, or routes: it must not be
// carried into a copy. A server that finds its own x-death in a message would take
// the copy for a cycle and drop it.
func serverHeader(name string) bool {
	switch name {
	case "x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC":
		return true
	}
	return strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
}

// copyOf is a message with the same id, body and properties as d, to be published
// in its place. The expiration is not taken along, nor the user id, which would
// have to be that of this connection.
func copyOf(d *Delivery) amqp.Publishing {
	m := d.message
	headers := make(amqp.Table, len(m.Headers)+6)
	for name, value := range m.Headers {
		if !serverHeader(name) {
			headers[name] = value
		}
	}
	if _, known := headers[headerKey]; !known {
		headers[headerExchange], headers[headerKey] = d.Exchange, d.Key
	}
	return amqp.Publishing{
		Headers: headers, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, DeliveryMode: amqp.Persistent,
		Priority: m.Priority, CorrelationId: m.CorrelationId, ReplyTo: m.ReplyTo, MessageId: m.MessageId,
		Timestamp: m.Timestamp, Type: m.Type, AppId: m.AppId, Body: m.Body,
	}
}

// recordFailure writes an attempt's error into the headers of a copy.
func recordFailure(headers amqp.Table, d *Delivery, err error, now time.Time) {
	stamp := now.UTC().Format(time.RFC3339Nano)
	if d.FirstFailed.IsZero() {
		headers[headerFirstFailed] = stamp
	}
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	headers[headerError] = clip(text, maxErrorBytes)
	history, _ := headers[headerHistory].([]any)
	history = append(history[:len(history):len(history)], amqp.Table{
		"attempt": int64(d.Attempt), "at": stamp, "error": clip(text, maxHistoryBytes),
	})
	headers[headerHistory] = history[max(0, len(history)-maxHistory):]
	fit(headers)
}

// fit drops what can be done without until the headers fit a frame.
func fit(headers amqp.Table) {
	if tableBytes(headers) <= maxHeaderBytes {
		return
	}
	delete(headers, headerHistory)
	if text, ok := headers[headerError].(string); ok && tableBytes(headers) > maxHeaderBytes {
		headers[headerError] = clip(text, maxHistoryBytes)
	}
}

// clip cuts a text to at most limit bytes, between characters.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const mark = "…"
	cut := limit - len(mark)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}

// withoutOurs is a message's headers as its publisher set them.
func withoutOurs(headers amqp.Table) amqp.Table {
	own := maps.Clone(headers)
	maps.DeleteFunc(own, func(name string, _ any) bool { return strings.HasPrefix(name, "wrn-") || serverHeader(name) })
	if len(own) == 0 {
		return nil
	}
	return own
}
