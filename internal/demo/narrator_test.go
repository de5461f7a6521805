package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestWrap(t *testing.T) {
	long := strings.Repeat("word ", 30)
	for line := range strings.Lines(wrap("   - ", long)) {
		if len(strings.TrimRight(line, "\n")) > columns || !strings.Contains(line, "word") {
			t.Errorf("line %q", line)
		}
	}
	if got := strings.Join(strings.Fields(wrap("", long)), " "); got != strings.TrimSpace(long) {
		t.Errorf("wrapping changes the words: %q", got)
	}
	unbreakable := strings.Repeat("x", 200)
	if got := wrap("ok ", unbreakable); got != "ok "+unbreakable {
		t.Errorf("a long word: %q", got)
	}
	if got := wrap("- ", "a   -> b"); got != "- a   -> b" {
		t.Errorf("alignment is lost: %q", got)
	}
}

func TestColorIsOnlyDecoration(t *testing.T) {
	story := func(color bool) string {
		var out bytes.Buffer
		n := &narrator{out: &out, color: color}
		n.header("a broker", "p.", 7)
		n.step(1, 7, step{title: "Title", why: "why"})
		n.check(1, true, "fine")
		n.check(1, false, "not fine")
		r := &Report{Steps: []StepResult{{Number: 1, Tally: good()}}, Totals: good(), Elapsed: time.Second,
			Mismatches: []Mismatch{{1, "x", "y"}}}
		n.summary(r, &MismatchError{Mismatches: r.Mismatches})
		return out.String()
	}
	plain, colored := story(false), story(true)
	if !strings.Contains(colored, "\x1b[") {
		t.Error("no colour")
	}
	for _, s := range []style{bold, dim, red, green, cyan, "0"} {
		colored = strings.ReplaceAll(colored, "\x1b["+string(s)+"m", "")
	}
	if plain != colored {
		t.Errorf("without its codes the coloured story is\n%s\nand the plain one\n%s", colored, plain)
	}
}

func TestShownHidesThePassword(t *testing.T) {
	for url, want := range map[string]string{
		"amqp://u:secret@host/":            "amqp://host:5672/",
		"amqps://u:secret@host/shop":       "amqps://host:5671/shop",
		"amqp://u:secret@[::1]:1234/a%2Fb": "amqp://[::1]:1234/a/b",
		"amqp://u:secret@host:%zz":         "the given URL",
	} {
		if got := (&dialer{url: url}).shown(); got != want {
			t.Errorf("%s is shown as %q, want %q", url, got, want)
		}
	}
}
