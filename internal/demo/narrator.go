package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// narrator tells the lesson: to people as text, to machines as one JSON object a
// line. It remembers the first failure to write and is silent from then on.
type narrator struct {
	out   io.Writer
	json  bool
	color bool

	mu  sync.Mutex
	err error
}

// event is one line of --json. What Data holds depends on Kind.
type event struct {
	Time  time.Time      `json:"time"`
	Event string         `json:"event"`
	Step  int            `json:"step,omitempty"`
	OK    *bool          `json:"ok,omitempty"` // of a check
	Text  string         `json:"text,omitempty"`
	Data  map[string]any `json:"data,omitempty"`
}

// style is a terminal attribute (ECMA-48 select graphic rendition).
type style string

const (
	bold  style = "1"
	dim   style = "2"
	red   style = "31;1"
	green style = "32"
	cyan  style = "36;1"
)

func (n *narrator) paint(s style, text string) string {
	if !n.color {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func (n *narrator) write(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		_, n.err = io.WriteString(n.out, text)
	}
}

// failure is the first failure to write, if any.
func (n *narrator) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return fmt.Errorf("write the story: %w", n.err)
	}
	return nil
}

func (n *narrator) emit(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.err == nil {
			n.err = err
		}
		return
	}
	n.write(string(line) + "\n")
}

// header opens the story.
func (n *narrator) header(broker, prefix string, steps int) {
	if n.json {
		n.emit(event{Time: time.Now(), Event: "start", Text: "reliable messaging, live",
			Data: map[string]any{"broker": broker, "prefix": prefix}})
		return
	}
	n.write(n.paint(bold, fmt.Sprintf("Reliable messaging, live, in %s steps", map[int]string{7: "seven", 8: "eight"}[steps])) + "\n" +
		"on   " + broker + "\n" +
		"with queues and exchanges named " + prefix + "*, deleted at the end\n")
}

func (n *narrator) step(number, of int, st step) {
	if n.json {
		n.emit(event{Time: time.Now(), Event: "step", Step: number, Text: st.title,
			Data: map[string]any{"name": st.name, "why": st.why}})
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", n.paint(cyan, fmt.Sprintf("%d/%d  %s", number, of, st.title)))
	for line := range strings.SplitSeq(wrap("     ", st.why), "\n") {
		b.WriteString(n.paint(dim, line) + "\n")
	}
	n.write(b.String())
}

func (n *narrator) note(number int, kind string, data map[string]any, text string) {
	if n.json {
		n.emit(event{Time: time.Now(), Event: kind, Step: number, Text: text, Data: data})
		return
	}
	bullet := "   - "
	if rest, nested := strings.CutPrefix(text, "  "); nested {
		bullet, text = "       ", rest
	}
	n.write(wrap(bullet, text) + "\n")
}

func (n *narrator) check(number int, ok bool, text string) {
	if n.json {
		n.emit(event{Time: time.Now(), Event: "check", Step: number, OK: &ok, Text: text})
		return
	}
	n.write(n.checkLine(ok, text))
}

// checkLine is a checked statement with its mark in front.
func (n *narrator) checkLine(ok bool, text string) string {
	mark := "  " + n.paint(green, "ok")
	if !ok {
		mark = n.paint(red, "FAIL")
	}
	return mark + strings.TrimPrefix(wrap("     ", text), "    ") + "\n"
}

func (n *narrator) cleaned(queues, exchanges int) {
	if n.json {
		n.emit(event{Time: time.Now(), Event: "cleaned",
			Data: map[string]any{"queues": queues, "exchanges": exchanges}})
		return
	}
	n.write(fmt.Sprintf("\nCleaned up: %d queues and %d exchanges deleted, nothing left behind.\n", queues, exchanges))
}

// columns is the width text keeps to: a terminal nobody has resized.
const columns = 80

// wrap breaks text at spaces; the first line begins with lead, the others with as
// many spaces. Runs of spaces within a line stay, as they align columns.
func wrap(lead, text string) string {
	indent := strings.Repeat(" ", len(lead))
	var b strings.Builder
	b.WriteString(lead)
	for width := columns - len(lead); len(text) > width; {
		at := strings.LastIndexByte(text[:width+1], ' ')
		if at <= 0 {
			break // one long word
		}
		b.WriteString(strings.TrimRight(text[:at], " ") + "\n" + indent)
		text = strings.TrimLeft(text[at:], " ")
	}
	b.WriteString(text)
	return b.String()
}
