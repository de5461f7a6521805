package reliable

import (
	"context"
	"fmt"
	"maps"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RedriveOptions say how dead letters are published again. The zero value sends
// them to the queues that they come from, to be tried as if for the first time.
type RedriveOptions struct {
	// DryRun only counts.
	DryRun bool
	// Limit is how many are sent at most; 0 means all.
	Limit int
	// PerSecond is how many are sent in a second at most; 0 means no limit.
	PerSecond float64
	// To sends them to this queue instead. It has to exist.
	To string
	// ToOrigin publishes them to the exchange and with the key with which they were
	// published first. All queues that are bound there get them again.
	ToOrigin bool
	// KeepAttempts has their attempts go on counting, so that one more failure can
	// be the last.
	KeepAttempts bool
	// NewIDs gives them new ids, so that consumers handle them again which know the
	// old ones as done.
	NewIDs bool
	// Duplicates sends each of those dead letters that are marked as Duplicate, too.
	// Without it only the first of them is sent, and the others are removed once that
	// is confirmed. Messages that only share an id are no duplicates: a publisher may
	// have used it twice for different things, or the message was here before.
	Duplicates bool
	// Edit may change body, headers and other properties before, and with ToOrigin
	// exchange and key. What it panics for is not sent.
	Edit func(*DeadLetter)
	// Grace is how long after the end of the context the confirms of what is on its
	// way are waited for. What is not confirmed by then can be in both places. 0
	// means not at all.
	Grace time.Duration
}

// Report says what was done with dead letters.
type Report struct {
	Scanned int // looked at
	Matched int // chosen by the filter
	Done    int // sent, removed or written; with DryRun, what would have been
	Failed  int // could not be sent; they stay where they are
	// Duplicates were removed and not sent, because the same message was; with
	// DryRun, they would have been.
	Duplicates int
	// Errors are the first ten failures.
	Errors []error
}

// maxReportErrors bounds Report.Errors.
const maxReportErrors = 10

// redriveWindow is how many dead letters are on their way back at once.
const redriveWindow = 100

func (r *Report) failed(id string, err error) {
	r.Failed++
	if len(r.Errors) < maxReportErrors {
		r.Errors = append(r.Errors, fmt.Errorf("dead letter %s: %w", id, err))
	}
}

// Redrive sends the dead letters that the filter chooses back to where they come
// from, and removes each once the broker has confirmed it. Body, properties and
// headers are those of the message as it was first published, and consumers of
// this package see the exchange and key that it had. If the program dies meanwhile
// a message can be in both places, with the same id.
//
// The error says that it broke off; what could not be sent is in the Report.
func (d *DeadLetters) Redrive(ctx context.Context, f Filter, o RedriveOptions) (Report, error) {
	_, copies, err := d.client.consumeLink(ctx)
	if err != nil {
		return Report{}, err
	}
	r := &redrive{client: d.client, copies: copies, filter: f, options: o, begun: time.Now(), back: map[identity]bool{}}
	err = d.visit(ctx, r)
	return r.report, err
}

// redrive is the visitor that sends back.
type redrive struct {
	client  *Client
	copies  *lane
	filter  Filter
	options RedriveOptions
	begun   time.Time
	open    []sentBack
	back    map[identity]bool // those that were sent
	report  Report
}

// sentBack is a dead letter whose confirm is awaited.
type sentBack struct {
	h *held
	r *Receipt
}

func (v *redrive) look(ctx context.Context, ch *amqp.Channel, h *held) (bool, error) {
	v.report.Scanned++
	if !v.filter.matches(&h.DeadLetter) {
		return true, nil
	}
	v.report.Matched++
	if h.Duplicate && !v.options.Duplicates {
		if v.settle(ctx, ch); v.back[h.same] {
			v.report.Duplicates++
			if v.options.DryRun {
				return true, nil
			}
			return true, h.ack(ch)
		}
	}
	id := h.ID
	r, err := v.client.redriven(&h.DeadLetter, &v.options)
	switch {
	case err != nil:
		v.report.failed(id, err)
		return true, nil
	case v.options.DryRun:
		v.report.Done++
		v.back[h.same] = true
		return v.more(), nil
	}
	if rate := v.options.PerSecond; rate > 0 {
		if len(v.open) > 0 { // at a low rate confirms are not kept waiting
			v.settle(ctx, ch)
		}
		sent := v.report.Done + v.report.Failed
		if err := sleepUntil(ctx, v.begun.Add(time.Duration(float64(sent)/rate*float64(time.Second)))); err != nil {
			return false, err
		}
	}
	if err := v.copies.submit(ctx, r); err != nil {
		return false, err
	}
	v.open = append(v.open, sentBack{h, r})
	if len(v.open) == redriveWindow || !v.more() {
		v.settle(ctx, ch)
	}
	return v.more(), nil
}

// more says that the limit is not reached.
func (v *redrive) more() bool {
	return v.options.Limit == 0 || v.report.Done+len(v.open) < v.options.Limit
}

// finish settles what is still on its way.
func (v *redrive) finish(ctx context.Context, ch *amqp.Channel) { v.settle(ctx, ch) }

// settle removes what the broker has confirmed.
func (v *redrive) settle(ctx context.Context, ch *amqp.Channel) {
	ctx, cancel := outlasting(ctx, v.options.Grace)
	defer cancel()
	for _, s := range v.open {
		err := s.r.Wait(ctx)
		if err == nil {
			err = s.h.ack(ch)
		}
		if err != nil {
			v.report.failed(s.h.ID, err)
		} else {
			v.report.Done++
			v.back[s.h.same] = true
		}
	}
	v.open = v.open[:0]
}

// outlasting is a context that ends some time after ctx does.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(by, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() { stop(); cancel() }
}

func sleepUntil(ctx context.Context, due time.Time) error {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// redriven is the message of a dead letter, on its way back.
func (c *Client) redriven(d *DeadLetter, o *RedriveOptions) (r *Receipt, err error) {
	if o.Edit != nil {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v}
			}
		}()
		o.Edit(d)
	}
	m := d.publishing()
	m.Headers[headerGeneration] = int64(d.Generation + 1)
	m.Headers[headerExchange], m.Headers[headerKey] = d.Exchange, d.Key
	if o.KeepAttempts {
		m.Headers[headerAttempt] = int64(max(d.Attempts, 1))
	}
	if o.NewIDs {
		m.MessageId = c.ids.New(c.config.Clock.Now())
	}
	r = &Receipt{exchange: "", key: d.Queue, message: m}
	switch {
	case o.To != "":
		r.key = o.To
	case o.ToOrigin:
		r.exchange, r.key = d.Exchange, d.Key
	case d.Queue == "":
		return nil, errNoOrigin
	}
	return r, r.validateFields()
}

// publishing is the message as its publisher made it, with room for headers of
// ours.
func (d *DeadLetter) publishing() amqp.Publishing {
	headers := maps.Clone(d.Headers)
	if headers == nil {
		headers = amqp.Table{}
	}
	return amqp.Publishing{
		Headers: headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: amqp.Persistent,
		Priority: d.Priority, CorrelationId: d.CorrelationID, ReplyTo: d.ReplyTo, MessageId: d.ID, Timestamp: d.Published,
		Type: d.Type, AppId: d.AppID, Body: d.Body,
	}
}

// PurgeOptions say how dead letters are removed. The zero value removes all that the
// filter chooses.
type PurgeOptions struct {
	DryRun bool // only count
	Limit  int  // how many are removed at most; 0 means all
}

// Purge removes the dead letters that the filter chooses, for good. What comes while
// it runs is left alone.
func (d *DeadLetters) Purge(ctx context.Context, f Filter, o PurgeOptions) (Report, error) {
	p := &purge{filter: f, options: o}
	err := d.visit(ctx, p)
	return p.report, err
}

// purge is the visitor that removes.
type purge struct {
	filter  Filter
	options PurgeOptions
	report  Report
}

func (p *purge) look(_ context.Context, ch *amqp.Channel, h *held) (bool, error) {
	p.report.Scanned++
	if !p.filter.matches(&h.DeadLetter) {
		return true, nil
	}
	p.report.Matched++
	if !p.options.DryRun {
		if err := h.ack(ch); err != nil {
			return false, err
		}
	}
	p.report.Done++
	return p.options.Limit == 0 || p.report.Done < p.options.Limit, nil
}

func (p *purge) finish(context.Context, *amqp.Channel) {}
