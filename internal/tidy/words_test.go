package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// checkSleeps refuses time.Sleep in tests and test programs. Inside synctest.Test the clock is a fake one
// and sleeping is how it advances.
func checkSleeps(tree []*source) (found []finding) {
	for _, s := range tree {
		if !s.isTest && !s.under("test", "brokertest", "reliable/reliabletest") {
			continue
		}
		imports := s.imports()
		var bubbles []ast.Node
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Test" {
				if x, ok := f.X.(*ast.Ident); ok && imports["testing/synctest"] == x.Name {
					bubbles = append(bubbles, call)
				}
			}
			return true
		})
		s.uses(func(importPath, name string, pos token.Pos) {
			if importPath != "time" || name != "Sleep" {
				return
			}
			for _, bubble := range bubbles {
				if bubble.Pos() <= pos && pos < bubble.End() {
					return
				}
			}
			found = append(found, finding{place: s.path, message: fmt.Sprintf(
				"%s: time.Sleep in a test: wait for a condition with a deadline, or use testing/synctest", s.at(pos))})
		})
	}
	return found
}

// markers are the words that people leave where work is unfinished. They are put together here so that
// this file does not contain them.
var markers = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b|not ` + `implemented yet`)

// checkMarkers looks at Go comments only: a protocol text in a string may well say that something is not
// implemented.
func checkMarkers(tree []*source) (found []finding) {
	for _, s := range tree {
		for _, group := range s.ast.Comments {
			for _, c := range group.List {
				if word := markers.FindString(c.Text); word != "" && !s.under("internal/tidy") {
					found = append(found, finding{place: s.path, message: fmt.Sprintf(
						"%s: %q in a comment: finish it, or say in plain words what does not work and why", s.at(c.Pos()), word)})
				}
			}
		}
	}
	return found
}

// TestScriptMarkers does for scripts, whole files, what checkMarkers does for Go's comments.
func TestScriptMarkers(t *testing.T) {
	count := 0
	walk(t, func(name, text string) {
		if strings.HasSuffix(name, ".go") {
			return
		}
		count++
		for i, line := range strings.Split(text, "\n") {
			if word := markers.FindString(line); word != "" {
				t.Errorf("%s:%d: %q: finish it, or say in plain words what does not work and why", name, i+1, word)
			}
		}
	})
	if count == 0 {
		t.Error("found no scripts")
	}
}
