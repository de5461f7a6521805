package docs

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestLimits compares the limits that ARCHITECTURE.md lists with the constants
// they name: "| what | value | `folder` `constant` |". Durations are only looked
// for by name.
func TestLimits(t *testing.T) {
	row := regexp.MustCompile("(?m)^\\| [^|]+ \\| ([^|]+) \\| `([a-z0-9/]+)` `([A-Za-z0-9]+)` \\|")
	rows := row.FindAllStringSubmatch(readFile(t, filepath.Join(root, "ARCHITECTURE.md")), -1)
	if len(rows) < 10 {
		t.Fatalf("found only %d limits", len(rows))
	}
	scopes := map[string]*types.Scope{}
	for _, m := range rows {
		shown, dir, name := m[1], m[2], m[3]
		if scopes[dir] == nil {
			scopes[dir] = constants(t, dir)
		}
		c, ok := scopes[dir].Lookup(name).(*types.Const)
		if !ok {
			t.Errorf("%s has no constant %s", dir, name)
			continue
		}
		want, counted := number(shown)
		if got, exact := constant.Int64Val(constant.ToInt(c.Val())); counted && c.Val().Kind() == constant.Int && (!exact || got != want) {
			t.Errorf("%s.%s is %d, ARCHITECTURE.md says %s", dir, name, got, shown)
		}
	}
}

// constants type-checks a package without its imports, which is enough for
// constants of numbers.
func constants(t *testing.T, dir string) *types.Scope {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files, %v", dir, err)
	}
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		a, err := parser.ParseFile(fset, f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if a.Name.Name != "main" {
			parsed = append(parsed, a)
		}
	}
	c := types.Config{Error: func(error) {}}
	pkg, _ := c.Check(dir, fset, parsed, nil) // what it misses are imports
	return pkg.Scope()
}

// number reads the number at the beginning of text with its unit, if it is one
// of bytes or none.
func number(text string) (n int64, ok bool) {
	words := strings.Fields(strings.ReplaceAll(text, ",", ""))
	n, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		return 0, false
	}
	if len(words) > 1 {
		switch words[1] {
		case "KiB":
			return n << 10, true
		case "MiB":
			return n << 20, true
		case "GiB":
			return n << 30, true
		case "s", "ms":
			return 0, false
		}
	}
	return n, true
}
