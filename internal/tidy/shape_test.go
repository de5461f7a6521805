package tidy

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

const (
	maxFileLines = 1000
	maxFuncLines = 100
)

// checkDocs wants exactly one file of each package to carry its doc comment.
func checkDocs(tree []*source) (found []finding) {
	type docs struct {
		files, documented []string
		name              string
	}
	packages := map[string]*docs{}
	testsOnly := map[string]bool{}
	for _, s := range tree {
		if _, known := testsOnly[s.dir]; !known {
			testsOnly[s.dir] = true
		}
		if !s.isTest && !s.isTool {
			testsOnly[s.dir] = false
		}
	}
	for _, s := range tree {
		// In a folder of tests alone, one of the tests carries the comment.
		if s.isTool || s.isTest && !testsOnly[s.dir] {
			continue
		}
		p := packages[s.dir]
		if p == nil {
			p = &docs{name: s.ast.Name.Name}
			packages[s.dir] = p
		}
		p.files = append(p.files, s.path)
		if s.ast.Doc == nil {
			continue
		}
		p.documented = append(p.documented, s.path)
		want := "Package " + strings.TrimSuffix(s.ast.Name.Name, "_test") + " "
		if s.isMain() {
			want = "Command "
		}
		if text := s.ast.Doc.Text(); !strings.HasPrefix(text, want) && !(s.isTest && strings.HasPrefix(text, "Package ")) {
			found = append(found, finding{place: s.path, message: fmt.Sprintf("%s: let the package comment begin with %q", s.path, want)})
		}
	}
	for dir, p := range packages {
		if len(p.documented) == 0 {
			found = append(found, finding{place: dir, message: fmt.Sprintf(
				"%s: package %s has no doc comment: say in one file what it is, its invariants and which goroutine calls it", dir, p.name)})
		} else if len(p.documented) > 1 {
			found = append(found, finding{place: dir, message: fmt.Sprintf(
				"%s: package %s has several doc comments, in %s: keep one", dir, p.name, strings.Join(p.documented, ", "))})
		}
	}
	return found
}

// checkNames refuses package names that say nothing about what is inside.
func checkNames(tree []*source) (found []finding) {
	banned := []string{"util", "utils", "common", "base", "types", "helper", "helpers", "misc", "shared", "lib", "core", "models", "interfaces"}
	seen := map[string]bool{}
	for _, s := range tree {
		name := strings.TrimSuffix(s.ast.Name.Name, "_test")
		if seen[s.dir+" "+name] {
			continue
		}
		seen[s.dir+" "+name] = true
		if slices.Contains(banned, name) {
			found = append(found, finding{place: s.dir, message: fmt.Sprintf(
				"%s: %q says nothing about what the package is for: name it after the one thing it holds, or move its parts to who uses them", s.dir, name)})
		}
		if name != strings.ToLower(name) || strings.Contains(name, "_") {
			found = append(found, finding{place: s.dir, message: fmt.Sprintf("%s: package name %q: use one lower-case word", s.dir, name)})
		}
		if !s.isTool && name != "main" && s.dir != "." && name != path.Base(s.dir) {
			found = append(found, finding{place: s.dir, message: fmt.Sprintf("%s: package %q is in a folder of another name: make them the same", s.path, name)})
		}
	}
	return found
}

func checkFileLengths(tree []*source) (found []finding) {
	for _, s := range tree {
		lines := strings.Count(s.text, "\n")
		if lines > maxFileLines && !strings.HasSuffix(s.path, "_gen.go") {
			found = append(found, finding{place: s.path, size: lines, message: fmt.Sprintf(
				"%s has %d lines, more than %d: split it by concept", s.path, lines, maxFileLines)})
		}
	}
	return found
}

func checkFuncLengths(tree []*source) (found []finding) {
	for _, s := range tree {
		if strings.HasSuffix(s.path, "_gen.go") {
			continue
		}
		for _, decl := range s.ast.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := s.line(f.End()) - s.line(f.Pos()) + 1
			if lines > maxFuncLines {
				found = append(found, finding{place: s.dir + "." + funcName(f), size: lines, message: fmt.Sprintf(
					"%s: %s has %d lines, more than %d: give its steps functions of their own", s.at(f.Pos()), funcName(f), lines, maxFuncLines)})
			}
		}
	}
	return found
}

// funcName is Name or Type.Name.
func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	expr := f.Recv.List[0].Type
	for {
		switch x := expr.(type) {
		case *ast.StarExpr:
			expr = x.X
		case *ast.IndexExpr:
			expr = x.X
		case *ast.IndexListExpr:
			expr = x.X
		case *ast.Ident:
			return x.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}
