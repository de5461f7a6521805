package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// checkPurity keeps internal/core deterministic: time, randomness and input are arguments, effects are
// results. Its tests may use anything but the clock and randomness of the machine.
func checkPurity(tree []*source) (found []finding) {
	forbidden := []string{"os", "net", "sync", "io/fs", "syscall", "log", "context", "runtime", "unsafe", "math/rand", "crypto/rand", "C"}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "Sleep", "NewTimer", "NewTicker", "Local"}
	for _, s := range tree {
		if !s.under("internal/core") || s.isTest || s.isTool {
			continue
		}
		report := func(pos token.Pos, what string) {
			found = append(found, finding{place: s.path, message: fmt.Sprintf("%s: %s in internal/core, which must be deterministic: "+
				"take it as an argument, or return an effect for the engine to carry out", s.at(pos), what)})
		}
		for _, spec := range s.ast.Imports {
			importPath := strings.Trim(spec.Path.Value, `"`)
			if slices.ContainsFunc(forbidden, func(p string) bool { return importPath == p || strings.HasPrefix(importPath, p+"/") }) {
				report(spec.Pos(), "import of "+importPath)
			}
		}
		s.uses(func(importPath, name string, pos token.Pos) {
			if importPath == "time" && slices.Contains(clock, name) {
				report(pos, "time."+name)
			}
		})
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.GoStmt:
				report(n.Pos(), "a goroutine")
			case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
				report(n.Pos(), "a channel")
			}
			return true
		})
	}
	return found
}

// checkGlobals refuses package-level variables that can change: two brokers run in one process. A
// variable passes if it is given its value where it is declared, is never assigned, incremented or
// addressed in its package, and holds no lock, pool or atomic. (A value computed once, sync.OnceValue, is
// a constant that is expensive.) Tests and programs for testing may do as they like.
func checkGlobals(tree []*source) (found []finding) {
	type variable struct {
		s    *source
		pos  token.Pos
		what string // what makes it mutable, once known
	}
	globals := map[string]*variable{}
	key := func(s *source, name string) string { return s.dir + "." + name }
	skip := func(s *source) bool { return s.isTest || s.isTool || s.under("test", "bench", "examples") }
	for _, s := range tree {
		if skip(s) {
			continue
		}
		for _, spec := range varSpecs(s.ast) {
			for _, name := range spec.Names {
				if name.Name != "_" {
					globals[key(s, name.Name)] = &variable{s: s, pos: name.Pos(), what: mutableDeclaration(s, spec)}
				}
			}
		}
	}
	for _, s := range tree {
		if skip(s) {
			continue
		}
		mark := func(expr ast.Expr, local map[string]bool, what string) {
			if name := rootName(expr); name != "" && !local[name] {
				if v := globals[key(s, name)]; v != nil && v.what == "" {
					v.what = what + " at " + s.at(expr.Pos())
				}
			}
		}
		for _, decl := range s.ast.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			markChanges(f, localNames(f), mark)
		}
	}
	for name, v := range globals {
		if v.what != "" {
			found = append(found, finding{place: name, message: fmt.Sprintf("%s: package-level variable %s can change (%s): "+
				"two brokers run in one process, so make it a field of what owns it, or a constant", v.s.at(v.pos), name, v.what)})
		}
	}
	return found
}

func varSpecs(file *ast.File) (specs []*ast.ValueSpec) {
	for _, decl := range file.Decls {
		if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR {
			for _, spec := range gen.Specs {
				value := spec.(*ast.ValueSpec)
				if value.Doc == nil && !gen.Lparen.IsValid() {
					value.Doc = gen.Doc
				}
				specs = append(specs, value)
			}
		}
	}
	return specs
}

// mutableDeclaration says what in a declaration alone makes the variable mutable, or nothing.
func mutableDeclaration(s *source, spec *ast.ValueSpec) (what string) {
	embedded := spec.Doc != nil && slices.ContainsFunc(spec.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
	if len(spec.Values) == 0 && !embedded {
		return "it has no value where it is declared"
	}
	names := s.imports()
	ast.Inspect(spec, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok {
				for _, importPath := range []string{"sync", "sync/atomic"} {
					once := strings.HasPrefix(selector.Sel.Name, "OnceValue")
					if name, imported := names[importPath]; imported && x.Name == name && !once {
						what = "it holds a " + importPath + "." + selector.Sel.Name
					}
				}
			}
		}
		return true
	})
	return what
}

// rootName is the variable that an expression such as a.b[i].c starts from.
func rootName(expr ast.Expr) string {
	for {
		switch x := expr.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.SelectorExpr:
			expr = x.X
		case *ast.IndexExpr:
			expr = x.X
		case *ast.SliceExpr:
			expr = x.X
		case *ast.StarExpr:
			expr = x.X
		case *ast.ParenExpr:
			expr = x.X
		default:
			return ""
		}
	}
}

// localNames are the names that a function declares itself, so that they do not mean the global.
func localNames(f *ast.FuncDecl) map[string]bool {
	local := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.Field:
			for _, name := range x.Names {
				local[name.Name] = true
			}
		case *ast.AssignStmt:
			if x.Tok == token.DEFINE {
				for _, left := range x.Lhs {
					local[rootName(left)] = true
				}
			}
		case *ast.RangeStmt:
			if x.Tok == token.DEFINE {
				local[rootName(x.Key)] = true
				if x.Value != nil {
					local[rootName(x.Value)] = true
				}
			}
		case *ast.ValueSpec:
			for _, name := range x.Names {
				local[name.Name] = true
			}
		}
		return true
	})
	return local
}

func markChanges(f *ast.FuncDecl, local map[string]bool, mark func(ast.Expr, map[string]bool, string)) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.AssignStmt:
			if x.Tok != token.DEFINE {
				for _, left := range x.Lhs {
					mark(left, local, "assigned")
				}
			}
		case *ast.IncDecStmt:
			mark(x.X, local, "changed")
		case *ast.UnaryExpr:
			if x.Op == token.AND {
				mark(x.X, local, "address taken")
			}
		case *ast.CallExpr:
			if name, ok := x.Fun.(*ast.Ident); ok && len(x.Args) > 0 && (name.Name == "delete" || name.Name == "clear") {
				mark(x.Args[0], local, "changed by "+name.Name)
			}
		}
		return true
	})
}

// checkProcess leaves the process to cmd and internal/cli: everything else runs inside somebody's program.
func checkProcess(tree []*source) (found []finding) {
	forbidden := map[string][]string{
		"os":  {"Exit", "Getenv", "LookupEnv", "Environ", "Setenv", "Unsetenv", "Clearenv", "Args", "ExpandEnv"},
		"log": {"Fatal", "Fatalf", "Fatalln"},
	}
	for _, s := range tree {
		if s.isTest || s.isProgram() || s.under("cmd", "internal/cli") {
			continue
		}
		if s.path == "reliable/fromenv.go" { // whose promise it is to look at AMQP_URL
			continue
		}
		report := func(pos token.Pos, what string) {
			found = append(found, finding{place: s.path, message: fmt.Sprintf("%s: %s outside cmd and internal/cli: "+
				"take what it gives as an argument or return an error, and let internal/cli deal with the process", s.at(pos), what)})
		}
		for _, spec := range s.ast.Imports {
			if importPath := strings.Trim(spec.Path.Value, `"`); importPath == "flag" || importPath == "os/signal" {
				report(spec.Pos(), "import of "+importPath)
			}
		}
		s.uses(func(importPath, name string, pos token.Pos) {
			if slices.Contains(forbidden[importPath], name) {
				report(pos, importPath+"."+name)
			}
		})
	}
	return found
}
