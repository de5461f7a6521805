package exchange

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

// TestScripts runs testdata/*.txt, which read as this package's specification.
//
//	table TYPE                     starts with an empty table
//	bind KEY QUEUE [name=value …]  the same for unbind; "nothing" at the end: changes nothing
//	KEY [name=value …] -> QUEUE …  where a message goes, "nowhere" if to none
//
// "" is the empty key. Queues are single letters. A value that is a number is a
// long, "void" is void, all else is a string.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var table Table
			for i, line := range strings.Split(string(data), "\n") {
				words := strings.Fields(line)
				if len(words) == 0 || strings.HasPrefix(line, "# ") && !strings.Contains(line, "->") {
					continue
				}
				if words[0] == "table" {
					table = New(Type(words[1]))
					continue
				}
				if problem := runLine(table, words); problem != "" {
					t.Errorf("%s:%d: %s: %s", path, i+1, line, problem)
				}
			}
		})
	}
}

func runLine(table Table, words []string) string {
	arrow := slices.Index(words, "->")
	if arrow < 0 {
		change := table.Bind
		if words[0] == "unbind" {
			change = table.Unbind
		}
		want := words[len(words)-1] != "nothing"
		if !want {
			words = words[:len(words)-1]
		}
		if got := change(scriptKey(words[1]), scriptTable(words[3:]), Dest{ID: uint64(words[2][0])}); got != want {
			return fmt.Sprintf("changed something: %v", got)
		}
		return ""
	}
	raw := appendFields(nil, scriptTable(words[1:arrow]))
	got := "nowhere"
	if ids := distinct(table.Route(nil, scriptKey(words[0]), raw)); len(ids) > 0 {
		var names []string
		for _, id := range ids {
			names = append(names, string(rune(id)))
		}
		got = strings.Join(names, " ")
	}
	if want := strings.Join(words[arrow+1:], " "); got != want {
		return "goes to " + got
	}
	return ""
}

func scriptKey(word string) string {
	if word == `""` {
		return ""
	}
	return word
}

func scriptTable(words []string) wire.Table {
	var t wire.Table
	for _, w := range words {
		key, val, _ := strings.Cut(w, "=")
		f := wire.Field{Key: key, Value: val}
		if n, err := strconv.ParseInt(val, 10, 64); err == nil {
			f.Value = n
		} else if val == "void" {
			f.Value = nil
		}
		t = append(t, f)
	}
	return t
}
