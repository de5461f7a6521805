// Package docs checks what the documentation says: README.md, docs/*.md, the
// tutorial, and their Chinese versions.
//
// A page's code blocks are checked by their language:
//
//	sh                    is run, and must exit 0
//	sh background         is a broker that runs until the next such block, or to the end of the page
//	sh not-run: REASON    is not run
//	console               is run command by command ("$ ..."), and must print what follows each;
//	                      "…" stands for any text within a line, or alone for any lines
//	console python        the same, for programs that need pika: run if WARREN_DOCS_PYTHON is a Python that has it
//	toml NAME             is written to the page's folder and must be a configuration that serve accepts
//	json                  is one JSON value per line
//	go                    must compile: a whole file, functions, or statements
//	LANGUAGE in PATH      is part of that file, line by line, apart from indentation
//	text                  is not checked
//
// Any other block is an error, so that no command escapes by its label. Pages run
// one after the other, each in a folder of its own (READMEs and the tutorial in the
// repository's), with the built binary first in PATH. Ports 5672 and
// 15672 in a page stand for free ports.
//
// A translation has the blocks of its original, so its own are compared and not run.
//
// TestTutorial runs the tutorial's programs, Go and Python, on the broker that
// WARREN_DOCS_AMQP_URL names; .ci/run does that with RabbitMQ.
//
// Tables between <!-- NAME:begin --> and <!-- NAME:end --> are made from the code;
// WARREN_UPDATE_DOCS=1 go test ./test/docs writes them anew.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository, seen from this package.
const root = "../.."

// block is one fenced code block.
type block struct {
	line int    // of the opening fence
	lang string // first word after the fence
	info string // the rest
	text string
}

// pages are the files whose blocks are checked, by their paths in the repository.
func pages(t *testing.T) (list []string) {
	t.Helper()
	for _, pattern := range []string{"docs/*.md", "docs/tutorial/*.md", "docs/zh-CN/*.md", "docs/zh-CN/tutorial/*.md", "README*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 && !strings.Contains(pattern, "zh-CN") {
			t.Fatalf("no pages found for %s: %v", pattern, err)
		}
		for _, file := range found {
			page, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, filepath.ToSlash(page))
		}
	}
	return list
}

// original is the page that another one is the translation of, or "".
func original(page string) string {
	if rest, is := strings.CutPrefix(page, "docs/zh-CN/"); is {
		return "docs/" + rest
	}
	if page == "README.zh-CN.md" {
		return "README.md"
	}
	return ""
}

// inRepository says that a page is run in the repository, and not in a folder of
// its own: it shows what is there.
func inRepository(page string) bool {
	return strings.HasPrefix(page, "README") || strings.Contains(page, "tutorial/")
}

// isPart says whether the lines of a block stand in a file one after the other,
// whatever their indentation.
func isPart(block, file string) bool {
	flat := func(text string) string {
		var b strings.Builder
		for line := range strings.Lines(text) {
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
		return b.String()
	}
	return strings.Contains("\n"+flat(file), "\n"+flat(block))
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks finds the fenced code blocks of a page.
func blocks(text string) (list []block, err error) {
	var open *block
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case !isFence && strings.HasPrefix(strings.TrimSpace(line), "```"):
			return nil, fmt.Errorf("line %d: an indented block would escape the checks", n)
		case isFence && open == nil:
			lang, info, _ := strings.Cut(fence, " ")
			open = &block{line: n, lang: lang, info: strings.TrimSpace(info)}
		case isFence:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block is not closed", open.line)
	}
	return list, nil
}

// step is one command of a console block with what it must print.
type step struct{ command, want string }

// steps reads a console block.
func steps(text string) (list []step, err error) {
	for line := range strings.Lines(text) {
		command, is := strings.CutPrefix(line, "$ ")
		switch {
		case is:
			list = append(list, step{command: strings.TrimSuffix(command, "\n")})
		case len(list) == 0:
			return nil, fmt.Errorf("the block does not begin with a command: %q", line)
		default:
			list[len(list)-1].want += line
		}
	}
	return list, nil
}

// matches compares output with what a page shows.
func matches(want, got string) bool {
	return matchLines(strings.Split(strings.TrimRight(want, "\n"), "\n"), strings.Split(strings.TrimRight(got, "\n"), "\n"))
}

func matchLines(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if strings.TrimSpace(want[0]) == "…" {
		for skip := range len(got) + 1 {
			if matchLines(want[1:], got[skip:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && matchLine(want[0], got[0]) && matchLines(want[1:], got[1:])
}

// matchLine compares one line. Blanks at its end do not count.
func matchLine(want, got string) bool {
	got = strings.TrimRight(got, " ")
	parts := strings.Split(strings.TrimRight(want, " "), "…")
	if len(parts) == 1 {
		return got == parts[0]
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(got) < len(first)+len(last) || !strings.HasPrefix(got, first) || !strings.HasSuffix(got, last) {
		return false
	}
	got = got[len(first) : len(got)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(got, part)
		if i < 0 {
			return false
		}
		got = got[i+len(part):]
	}
	return true
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"one\ntwo\n", "one\ntwo\n", true},
		{"one\n", "one\ntwo\n", false},
		{"one\ntwo\n", "one\n", false},
		{"", "", true},
		{"", "something\n", false},
		{"at …:5672 (…)\n", "at 127.0.0.1:5672 (memory)\n", true},
		{"at …:5672 (…)\n", "at 127.0.0.1:5673 (memory)\n", false},
		{"a\n…\nz\n", "a\nb\nc\nz\n", true},
		{"a\n…\nz\n", "a\nz\n", true},
		{"a\n…\nz\n", "a\nb\n", false},
		{"ab…ba\n", "aba\n", false},
	} {
		if matches(c.want, c.got) != c.ok {
			t.Errorf("matches(%q, %q) is not %v", c.want, c.got, c.ok)
		}
	}
}

func TestIsPart(t *testing.T) {
	const file = "func f() {\n\tg()\n\th()\n}\n"
	for block, want := range map[string]bool{"g()\nh()\n": true, "h()\n}\n": true, "g()\n}\n": false, "(g)\n": false, "()\n": false} {
		if isPart(block, file) != want {
			t.Errorf("isPart(%q) is not %v", block, want)
		}
	}
}

func TestBlocks(t *testing.T) {
	list, err := blocks("text\n```sh background\na\nb\n```\n```console\n$ x\ny\n```\n")
	if err != nil || len(list) != 2 || list[0] != (block{2, "sh", "background", "a\nb\n"}) || list[1].text != "$ x\ny\n" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := blocks("```sh\na\n"); err == nil {
		t.Error("a block without end was accepted")
	}
	if _, err := blocks("1. x\n   ```sh\n   a\n   ```\n"); err == nil {
		t.Error("an indented block was overlooked")
	}
	got, err := steps("$ a\nb\nc\n$ d\n")
	if err != nil || len(got) != 2 || got[0] != (step{"a", "b\nc\n"}) || got[1] != (step{"d", ""}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := steps("b\n"); err == nil {
		t.Error("output without a command was accepted")
	}
}
