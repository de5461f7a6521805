package reliable

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable/internal/link"
)

// DeadLetter is a message that nobody could handle.
type DeadLetter struct {
	ID   string
	Type string
	// Queue is the work queue that it comes from; empty if that is not known.
	Queue string
	// Exchange and Key are where the message was published first.
	Exchange, Key string
	// Reason is why it is here: one of the Reason constants, or what the server
	// says ("rejected", "expired", "maxlen", "delivery_limit"). A message whose
	// queue did not exist has "no-queue".
	Reason string
	// Error is that of the last attempt; empty if the server moved the message.
	Error      string
	Attempts   int // how often it was tried; 0 if only the server knows
	Generation int // how often it was taken back
	History    []FailedAttempt
	// Duplicate says that the same message, of the same attempt and with the same
	// body, stands in front of it: a connection was lost before the dead letter was
	// confirmed, and it was sent again. Redrive sends only one of them.
	Duplicate bool

	Published, FirstFailed, Died time.Time // zero if unknown

	ContentType, ContentEncoding string
	CorrelationID, ReplyTo       string
	AppID                        string
	Priority                     uint8
	// Headers are those of its publisher.
	Headers amqp.Table
	Body    []byte
}

// ReasonNoQueue is that of a message whose work queue did not exist.
const ReasonNoQueue = "no-queue"

// FailedAttempt is one of the last attempts of a dead letter.
type FailedAttempt struct {
	Number int
	At     time.Time
	Error  string // its first 256 bytes
}

// Filter chooses dead letters. What is zero does not matter; the zero Filter
// chooses all.
type Filter struct {
	IDs           []string // one of these
	Reason        string
	Queue         string // the work queue
	Type          string
	ErrorContains string
	MinAttempts   int
	DiedAfter     time.Time
	DiedBefore    time.Time
	Match         func(*DeadLetter) bool
}

func (f *Filter) matches(d *DeadLetter) bool {
	switch {
	case len(f.IDs) > 0 && !slices.Contains(f.IDs, d.ID),
		f.Reason != "" && f.Reason != d.Reason,
		f.Queue != "" && f.Queue != d.Queue,
		f.Type != "" && f.Type != d.Type,
		!strings.Contains(d.Error, f.ErrorContains),
		d.Attempts < f.MinAttempts,
		!f.DiedAfter.IsZero() && !d.Died.After(f.DiedAfter),
		!f.DiedBefore.IsZero() && !d.Died.Before(f.DiedBefore):
		return false
	}
	return f.Match == nil || f.Match(d)
}

// DeadLetters is a queue of dead letters.
type DeadLetters struct {
	client *Client
	queue  string
}

// DeadLetters are those of a work queue.
func (c *Client) DeadLetters(of Queue) *DeadLetters {
	return &DeadLetters{client: c, queue: of.DeadLetterQueue()}
}

// DeadLettersIn are those in any queue, also one that this package has not made.
func (c *Client) DeadLettersIn(queue string) *DeadLetters {
	return &DeadLetters{client: c, queue: queue}
}

// Lost are the messages whose work queue did not exist when they came to it.
func (c *Client) Lost() *DeadLetters {
	return &DeadLetters{client: c, queue: networkOf(c.queues).lost()}
}

// Name is the queue's.
func (d *DeadLetters) Name() string { return d.queue }

// held is a dead letter that was taken from its queue and not given back yet.
type held struct {
	DeadLetter
	tag  uint64
	same identity
}

// identity is what duplicates have in common.
type identity struct {
	id, queue            string
	generation, attempts int
	body                 [sha256.Size]byte
}

func (d *DeadLetter) identity() identity {
	return identity{d.ID, d.Queue, d.Generation, d.Attempts, sha256.Sum256(d.Body)}
}

// visitor looks at dead letters. After the last call of look there is one of
// finish.
type visitor interface {
	look(ctx context.Context, ch *amqp.Channel, h *held) (more bool, err error)
	finish(ctx context.Context, ch *amqp.Channel)
}

// visit takes what is in the queue now, one after the other, shows it to v, and
// gives back in the end what v has not settled on ch. Nothing is delivered twice
// meanwhile, because it stays taken.
func (d *DeadLetters) visit(ctx context.Context, v visitor) error {
	l, _, err := d.client.consumeLink(ctx)
	if err != nil {
		return err
	}
	conn, err := l.Conn(ctx, 0)
	if err != nil {
		return fmt.Errorf("reliable: dead letters in %q: %w", d.queue, err)
	}
	if err := d.visitOn(ctx, conn, v); err != nil {
		return fmt.Errorf("reliable: dead letters in %q: %w", d.queue, err)
	}
	return nil
}

func (d *DeadLetters) visitOn(ctx context.Context, conn *link.Conn, v visitor) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close() // gives back what is not settled, in its place
	q, err := ch.QueueDeclarePassive(d.queue, true, false, false, false, nil)
	if err != nil {
		return err
	}
	defer v.finish(ctx, ch)
	seen := map[identity]bool{}
	for range q.Messages { // not what comes meanwhile, or it might have no end
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		raw, there, err := ch.Get(d.queue, false)
		if err != nil || !there {
			return err
		}
		h := &held{DeadLetter: deadLetterOf(d.queue, &raw), tag: raw.DeliveryTag}
		if h.ID != "" {
			h.same = h.identity()
			h.Duplicate = seen[h.same]
			seen[h.same] = true
		}
		more, err := v.look(ctx, ch, h)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Scan goes through the dead letters that the filter chooses, oldest first, and
// leaves them where they are. While it runs nobody else gets them. Afterwards they
// count as delivered before, and a queue with a delivery limit would drop them
// after so many scans; those of this package have none.
//
// The error, if there is one, comes last, with a zero DeadLetter.
func (d *DeadLetters) Scan(ctx context.Context, f Filter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		s := &scan{filter: f, yield: yield}
		if err := d.visit(ctx, s); err != nil && !s.stopped {
			yield(DeadLetter{}, err)
		}
	}
}

// scan is the visitor that only shows.
type scan struct {
	filter  Filter
	yield   func(DeadLetter, error) bool
	stopped bool
}

func (s *scan) look(_ context.Context, _ *amqp.Channel, h *held) (bool, error) {
	if s.filter.matches(&h.DeadLetter) && !s.yield(h.DeadLetter, nil) {
		s.stopped = true
	}
	return !s.stopped, nil
}

func (s *scan) finish(context.Context, *amqp.Channel) {}

// deadLetterOf reads a message of a queue of dead letters.
func deadLetterOf(queue string, m *amqp.Delivery) DeadLetter {
	d := DeadLetter{
		ID: m.MessageId, Type: m.Type, Exchange: m.Exchange, Key: m.RoutingKey, Published: m.Timestamp,
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, CorrelationID: m.CorrelationId, ReplyTo: m.ReplyTo,
		AppID: m.AppId, Priority: m.Priority, Headers: withoutOurs(m.Headers), Body: m.Body,
	}
	d.readDeath(m.Headers)
	h := m.Headers
	if name, ok := h[headerQueue].(string); ok {
		d.Queue = name
	}
	if exchange, ok := h[headerExchange].(string); ok {
		d.Exchange = exchange
	}
	if key, ok := h[headerKey].(string); ok {
		d.Key = key
	}
	if reason, ok := h[headerReason].(string); ok {
		d.Reason = reason
	}
	d.Error, _ = h[headerError].(string)
	if n, ok := h[headerAttempt].(int64); ok {
		d.Attempts = int(n)
	}
	if n, ok := h[headerGeneration].(int64); ok {
		d.Generation = int(n)
	}
	d.FirstFailed = headerTime(h, headerFirstFailed)
	if died := headerTime(h, headerDied); !died.IsZero() {
		d.Died = died
	}
	list, _ := h[headerHistory].([]any)
	for _, entry := range list {
		table, _ := entry.(amqp.Table)
		n, _ := table["attempt"].(int64)
		text, _ := table["error"].(string)
		d.History = append(d.History, FailedAttempt{Number: int(n), At: headerTime(table, "at"), Error: text})
	}
	d.guessOrigin(queue)
	return d
}

// readDeath takes from x-death what the server says of the latest death outside of
// the delay network.
func (d *DeadLetter) readDeath(h amqp.Table) {
	deaths, _ := h["x-death"].([]any)
	for _, entry := range deaths {
		table, _ := entry.(amqp.Table)
		queue, _ := table["queue"].(string)
		if strings.HasPrefix(queue, networkVersion) {
			continue
		}
		d.Queue = queue
		d.Reason, _ = table["reason"].(string)
		d.Died, _ = table["time"].(time.Time)
		d.Exchange, _ = table["exchange"].(string)
		if keys, _ := table["routing-keys"].([]any); len(keys) > 0 {
			d.Key, _ = keys[0].(string)
		}
		return
	}
}

// guessOrigin fills in what only the routing key can tell: a message that was lost
// on its way has its queue at the end of the key.
func (d *DeadLetter) guessOrigin(queue string) {
	inNetwork := strings.HasPrefix(d.Exchange, networkVersion)
	if d.Queue == "" && inNetwork {
		d.Queue = d.Key
		if len(d.Key) > 2*delayLevels && !strings.HasSuffix(d.Exchange, ".dlx") {
			d.Queue = d.Key[2*delayLevels:]
		}
		if d.Reason == "" {
			d.Reason = ReasonNoQueue
		}
	}
	if d.Queue == "" {
		d.Queue, _ = strings.CutSuffix(queue, ".dlq")
		if d.Queue == queue {
			d.Queue = ""
		}
	}
	if inNetwork { // it was published with a delay, to its queue
		d.Exchange, d.Key = "", d.Queue
	}
}

// errNoOrigin is that a dead letter does not say where it comes from.
var errNoOrigin = errors.New("it does not say which queue it comes from: set RedriveOptions.To")
