package tidy

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed lattice.txt
var latticeText string

// lattice is the relation of lattice.txt: below maps a package (or a pattern ending in /...) to what it
// may import directly; all other answers follow by transitivity.
type lattice struct {
	below map[string][]string
}

func mustLattice(text string) *lattice {
	l := &lattice{below: map[string][]string{}}
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		groups := strings.Split(line, "<")
		if len(groups) < 2 {
			panic(fmt.Sprintf("lattice.txt: %q has no <", line))
		}
		var lower []string
		for _, group := range groups {
			var names []string
			for _, name := range strings.Split(group, ",") {
				name = strings.TrimSpace(name)
				if name == "" {
					panic(fmt.Sprintf("lattice.txt: %q has an empty name", line))
				}
				names = append(names, name)
				l.below[name] = append(l.below[name], lower...)
			}
			lower = names
		}
	}
	return l
}

// node returns the entry that stands for a package: itself, or the closest pattern above it.
func (l *lattice) node(pkg string) (string, bool) {
	if _, ok := l.below[pkg]; ok {
		return pkg, true
	}
	for dir := pkg; ; {
		if _, ok := l.below[dir+"/..."]; ok {
			return dir + "/...", true
		}
		cut := strings.LastIndexByte(dir, '/')
		if cut < 0 {
			return "", false
		}
		dir = dir[:cut]
	}
}

// allows reports whether the package behind node may import target, a path in this module or the path of
// another module.
func (l *lattice) allows(node, target string, ours bool) bool {
	seen := map[string]bool{}
	var reach func(string) bool
	reach = func(from string) bool {
		if seen[from] {
			return false
		}
		seen[from] = true
		return slices.ContainsFunc(l.below[from], func(lower string) bool {
			matches := lower == target || lower == "ALL" && ours
			if prefix, isPattern := strings.CutSuffix(lower, "/..."); isPattern {
				matches = matches || target == prefix || strings.HasPrefix(target, prefix+"/")
			}
			if !ours {
				matches = matches || strings.HasPrefix(target, lower+"/")
			}
			return matches || reach(lower)
		})
	}
	return reach(node)
}

func checkImports(tree []*source, l *lattice) (found []finding) {
	for _, s := range tree {
		strict := !s.isTest || s.under("internal/wire", "internal/core")
		if s.isTool || !strict {
			continue
		}
		node, listed := l.node(s.dir)
		if !listed {
			found = append(found, finding{place: s.dir, message: fmt.Sprintf(
				"%s: package %s is not in internal/tidy/lattice.txt: add it there with what it may import", s.path, s.dir)})
			continue
		}
		for importPath := range s.imports() {
			target, ours := strings.CutPrefix(importPath, modulePath+"/")
			first, _, _ := strings.Cut(importPath, "/")
			standard := !strings.Contains(first, ".")
			// A test may import its own package from outside, and any other module.
			if standard || s.isTest && (target == s.dir || !ours) || l.allows(node, target, ours) {
				continue
			}
			found = append(found, finding{place: s.dir + "->" + target, message: fmt.Sprintf(
				"%s: %s may not import %s: have it declare the small interface it needs and let its caller connect the two; "+
					"only if the design changes, change internal/tidy/lattice.txt and ARCHITECTURE.md", s.path, s.dir, target)})
		}
	}
	return found
}
