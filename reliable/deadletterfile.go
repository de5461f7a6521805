package reliable

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

// letterLine is a line of an export: one dead letter.
type letterLine struct {
	ID              text           `json:"id"`
	Type            text           `json:"type,omitempty"`
	Queue           text           `json:"queue,omitempty"`
	Exchange        text           `json:"exchange"`
	Key             text           `json:"key"`
	Reason          text           `json:"reason,omitempty"`
	Error           text           `json:"error,omitempty"`
	Attempts        int            `json:"attempts,omitempty"`
	Generation      int            `json:"generation,omitempty"`
	History         []historyLine  `json:"history,omitempty"`
	Published       *moment        `json:"published,omitempty"`
	FirstFailed     *moment        `json:"first_failed,omitempty"`
	Died            *moment        `json:"died,omitempty"`
	ContentType     text           `json:"content_type,omitempty"`
	ContentEncoding text           `json:"content_encoding,omitempty"`
	CorrelationID   text           `json:"correlation_id,omitempty"`
	ReplyTo         text           `json:"reply_to,omitempty"`
	AppID           text           `json:"app_id,omitempty"`
	Priority        uint8          `json:"priority,omitempty"`
	Headers         map[string]any `json:"headers,omitempty"` // {"name": {"type": value}}
	Body            *string        `json:"body,omitempty"`    // where it is UTF-8
	BodyBase64      []byte         `json:"body_base64,omitempty"`
}

type historyLine struct {
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	Error  text      `json:"error"`
}

// text is a string whose bytes stay as they are: if they are not UTF-8 it is
// {"base64": "…"}.
type text string

func (t text) MarshalJSON() ([]byte, error) { return json.Marshal(base64IfBinary(string(t))) }

func (t *text) UnmarshalJSON(in []byte) error {
	if len(in) > 0 && in[0] == '{' {
		var coded struct {
			Base64 []byte `json:"base64"`
		}
		err := json.Unmarshal(in, &coded)
		*t = text(coded.Base64)
		return err
	}
	return json.Unmarshal(in, (*string)(t))
}

// moment is a time, or its seconds since 1970 where RFC 3339 has no form for it:
// programs have put milliseconds into timestamps.
type moment time.Time

func (m moment) MarshalJSON() ([]byte, error) {
	t := time.Time(m).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return json.Marshal(t.Unix())
	}
	return json.Marshal(t)
}

func (m *moment) UnmarshalJSON(in []byte) error {
	if len(in) > 0 && in[0] == '"' {
		return json.Unmarshal(in, (*time.Time)(m))
	}
	var seconds int64
	err := json.Unmarshal(in, &seconds)
	*m = moment(time.Unix(seconds, 0))
	return err
}

// MarshalJSON writes a dead letter as one line of an export. Headers keep their
// types: each value stands in an object whose only name is the type. A body that
// is not UTF-8 stands in base64.
func (d DeadLetter) MarshalJSON() ([]byte, error) {
	headers, err := tableToJSON(d.Headers)
	if err != nil {
		return nil, err
	}
	l := letterLine{
		ID: text(d.ID), Type: text(d.Type), Queue: text(d.Queue), Exchange: text(d.Exchange), Key: text(d.Key),
		Reason: text(d.Reason), Error: text(d.Error), Attempts: d.Attempts, Generation: d.Generation,
		Published: timeToJSON(d.Published), FirstFailed: timeToJSON(d.FirstFailed), Died: timeToJSON(d.Died),
		ContentType: text(d.ContentType), ContentEncoding: text(d.ContentEncoding), CorrelationID: text(d.CorrelationID),
		ReplyTo: text(d.ReplyTo), AppID: text(d.AppID), Priority: d.Priority, Headers: headers,
	}
	if utf8.Valid(d.Body) {
		readable := string(d.Body)
		l.Body = &readable
	} else {
		l.BodyBase64 = d.Body
	}
	for _, h := range d.History {
		l.History = append(l.History, historyLine{h.Number, h.At, text(h.Error)})
	}
	return json.Marshal(l)
}

// UnmarshalJSON reads what MarshalJSON wrote, and refuses what it would not keep.
func (d *DeadLetter) UnmarshalJSON(in []byte) error {
	var l letterLine
	decoder := json.NewDecoder(bytes.NewReader(in))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return err
	}
	body := l.BodyBase64
	if l.Body != nil {
		if l.BodyBase64 != nil {
			return errors.New("has both body and body_base64")
		}
		body = []byte(*l.Body)
	}
	headers, err := tableFromJSON(l.Headers)
	if err != nil {
		return err
	}
	*d = DeadLetter{
		ID: string(l.ID), Type: string(l.Type), Queue: string(l.Queue), Exchange: string(l.Exchange), Key: string(l.Key),
		Reason: string(l.Reason), Error: string(l.Error), Attempts: l.Attempts, Generation: l.Generation,
		Published: timeFromJSON(l.Published), FirstFailed: timeFromJSON(l.FirstFailed), Died: timeFromJSON(l.Died),
		ContentType: string(l.ContentType), ContentEncoding: string(l.ContentEncoding), CorrelationID: string(l.CorrelationID),
		ReplyTo: string(l.ReplyTo), AppID: string(l.AppID), Priority: l.Priority, Headers: headers, Body: body,
	}
	for _, h := range l.History {
		d.History = append(d.History, FailedAttempt{h.Number, h.At, string(h.Error)})
	}
	return nil
}

func timeToJSON(t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	m := moment(t)
	return &m
}

func timeFromJSON(m *moment) time.Time {
	if m == nil {
		return time.Time{}
	}
	return time.Time(*m)
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
