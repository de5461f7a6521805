package tidy

import (
	"cmp"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/warrenmq/warren"

// source is one Go file. Paths are relative to the module root and use slashes.
type source struct {
	path   string
	dir    string // the package it belongs to, "." for the root
	isTest bool
	// isTool is set for a file with //go:build ignore: a program of its own, run by go generate.
	isTool bool
	text   string
	fset   *token.FileSet
	ast    *ast.File
}

// finding is one place that breaks a rule. place identifies it in exceptions.txt; size is 0 unless the
// rule is about a size, and then what it measured.
type finding struct {
	rule, place string
	size        int
	message     string
}

func (s *source) line(pos token.Pos) int { return s.fset.Position(pos).Line }

func (s *source) at(pos token.Pos) string { return s.path + ":" + strconv.Itoa(s.line(pos)) }

// under reports whether the file lies in one of the folders or below it.
func (s *source) under(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return s.dir == dir || strings.HasPrefix(s.dir, dir+"/")
	})
}

func (s *source) isMain() bool { return s.ast.Name.Name == "main" }

// isProgram reports whether the file is part of something that a person or a script starts: there the
// process belongs to it.
func (s *source) isProgram() bool {
	return s.isTool || s.isMain() && s.under("test", "bench", "examples")
}

// imports returns the import paths with the name each is known by in this file.
func (s *source) imports() map[string]string {
	names := map[string]string{}
	for _, spec := range s.ast.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(importPath)
		if spec.Name != nil {
			name = spec.Name.Name
		} else if strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" {
			name = path.Base(path.Dir(importPath)) // math/rand/v2 is known as rand
		}
		names[importPath] = name
	}
	return names
}

// uses visits every mention of a name of an imported package, such as time.Sleep. A local variable that
// shadows the package would be reported by mistake: do not shadow packages.
func (s *source) uses(visit func(importPath, name string, pos token.Pos)) {
	byName := map[string]string{}
	for importPath, name := range s.imports() {
		byName[name] = importPath
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && byName[x.Name] != "" {
				visit(byName[x.Name], selector.Sel.Name, selector.Pos())
			}
		}
		return true
	})
}

func parse(t *testing.T, name, text string) *source {
	t.Helper()
	s := &source{path: name, dir: path.Dir(name), isTest: strings.HasSuffix(name, "_test.go"), text: text, fset: token.NewFileSet()}
	parsed, err := parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%v\nMend the syntax first; the other rules need to read the file.", err)
	}
	s.ast = parsed
	for _, group := range parsed.Comments {
		for _, c := range group.List {
			if c.Pos() < parsed.Package && constraint.IsGoBuild(c.Text) {
				if expr, err := constraint.Parse(c.Text); err == nil {
					s.isTool = s.isTool || !expr.Eval(func(tag string) bool { return tag != "ignore" })
				}
			}
		}
	}
	return s
}

// moduleRoot is the folder with go.mod, found upwards from this package.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above this package")
		}
	}
}

// walk calls visit with every file of the repository that is ours: no hidden folders, testdata or
// folders that tools fill. The path is relative to the module root.
func walk(t *testing.T, visit func(name, text string)) {
	t.Helper()
	root := moduleRoot(t)
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && file != root && entry.Name() != ".ci"
		if entry.IsDir() && (hidden || slices.Contains([]string{"testdata", "vendor", "node_modules"}, entry.Name())) {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() || hidden {
			return nil
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		if !isSourceName(relative) {
			return nil
		}
		text, err := os.ReadFile(file)
		visit(relative, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isSourceName picks what people write here: Go, scripts and the other languages' test clients.
func isSourceName(name string) bool {
	return slices.Contains([]string{".go", ".sh", ".py", ".js", ".rb", ".php", ".java"}, path.Ext(name)) || name == ".ci/run"
}

// tree parses all Go files of the repository, in the order of their paths.
func tree(t *testing.T) []*source {
	t.Helper()
	var sources []*source
	walk(t, func(name, text string) {
		if path.Ext(name) == ".go" {
			sources = append(sources, parse(t, name, text))
		}
	})
	if len(sources) == 0 {
		t.Fatal("found no Go files")
	}
	slices.SortFunc(sources, func(a, b *source) int { return cmp.Compare(a.path, b.path) })
	return sources
}
