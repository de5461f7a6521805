package mgmt

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Difference is one place where two answers differ.
type Difference struct {
	Request string
	Path    string // $.items[0].name, or "status"
	Ours    string // "absent" if there is nothing
	Theirs  string
}

// String is one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s\n\t%s: %s, RabbitMQ: %s", d.Request, d.Path, d.Ours, d.Theirs)
}

const absent = "absent"

// Compare lists where our answer differs from theirs.
func Compare(ours, theirs Answer) []Difference {
	a, b := map[string]string{}, map[string]string{}
	flatten("$", ours.Body, a)
	flatten("$", theirs.Body, b)
	a["status"], b["status"] = strconv.Itoa(ours.Status), strconv.Itoa(theirs.Status)
	paths := maps.Clone(a)
	maps.Copy(paths, b)
	var ds []Difference
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		x, inA := a[path]
		y, inB := b[path]
		if !inA {
			x = absent
		}
		if !inB {
			y = absent
		}
		if x != y {
			ds = append(ds, Difference{theirs.Request, path, x, y})
		}
	}
	return ds
}

func flatten(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			into[path] = "{}"
		}
		for k, x := range v {
			flatten(path+"."+k, x, into)
		}
	case []any:
		if len(v) == 0 {
			into[path] = "[]"
		}
		for i, x := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), x, into)
		}
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte(err.Error())
		}
		into[path] = string(text)
	}
}

// Deviation is a line of deviations.txt: places where this broker answers
// otherwise, and why.
type Deviation struct {
	Line          string
	request, path *regexp.Regexp
	Used          bool
}

// Matches tells whether the deviation covers a difference, and remembers it.
func (d *Deviation) Matches(x Difference) bool {
	if d.request.MatchString(x.Request) && d.path.MatchString(x.Path) {
		d.Used = true
		return true
	}
	return false
}

// ParseDeviations reads lines of the form REQUEST | PATH | REASON. In the first two
// * stands for anything, and [] for any index.
func ParseDeviations(text string) ([]*Deviation, error) {
	var all []*Deviation
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(line, " | ", 3)
		if len(parts) != 3 || strings.TrimSpace(parts[2]) == "" {
			return nil, fmt.Errorf("%q is not REQUEST | PATH | REASON", line)
		}
		all = append(all, &Deviation{Line: line, request: pattern(parts[0]), path: pattern(parts[1])})
	}
	return all, nil
}

func pattern(glob string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(strings.TrimSpace(glob))
	quoted = strings.ReplaceAll(quoted, `\[\]`, `\[\d+\]`)
	return regexp.MustCompile("^" + strings.ReplaceAll(quoted, `\*`, ".*") + "$")
}
