package tidy

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:embed exceptions.txt
var exceptionsText string

// rules are all rules that look at the Go files, by the name that exceptions.txt uses.
func rules() map[string]func([]*source) []finding {
	return map[string]func([]*source) []finding{
		"import":  func(tree []*source) []finding { return checkImports(tree, mustLattice(latticeText)) },
		"doc":     checkDocs,
		"name":    checkNames,
		"file":    checkFileLengths,
		"func":    checkFuncLengths,
		"pure":    checkPurity,
		"global":  checkGlobals,
		"process": checkProcess,
		"sleep":   checkSleeps,
		"marker":  checkMarkers,
	}
}

func TestRules(t *testing.T) {
	sources := tree(t)
	allowed, err := parseExceptions(exceptionsText)
	if err != nil {
		t.Fatal(err)
	}
	for rule, check := range rules() {
		t.Run(rule, func(t *testing.T) {
			for _, message := range judge(rule, check(sources), allowed) {
				t.Error(message)
			}
		})
	}
	for key := range allowed {
		if rule, _, _ := strings.Cut(key, " "); rules()[rule] == nil {
			t.Errorf("exceptions.txt: there is no rule %q: remove the line", rule)
		}
	}
}

// judge compares what a rule found with the exceptions and returns what is wrong, in words.
func judge(rule string, found []finding, allowed map[string]int) (messages []string) {
	used := map[string]bool{}
	for _, f := range found {
		key := rule + " " + f.place
		limit, listed := allowed[key]
		switch {
		case !listed || f.size > limit:
			messages = append(messages, f.message)
		case f.size < limit:
			messages = append(messages, fmt.Sprintf("exceptions.txt: %s has %d lines now: lower the number from %d", key, f.size, limit))
		}
		used[key] = true
	}
	for key := range allowed {
		if strings.HasPrefix(key, rule+" ") && !used[key] {
			messages = append(messages, fmt.Sprintf("exceptions.txt: %q is mended: remove the line", key))
		}
	}
	slices.Sort(messages)
	return messages
}

// parseExceptions reads lines of RULE PLACE [SIZE].
func parseExceptions(text string) (map[string]int, error) {
	allowed := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		size := 0
		if len(fields) == 3 {
			var err error
			if size, err = strconv.Atoi(fields[2]); err != nil {
				return nil, fmt.Errorf("exceptions.txt line %d: %q is not a number of lines", i+1, fields[2])
			}
		} else if len(fields) != 2 {
			return nil, fmt.Errorf("exceptions.txt line %d: want RULE PLACE [LINES], got %q", i+1, line)
		}
		allowed[fields[0]+" "+fields[1]] = size
	}
	return allowed, nil
}

func TestJudge(t *testing.T) {
	allowed, err := parseExceptions("# comment\n\nfile a.go 1100\nsleep b_test.go\nfile gone.go 1200\n")
	if err != nil {
		t.Fatal(err)
	}
	found := func(size int) []finding {
		return []finding{{rule: "file", place: "a.go", size: size, message: "too long"}}
	}
	for _, c := range []struct {
		name  string
		found []finding
		want  []string
	}{
		{"as listed", found(1100), nil},
		{"grown", found(1101), []string{"too long"}},
		{"shrunk", found(1050), []string{"exceptions.txt: file a.go has 1050 lines now: lower the number from 1100"}},
		{"mended", nil, []string{`exceptions.txt: "file a.go" is mended: remove the line`}},
		{"new", append(found(1100), finding{place: "c.go", message: "new one"}), []string{"new one"}},
	} {
		want := append(c.want, `exceptions.txt: "file gone.go" is mended: remove the line`)
		slices.Sort(want)
		if got := judge("file", c.found, allowed); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
	}
	if _, err := parseExceptions("file a.go many"); err == nil {
		t.Error("a size that is no number was accepted")
	}
}
