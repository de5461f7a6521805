package reliable

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// letterLine is a line of an export: one dead letter.
type letterLine struct {
	ID              string         `json:"id"`
	Type            string         `json:"type,omitempty"`
	Queue           string         `json:"queue,omitempty"`
	Exchange        string         `json:"exchange"`
	Key             string         `json:"key"`
	Reason          string         `json:"reason,omitempty"`
	Error           string         `json:"error,omitempty"`
	Attempts        int            `json:"attempts,omitempty"`
	Generation      int            `json:"generation,omitempty"`
	History         []historyLine  `json:"history,omitempty"`
	Published       *time.Time     `json:"published,omitempty"`
	FirstFailed     *time.Time     `json:"first_failed,omitempty"`
	Died            *time.Time     `json:"died,omitempty"`
	ContentType     string         `json:"content_type,omitempty"`
	ContentEncoding string         `json:"content_encoding,omitempty"`
	CorrelationID   string         `json:"correlation_id,omitempty"`
	ReplyTo         string         `json:"reply_to,omitempty"`
	AppID           string         `json:"app_id,omitempty"`
	Priority        uint8          `json:"priority,omitempty"`
	Headers         map[string]any `json:"headers,omitempty"` // {"name": {"type": value}}
	Body            []byte         `json:"body"`              // base64
}

type historyLine struct {
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	Error  string    `json:"error"`
}

// MarshalJSON writes a dead letter as one line of an export. Headers keep their
// types: each value stands in an object whose only name is the type.
func (d DeadLetter) MarshalJSON() ([]byte, error) {
	headers, err := tableToJSON(d.Headers)
	if err != nil {
		return nil, err
	}
	l := letterLine{
		ID: d.ID, Type: d.Type, Queue: d.Queue, Exchange: d.Exchange, Key: d.Key, Reason: d.Reason, Error: d.Error,
		Attempts: d.Attempts, Generation: d.Generation, Published: timeToJSON(d.Published), FirstFailed: timeToJSON(d.FirstFailed),
		Died: timeToJSON(d.Died), ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, CorrelationID: d.CorrelationID,
		ReplyTo: d.ReplyTo, AppID: d.AppID, Priority: d.Priority, Headers: headers, Body: d.Body,
	}
	for _, h := range d.History {
		l.History = append(l.History, historyLine(h))
	}
	return json.Marshal(l)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *DeadLetter) UnmarshalJSON(text []byte) error {
	var l letterLine
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	headers, err := tableFromJSON(l.Headers)
	if err != nil {
		return err
	}
	*d = DeadLetter{
		ID: l.ID, Type: l.Type, Queue: l.Queue, Exchange: l.Exchange, Key: l.Key, Reason: l.Reason, Error: l.Error,
		Attempts: l.Attempts, Generation: l.Generation, Published: timeFromJSON(l.Published), FirstFailed: timeFromJSON(l.FirstFailed),
		Died: timeFromJSON(l.Died), ContentType: l.ContentType, ContentEncoding: l.ContentEncoding, CorrelationID: l.CorrelationID,
		ReplyTo: l.ReplyTo, AppID: l.AppID, Priority: l.Priority, Headers: headers, Body: l.Body,
	}
	for _, h := range l.History {
		d.History = append(d.History, FailedAttempt(h))
	}
	return nil
}

func timeToJSON(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func timeFromJSON(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// Export writes the dead letters that the filter chooses as JSON, one in a line,
// and leaves them where they are.
func (d *DeadLetters) Export(ctx context.Context, f Filter, w io.Writer) (Report, error) {
	var report Report
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	for letter, err := range d.Scan(ctx, f) {
		if err == nil {
			report.Matched++
			err = encoder.Encode(letter)
		}
		if err != nil {
			return report, errors.Join(err, out.Flush())
		}
		report.Done++
	}
	report.Scanned = report.Matched
	return report, out.Flush()
}

// Import puts what Export wrote into the queue of dead letters. An error says
// which line is wrong; those before it are there.
func (d *DeadLetters) Import(ctx context.Context, r io.Reader) (Report, error) {
	var report Report
	_, copies, err := d.client.consumeLink(ctx)
	if err != nil {
		return report, err
	}
	decoder := json.NewDecoder(r)
	for line := 1; ; line++ {
		var letter DeadLetter
		err := decoder.Decode(&letter)
		if errors.Is(err, io.EOF) {
			return report, nil
		}
		report.Scanned++
		if err != nil {
			return report, fmt.Errorf("reliable: dead letter %d of the import: %w", line, err)
		}
		receipt := &Receipt{key: d.queue, message: letter.buried()}
		if err := receipt.validateFields(); err != nil {
			return report, fmt.Errorf("reliable: dead letter %d of the import: %w", line, err)
		}
		report.Matched++
		if err := copies.publish(ctx, receipt); err != nil {
			return report, fmt.Errorf("reliable: dead letter %d of the import: %w", line, err)
		}
		report.Done++
	}
}

// buried is the message of a dead letter as it stands in its queue.
func (d *DeadLetter) buried() amqp.Publishing {
	m := d.publishing()
	h := m.Headers
	h[headerExchange], h[headerKey], h[headerQueue] = d.Exchange, d.Key, d.Queue
	set := func(name, value string) {
		if value != "" {
			h[name] = value
		}
	}
	set(headerReason, d.Reason)
	set(headerError, d.Error)
	if d.Attempts > 0 {
		h[headerAttempt] = int64(d.Attempts)
	}
	if d.Generation > 0 {
		h[headerGeneration] = int64(d.Generation)
	}
	for name, at := range map[string]time.Time{headerFirstFailed: d.FirstFailed, headerDied: d.Died} {
		if !at.IsZero() {
			h[name] = at.UTC().Format(time.RFC3339Nano)
		}
	}
	var history []any
	for _, f := range d.History {
		history = append(history, amqp.Table{"attempt": int64(f.Number), "at": f.At.UTC().Format(time.RFC3339Nano), "error": f.Error})
	}
	if history != nil {
		h[headerHistory] = history
	}
	return m
}
