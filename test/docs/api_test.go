package docs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exportedFile has the exported API of the public packages, one declaration, field or
// method in a line, so that a change of it is seen in review.
const exportedFile = "testdata/exported.txt"

// TestExportedAPI compares the exported API with the recorded one.
// WARREN_UPDATE_DOCS=1 go test ./test/docs records it anew.
func TestExportedAPI(t *testing.T) {
	var have []string
	for _, p := range publicPackages(t) {
		have = append(have, p.exported()...)
	}
	text := strings.Join(have, "\n") + "\n"
	if os.Getenv("WARREN_UPDATE_DOCS") != "" {
		if err := os.WriteFile(exportedFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	recorded := strings.Split(strings.TrimSuffix(readFile(t, exportedFile), "\n"), "\n")
	for _, line := range recorded {
		if !slices.Contains(have, line) {
			t.Errorf("- %s", line)
		}
	}
	for _, line := range have {
		if !slices.Contains(recorded, line) {
			t.Errorf("+ %s", line)
		}
	}
	if t.Failed() {
		t.Errorf("The exported API has changed (- recorded, + now). What went or is another breaks programs: if it is meant, "+
			"say so in CHANGELOG.md, and record it with WARREN_UPDATE_DOCS=1 go test ./test/docs (%s).", exportedFile)
	}
}

// publicPackage is a package that users import.
type publicPackage struct {
	path  string // below the module
	fset  *token.FileSet
	files []*ast.File
	tests []*ast.File
}

// publicPackages are broker, brokertest, reliable, and what is below them and not
// internal, by their paths.
func publicPackages(t *testing.T) (list []*publicPackage) {
	t.Helper()
	for _, top := range []string{"broker", "brokertest", "reliable"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || !d.IsDir():
				return err
			case d.Name() == "internal" || d.Name() == "testdata":
				return filepath.SkipDir
			}
			p, err := parsePackage(path)
			if p != nil && err == nil {
				list = append(list, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(list) < 10 {
		t.Fatalf("only %d public packages were found", len(list))
	}
	return list
}

// parsePackage reads a folder's Go files; nil if it has none.
func parsePackage(dir string) (*publicPackage, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		return nil, err
	}
	path, err := filepath.Rel(root, dir)
	if err != nil {
		return nil, err
	}
	p := &publicPackage{path: filepath.ToSlash(path), fset: token.NewFileSet()}
	for _, name := range names {
		f, err := parser.ParseFile(p.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		switch {
		case err != nil:
			return nil, err
		case strings.HasSuffix(name, "_test.go"):
			p.tests = append(p.tests, f)
		default:
			p.files = append(p.files, f)
		}
	}
	return p, nil
}

// exported is what the package exports, in sorted lines.
func (p *publicPackage) exported() (lines []string) {
	add := func(format string, args ...any) {
		lines = append(lines, "package "+p.path+", "+fmt.Sprintf(format, args...))
	}
	for _, f := range p.files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiverOf(d))) {
					add("%s", p.code(&ast.FuncDecl{Recv: d.Recv, Name: d.Name, Type: d.Type}))
				}
			case *ast.GenDecl:
				p.general(d, add)
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines) // a file for each system may declare the same
}

// general adds constants, variables and types.
func (p *publicPackage) general(d *ast.GenDecl, add func(string, ...any)) {
	var kind ast.Expr // of a constant that repeats the one before
	for i, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				p.typeSpec(s, add)
			}
		case *ast.ValueSpec:
			if s.Type != nil || len(s.Values) > 0 {
				kind = s.Type
			}
			for n, name := range s.Names {
				if !name.IsExported() {
					continue
				}
				text := d.Tok.String() + " " + name.Name
				if kind != nil {
					text += " " + p.code(kind)
				}
				switch {
				case d.Tok == token.VAR:
				case n < len(s.Values):
					text += " = " + p.code(s.Values[n])
				default:
					text += fmt.Sprintf(" = iota at %d", i)
				}
				add("%s", text)
			}
		}
	}
}

// typeSpec adds a type, and each field or method that it lists.
func (p *publicPackage) typeSpec(s *ast.TypeSpec, add func(string, ...any)) {
	head := "type " + s.Name.Name
	if s.TypeParams != nil {
		var parts []string
		for _, f := range s.TypeParams.List {
			for _, name := range f.Names {
				parts = append(parts, name.Name+" "+p.code(f.Type))
			}
		}
		head += "[" + strings.Join(parts, ", ") + "]"
	}
	var members *ast.FieldList
	switch of := s.Type.(type) {
	case *ast.StructType:
		head, members = head+" struct", of.Fields
	case *ast.InterfaceType:
		head, members = head+" interface", of.Methods
	default:
		if s.Assign.IsValid() {
			head += " ="
		}
		add("%s %s", head, p.code(s.Type))
		return
	}
	add("%s", head)
	hidden := false
	for _, f := range members.List {
		tag := ""
		if f.Tag != nil {
			tag = " " + f.Tag.Value
		}
		if len(f.Names) == 0 {
			add("%s, embedded %s%s", head, p.code(f.Type), tag)
		}
		for _, name := range f.Names {
			if !name.IsExported() {
				hidden = true
				continue
			}
			text := p.code(f.Type)
			if _, method := f.Type.(*ast.FuncType); method && strings.HasSuffix(head, " interface") {
				text = strings.TrimPrefix(text, "func")
			} else {
				text = " " + text
			}
			add("%s, %s%s%s", head, name.Name, text, tag)
		}
	}
	if hidden {
		add("%s, has what is not exported", head)
	}
}

// code is a piece of Go in one line.
func (p *publicPackage) code(n ast.Node) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, p.fset, n); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// receiverOf is the name of a method's type.
func receiverOf(d *ast.FuncDecl) string {
	of := d.Recv.List[0].Type
	for {
		switch t := of.(type) {
		case *ast.StarExpr:
			of = t.X
		case *ast.IndexExpr:
			of = t.X
		case *ast.IndexListExpr:
			of = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}
