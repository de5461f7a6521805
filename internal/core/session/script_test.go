package session

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// runScript runs a file of commands, each followed by a line "= answer"; "#"
// starts a comment line.
func runScript(t *testing.T, path string, run func(cmd string, words []string) string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	answer, open := "", false
	for i, line := range strings.Split(string(data), "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "=":
			if want := strings.Join(words[1:], " "); !open || answer != want {
				t.Errorf("%s:%d: got %q, want %q", path, i+1, answer, want)
			}
			open = false
		default:
			if open && answer != "" {
				t.Errorf("%s:%d: the command before this line answered %q, and nothing says so", path, i+1, answer)
			}
			answer, open = run(words[0], words[1:]), true
		}
	}
	if open && answer != "" {
		t.Errorf("%s: the last command answered %q, and nothing says so", path, answer)
	}
}

func number(t *testing.T, word string) uint64 {
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func list[T any](values []T) string {
	if len(values) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(values), "[]")
}

// TestUnackedScript runs testdata/unacked.txt. "add 3" and "skip 3" hand out
// three tags; "ack TAG [multiple]", "all" and "restore TAG…" do what they say;
// "out" is the number of deliveries that are out.
func TestUnackedScript(t *testing.T) {
	var u Unacked[uint64]
	runScript(t, "testdata/unacked.txt", func(cmd string, words []string) string {
		var tags []uint64
		switch cmd {
		case "fresh":
			u = Unacked[uint64]{}
			return ""
		case "add":
			for range number(t, words[0]) {
				tags = append(tags, u.Add(u.LastTag()+1))
			}
			if len(tags) > 3 {
				return fmt.Sprintf("%d to %d", tags[0], tags[len(tags)-1])
			}
		case "skip":
			for range number(t, words[0]) {
				tags = append(tags, u.Skip())
			}
			return fmt.Sprintf("up to %d", u.LastTag())
		case "ack":
			taken, ok := u.Settle(nil, number(t, words[0]), slices.Contains(words, "multiple"))
			if !ok {
				return "unknown"
			}
			tags = taken
		case "all":
			tags = u.TakeAll(nil)
		case "restore":
			for _, w := range words {
				u.Restore(number(t, w), number(t, w))
			}
			return ""
		case "out":
			return strconv.Itoa(u.Len())
		default:
			t.Fatalf("unknown command %q", cmd)
		}
		return list(tags)
	})
}

// TestConfirmsScript runs testdata/confirms.txt. "publish 3" numbers three
// publishes, "wait POSITION [nack N…]" closes the run, "durable POSITION" lets
// go what may go; "open" is the number that await their confirm, "waiting"
// whether a run waits.
func TestConfirmsScript(t *testing.T) {
	var c Confirms
	runScript(t, "testdata/confirms.txt", func(cmd string, words []string) string {
		switch cmd {
		case "fresh":
			c = Confirms{}
		case "publish":
			first := c.Last() + 1
			for range number(t, words[0]) {
				c.Next()
			}
			return fmt.Sprintf("%d to %d", first, c.Last())
		case "wait":
			var nacks []uint64
			if len(words) > 1 && words[1] == "nack" {
				for _, w := range words[2:] {
					nacks = append(nacks, number(t, w))
				}
			}
			c.Wait(Position(number(t, words[0])), nacks)
		case "durable":
			var said []string
			for _, o := range c.Release(nil, Position(number(t, words[0]))) {
				said = append(said, outcomeText(o))
			}
			if said == nil {
				return "nothing"
			}
			return strings.Join(said, ", ")
		case "open":
			return strconv.FormatUint(c.Open(), 10)
		case "waiting":
			return strconv.FormatBool(c.Waiting())
		default:
			t.Fatalf("unknown command %q", cmd)
		}
		return ""
	})
}

func outcomeText(o Outcome) string {
	text := "ack"
	if o.Nack {
		text = "nack"
	}
	text += " " + strconv.FormatUint(o.Seq, 10)
	if o.Multiple {
		text += " multiple"
	}
	return text
}
