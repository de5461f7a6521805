package reliabletest

import (
	"fmt"
	"math/bits"
	"net"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/internal/wire"
	"github.com/warrenmq/warren/reliable"
)

// Message is one that the program has published.
type Message struct {
	ID   string
	Type string
	// Exchange and Key are where it goes; those of a message to a queue are "" and the
	// queue's name, also if it is delayed.
	Exchange, Key string
	// Delay is what it was published with (reliable.After, reliable.At), rounded up to
	// reliable.DelayUnit.
	Delay time.Duration
	// Sent is how often the same message was sent: more than once if its connection was
	// lost before the confirm.
	Sent int

	ContentType, ContentEncoding string
	CorrelationID, ReplyTo       string
	AppID                        string
	Priority                     uint8
	Persistent                   bool
	Published                    time.Time // to the second; zero if it does not say
	Headers                      amqp.Table
	Body                         []byte

	codec           reliable.Codec
	rawExchange     string // as it was on the wire
	rawKey          string
	expiration      string
	there, returned bool // guarded by the Broker's mu
}

// describe fills in the properties.
func (m *Message) describe(raw []byte) {
	p, err := wire.ParseProperties(raw)
	if err != nil {
		return // the broker will say so
	}
	m.ID, m.Type, m.AppID = p.MessageID, p.Type, p.AppID
	m.ContentType, m.ContentEncoding = p.ContentType, p.ContentEncoding
	m.CorrelationID, m.ReplyTo, m.Priority = p.CorrelationID, p.ReplyTo, p.Priority
	m.Persistent, m.expiration = p.DeliveryMode == amqp.Persistent, p.Expiration
	if p.Flags&wire.FlagTimestamp != 0 {
		m.Published = time.Unix(int64(p.Timestamp), 0)
	}
	m.Headers = table(p.Headers)
}

// table is a field table as the official client has it.
func table(t wire.Table) amqp.Table {
	if t == nil {
		return nil
	}
	out := make(amqp.Table, len(t))
	for _, f := range t {
		out[f.Key] = value(f.Value)
	}
	return out
}

func value(v any) any {
	switch v := v.(type) {
	case wire.Table:
		return table(v)
	case wire.Array:
		list := make([]any, len(v))
		for i := range v {
			list[i] = value(v[i])
		}
		return list
	case wire.Timestamp:
		return time.Unix(int64(v), 0)
	case wire.Decimal:
		return amqp.Decimal{Scale: v.Scale, Value: int32(v.Value)}
	}
	return v
}

// internal says that package reliable has published it on its own account: a copy for
// a retry, a dead letter, one that was taken back.
func (m *Message) internal() bool {
	for name := range m.Headers {
		if strings.HasPrefix(name, "wrn-") {
			return true
		}
	}
	return false
}

// ofToolkit says that an exchange or a queue is one that all work queues share.
func ofToolkit(name string) bool {
	return strings.HasPrefix(name, "wrn.") || strings.Contains(name, ".wrn.")
}

// direct finds out where a message goes that was published into the delay network,
// whose keys are one digit for each level and then the queue.
func (m *Message) direct() {
	m.rawExchange, m.rawKey = m.Exchange, m.Key
	levels := bits.Len64(uint64(reliable.MaxDelay / reliable.DelayUnit))
	words := strings.SplitN(m.Key, ".", levels+1)
	if !ofToolkit(m.Exchange) || len(words) <= levels {
		return
	}
	var units int64
	for _, digit := range words[:levels] {
		units <<= 1
		switch digit {
		case "1":
			units |= 1
		case "0":
		default:
			return
		}
	}
	m.Exchange, m.Key, m.Delay = "", words[levels], time.Duration(units)*reliable.DelayUnit
}

// Published returns what the program has published and the broker has confirmed and
// routed to a queue, in the order of the publishes, each message once. What was
// published without confirms is taken to have arrived. Copies for retries and dead
// letters are not among it, and neither is what Publish publishes.
func (b *Broker) Published() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Message
	at := make(map[[3]string]int) // where a message stands, by id and destination
	for _, m := range b.record.messages {
		key := [3]string{m.ID, m.Exchange, m.Key}
		i, again := at[key]
		switch {
		case m.ID == "":
			again = false
		case again:
			list[i].Sent++
		default:
			at[key] = len(list)
		}
		if !again {
			list = append(list, *m)
		}
		if again && m.there {
			list[i].there = true
		}
	}
	var there []Message
	for _, m := range list {
		if m.there {
			there = append(there, m)
		}
	}
	return there
}

// PublishedTo is what of Published went to a queue by its name.
func (b *Broker) PublishedTo(q reliable.Queue) []Message {
	return b.published(func(m *Message) bool { return m.Exchange == "" && m.Key == q.Name })
}

// PublishedToExchange is what of Published went to an exchange.
func (b *Broker) PublishedToExchange(name string) []Message {
	return b.published(func(m *Message) bool { return m.Exchange == name })
}

func (b *Broker) published(wanted func(*Message) bool) (list []Message) {
	for _, m := range b.Published() {
		if wanted(&m) {
			list = append(list, m)
		}
	}
	return list
}

// copier publishes messages a second time, on a connection of its own.
type copier struct {
	to func(network, addr string) (net.Conn, error)

	mu   sync.Mutex
	raw  net.Conn
	conn *amqp.Connection
}

// publish publishes a copy. One that cannot be published is none: then the message
// itself cannot be either, and who published it hears why.
func (c *copier) publish(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil || c.conn.IsClosed() {
		conn, err := amqp.DialConfig("amqp://guest:guest@reliabletest/", amqp.Config{Dial: c.dial})
		if err != nil {
			return
		}
		c.conn = conn
	}
	defer time.AfterFunc(patience, func() { c.raw.Close() }).Stop() // a broker that blocks publishers does not read
	ch, err := c.conn.Channel()
	if err != nil {
		return
	}
	defer ch.Close() // waits for the broker, so the copy is there
	mode := uint8(amqp.Transient)
	if m.Persistent {
		mode = amqp.Persistent
	}
	_ = ch.Publish(m.rawExchange, m.rawKey, false, false, amqp.Publishing{
		MessageId: m.ID, Type: m.Type, AppId: m.AppID, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding,
		CorrelationId: m.CorrelationID, ReplyTo: m.ReplyTo, Priority: m.Priority, DeliveryMode: mode, Expiration: m.expiration,
		Timestamp: m.Published, Headers: m.Headers, Body: m.Body,
	})
}

func (c *copier) dial(network, addr string) (net.Conn, error) {
	raw, err := c.to(network, addr)
	c.raw = raw
	return raw, err
}

func (c *copier) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close() // the broker may be gone
	}
}

// text is a message in a line, for messages of tests.
func (m *Message) text() string {
	to := fmt.Sprintf("queue %q", m.Key)
	if m.Exchange != "" {
		to = fmt.Sprintf("exchange %q with key %q", m.Exchange, m.Key)
	}
	return fmt.Sprintf("%s to %s: %s", m.ID, to, shorten(string(m.Body)))
}
