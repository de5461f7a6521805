package reliable

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
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
	client  *Client
	queue   string
	without bool // if there is no such queue, there are no dead letters
}

// DeadLetters are those of a work queue.
func (c *Client) DeadLetters(of Queue) *DeadLetters {
	return &DeadLetters{client: c, queue: of.DeadLetterQueue()}
}

// DeadLettersIn are those in any queue, also one that this package has not made.
func (c *Client) DeadLettersIn(queue string) *DeadLetters {
	return &DeadLetters{client: c, queue: queue}
}

// Lost are the messages whose work queue did not exist when they came to it. There
// are none before the first queue is declared.
func (c *Client) Lost() *DeadLetters {
	return &DeadLetters{client: c, queue: c.networkOf(c.queues).lost(), without: true}
}

// Name is the queue's.
func (d *DeadLetters) Name() string { return d.queue }

// held is a dead letter that was taken from its queue and not given back yet.
type held struct {
	DeadLetter
	tag  uint64
	same identity
	open openTags
}

// ack removes the dead letter from its queue.
func (h *held) ack(ch *amqp.Channel) error {
	if err := ch.Ack(h.tag, false); err != nil {
		return err
	}
	delete(h.open, h.tag)
	return nil
}

// openTags are those that are taken and not settled.
type openTags map[uint64]bool

// last is the highest that is not above a tag, 0 if there is none.
func (o openTags) last(most uint64) (last uint64) {
	for tag := range o {
		if tag <= most {
			last = max(last, tag)
		}
	}
	return last
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
	err = d.visitOn(ctx, conn, v)
	if refused, ok := errors.AsType[*amqp.Error](err); ok && refused.Code == amqp.NotFound && d.without {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reliable: dead letters in %q: %w", d.queue, err)
	}
	return nil
}

func (d *DeadLetters) visitOn(ctx context.Context, conn *link.Conn, v visitor) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close() // gives back what is not settled
	q, err := ch.QueueDeclarePassive(d.queue, true, false, false, false, nil)
	if err == nil {
		err = ch.Qos(scanBatch, 0, false)
	}
	if err != nil {
		return err
	}
	w := &walk{queue: d.queue, ch: ch, expected: q.Messages, visitor: v, open: openTags{}, seen: map[identity]bool{}}
	defer func() {
		w.giveBack()
		time.Sleep(d.client.server.settleTime())
	}()
	defer v.finish(ctx, ch)
	for n := 1; ; n++ {
		tag := fmt.Sprintf("scan-%d", n)
		more, err := w.batch(ctx, tag)
		cerr := ch.Cancel(tag, false) // first, or it would get again what is given back
		w.ends = append(w.ends, w.newest)
		if err = cmp.Or(err, cerr); err != nil || !more {
			return err
		}
	}
}

// giveBack returns everything, which keeps the order if what each consumer has goes
// at once, and the oldest consumer's first. If it fails, all come back when the
// channel closes.
func (w *walk) giveBack() {
	for _, end := range w.ends[:max(0, len(w.ends)-1)] {
		if tag := w.open.last(end); tag > 0 {
			if w.ch.Nack(tag, true, true) != nil {
				return
			}
			maps.DeleteFunc(w.open, func(open uint64, _ bool) bool { return open <= tag })
		}
	}
	_ = w.ch.Nack(0, true, true) // also what was delivered and not looked at
}

// walk is one way through a queue. What it takes it takes by consumers, one after
// the other: RabbitMQ gives back what one consumer has in its order, but not what
// was got one by one.
type walk struct {
	queue    string
	ch       *amqp.Channel
	expected int // messages that the queue was said to have
	taken    int
	visitor  visitor
	open     openTags
	newest   uint64   // the last delivery tag
	ends     []uint64 // the last delivery tag of each consumer
	seen     map[identity]bool
}

const (
	// scanBatch is how many dead letters a walk's consumer has at a time, which
	// bounds what is in memory.
	scanBatch = 500
	// scanSlack is how many more than the queue was said to have are looked at:
	// the count lags behind, but what comes all the time has no end.
	scanSlack = 10_000
	// scanIdle is how long nothing has to come for the queue to be asked whether
	// it is empty.
	scanIdle = 20 * time.Millisecond
	// scanPatience is how long messages are waited for that the queue was said to
	// have.
	scanPatience = 2 * time.Second
	// scanStuck is how long messages are waited for that the queue has.
	scanStuck = 20 * time.Second
)

// errStuck is that the queue has messages and does not deliver them.
var errStuck = errors.New("messages are there and are not delivered: another consumer is the queue's single active one, or the server is stuck")

// batch takes what one consumer can have. It returns false when the queue is at its
// end, or the visitor has seen enough.
func (w *walk) batch(ctx context.Context, tag string) (more bool, err error) {
	deliveries, err := w.ch.ConsumeWithContext(context.Background(), w.queue, tag, false, false, false, false, nil)
	if err != nil {
		return false, err
	}
	before, last := len(w.open), time.Now()
	idle := time.NewTimer(scanIdle)
	defer idle.Stop()
	for len(w.open)-before < scanBatch {
		var raw amqp.Delivery
		var there bool
		select {
		case raw, there = <-deliveries:
			if !there {
				return false, errCancelled
			}
		case <-idle.C:
			q, err := w.ch.QueueDeclarePassive(w.queue, true, false, false, false, nil)
			waited := time.Since(last)
			switch {
			case err != nil:
				return false, err
			case q.Messages > 0 && waited > scanStuck:
				return false, errStuck
			case q.Messages == 0 && (w.taken >= w.expected || waited > scanPatience):
				return false, nil
			}
			idle.Reset(scanIdle) // the rest is on its way, or others have it
			continue
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		last = time.Now()
		idle.Reset(scanIdle)
		if more, err := w.look(ctx, &raw); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// look shows a message to the visitor.
func (w *walk) look(ctx context.Context, raw *amqp.Delivery) (more bool, err error) {
	h := &held{DeadLetter: deadLetterOf(w.queue, raw), tag: raw.DeliveryTag, open: w.open}
	w.open[h.tag] = true
	w.newest = h.tag
	w.taken++
	if h.ID != "" {
		h.same = h.identity()
		h.Duplicate = w.seen[h.same]
		w.seen[h.same] = true
	}
	more, err = w.visitor.look(ctx, w.ch, h)
	return more && w.taken < w.expected+scanSlack, err
}

// Scan goes through the dead letters that the filter chooses, oldest first, and
// leaves them where they are. While it runs nobody else gets them. Afterwards they
// count as delivered before, and a queue with a delivery limit would drop them
// after so many scans; those of this package have none. A quorum
// queue of RabbitMQ without a delivery limit takes what is given back at its end: a
// scan of all keeps the order, one that is broken off can leave the first ones
// behind the others.
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
		if inNetwork(queue) {
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
	delayed := inNetwork(d.Exchange)
	if d.Queue == "" && delayed {
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
	if delayed { // it was published with a delay, to its queue
		d.Exchange, d.Key = "", d.Queue
	}
}

// errNoOrigin is that a dead letter does not say where it comes from.
var errNoOrigin = errors.New("it does not say which queue it comes from: set RedriveOptions.To")
