package reliabletest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/warrenmq/warren/reliable"
)

// maxShownBytes is how much of a body a message of a test shows.
const maxShownBytes = 400

// Expect fails the test unless the bodies of the messages are the wanted ones, in
// their order, and shows the difference. Bodies and wanted values are compared in
// JSON, so unexported fields do not matter; those of type string and []byte as they
// are. Without wanted values it expects no messages: name the type then, as in
// Expect[Order](t, b.Published()).
func Expect[T any](t testing.TB, got []Message, want ...T) bool {
	t.Helper()
	have, expected := bodies[T](got), texts(want)
	if equal(have, expected) {
		return true
	}
	t.Errorf("published messages (- expected, + published):\n%s", difference(expected, have))
	return false
}

// ExpectInAnyOrder is Expect for messages whose order does not matter.
func ExpectInAnyOrder[T any](t testing.TB, got []Message, want ...T) bool {
	t.Helper()
	have, expected := bodies[T](got), texts(want)
	have, expected = sorted(have), sorted(expected)
	if equal(have, expected) {
		return true
	}
	t.Errorf("published messages, in any order (- expected, + published):\n%s", difference(expected, have))
	return false
}

// bodies is the bodies in a form that can be compared and read.
func bodies[T any](list []Message) []string {
	lines := make([]string, len(list))
	for i := range list {
		lines[i] = list[i].read(new(T))
	}
	return lines
}

// read is the body of m, brought into the form of what v points to.
func (m *Message) read(v any) string {
	switch v.(type) {
	case *string, *[]byte:
		return printable(m.Body)
	}
	if err := m.codec.Unmarshal(m.Body, v); err != nil {
		return fmt.Sprintf("%s (cannot be read: %v)", printable(m.Body), err)
	}
	return text(v)
}

func texts[T any](list []T) []string {
	lines := make([]string, len(list))
	for i := range list {
		switch v := any(list[i]).(type) {
		case string:
			lines[i] = printable([]byte(v))
		case []byte:
			lines[i] = printable(v)
		default:
			lines[i] = text(&list[i])
		}
	}
	return lines
}

// text is a value in JSON, or as Go prints it if it has none.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(b)
}

func printable(b []byte) string {
	if utf8.Valid(b) && !strings.ContainsAny(string(b), "\n\r\x00") {
		return string(b)
	}
	return fmt.Sprintf("%q", b)
}

func shorten(s string) string {
	if len(s) <= maxShownBytes {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:maxShownBytes], ""), len(s))
}

// Dead is what a test expects of a dead letter. What is zero does not matter.
type Dead struct {
	ID       string
	Reason   string // one of reliable's Reason constants, or what the server says
	Error    string // is contained in that of the last attempt
	Attempts int
	Body     any // a value like that of Publish, or a string or []byte as it is
}

// DeadLetters returns the dead letters of a queue, oldest first, and leaves them where
// they are. A queue without a queue for them has none.
func (b *Broker) DeadLetters(of reliable.Queue) []reliable.DeadLetter {
	b.t.Helper()
	queues, err := b.queues()
	if err != nil {
		b.t.Fatalf("reliabletest: %v", err)
	}
	there := false
	for _, q := range queues {
		there = there || q.Name == of.DeadLetterQueue()
	}
	if !there {
		return nil
	}
	ctx, cancel := b.patience()
	defer cancel()
	list, err := scan(ctx, b.own.DeadLetters(of))
	if err != nil {
		b.t.Fatalf("reliabletest: %v", err)
	}
	return list
}

func scan(ctx context.Context, d *reliable.DeadLetters) (list []reliable.DeadLetter, err error) {
	for letter, err := range d.Scan(ctx, reliable.Filter{}) {
		if err != nil {
			return nil, err
		}
		list = append(list, letter)
	}
	return list, nil
}

// ExpectDeadLetters fails the test unless the dead letters of a queue are the wanted
// ones, oldest first, and shows the difference. Without wanted ones it expects none.
func (b *Broker) ExpectDeadLetters(of reliable.Queue, want ...Dead) bool {
	b.t.Helper()
	letters := b.DeadLetters(of)
	have, expected := make([]string, len(letters)), make([]string, len(want))
	same := len(letters) == len(want)
	for i, l := range letters {
		have[i] = b.deadText(l)
		if i < len(want) {
			if b.isLike(l, want[i]) {
				expected[i] = have[i]
			} else {
				same = false
			}
		}
	}
	if same {
		return true
	}
	for i, w := range want {
		if expected[i] == "" {
			expected[i] = b.wantedText(w)
		}
	}
	b.t.Errorf("dead letters of %q (- expected, + there):\n%s", of.Name, difference(expected, have))
	return false
}

func (b *Broker) isLike(l reliable.DeadLetter, want Dead) bool {
	return (want.ID == "" || want.ID == l.ID) &&
		(want.Reason == "" || want.Reason == l.Reason) &&
		strings.Contains(l.Error, want.Error) &&
		(want.Attempts == 0 || want.Attempts == l.Attempts) &&
		(want.Body == nil || b.bodyText(want.Body) == printable(l.Body))
}

// bodyText is the body that publishing v would make.
func (b *Broker) bodyText(v any) string {
	switch v := v.(type) {
	case string:
		return printable([]byte(v))
	case []byte:
		return printable(v)
	}
	body, err := b.config.Codec.Marshal(v)
	if err != nil {
		return fmt.Sprintf("a body that cannot be made: %v", err)
	}
	return printable(body)
}

func (b *Broker) deadText(l reliable.DeadLetter) string {
	return fmt.Sprintf("%s: %s after %d attempts, %q, body %s", l.ID, l.Reason, l.Attempts, l.Error, shorten(printable(l.Body)))
}

func (b *Broker) wantedText(w Dead) string {
	parts := []string{}
	add := func(there bool, format string, v any) {
		if there {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	add(w.ID != "", "id %s", w.ID)
	add(w.Reason != "", "reason %s", w.Reason)
	add(w.Attempts != 0, "%d attempts", w.Attempts)
	add(w.Error != "", "error with %q", w.Error)
	if w.Body != nil {
		parts = append(parts, "body "+shorten(b.bodyText(w.Body)))
	}
	if len(parts) == 0 {
		return "any dead letter"
	}
	return strings.Join(parts, ", ")
}

// ExpectWaiting fails the test unless so many messages wait for a retry or for their
// time.
func (b *Broker) ExpectWaiting(n int) bool {
	b.t.Helper()
	queues, err := b.queues()
	if err != nil {
		b.t.Fatalf("reliabletest: %v", err)
	}
	waiting := 0
	prefix := fmt.Sprintf(".d%d.", reliable.DelayUnit/time.Millisecond)
	for _, q := range queues {
		if ofToolkit(q.Name) && strings.Contains(q.Name, prefix) {
			waiting += q.Messages
		}
	}
	if waiting != n {
		b.t.Errorf("%d messages wait for a retry or their time, expected %d", waiting, n)
	}
	return waiting == n
}
