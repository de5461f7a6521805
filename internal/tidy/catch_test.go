package tidy

import (
	"slices"
	"strings"
	"testing"
)

// catchCase is a small source tree and what a rule must find in it.
type catchCase struct {
	name, rule string
	files      map[string]string // path to text; the package clause of the folder is added unless the text has one
	want       []string          // the places found
}

// TestRulesCatch shows for each rule what it reports and what it lets pass.
func TestRulesCatch(t *testing.T) {
	cases := append(shapeCases(), stateCases()...)
	for rule := range rules() {
		if !slices.ContainsFunc(cases, func(c catchCase) bool { return c.rule == rule && c.want != nil }) {
			t.Errorf("no case shows that rule %q finds anything", rule)
		}
	}
	for _, c := range cases {
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			var sources []*source
			for name, text := range c.files {
				if !strings.Contains(text, "package ") || strings.HasPrefix(text, "import") {
					folder := name[:strings.LastIndexByte(name, '/')]
					text = "package " + folder[strings.LastIndexByte(folder, '/')+1:] + "\n" + text
				}
				sources = append(sources, parse(t, name, text))
			}
			var got []string
			for _, f := range rules()[c.rule](sources) {
				got = append(got, f.place)
				if f.message == "" {
					t.Errorf("%s: no message", f.place)
				}
			}
			slices.Sort(got)
			if got = slices.Compact(got); !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func shapeCases() []catchCase {
	lines := func(n int) string { return strings.Repeat("\n", n) }
	return []catchCase{
		{"an import that is listed passes, also over several steps", "import", map[string]string{
			"internal/core/session/a.go": `import "github.com/warrenmq/warren/internal/wire"`}, nil},
		{"an import upwards", "import", map[string]string{
			"internal/wire/a.go": `import "github.com/warrenmq/warren/internal/core/message"`}, []string{"internal/wire->internal/core/message"}},
		{"an import sideways", "import", map[string]string{
			"internal/auth/a.go": `import "github.com/warrenmq/warren/internal/engine"`}, []string{"internal/auth->internal/engine"}},
		{"the toolkit does not know the broker", "import", map[string]string{
			"reliable/a.go": `import "github.com/warrenmq/warren/broker"`}, []string{"reliable->broker"}},
		{"a package that is not listed", "import", map[string]string{"internal/novel/a.go": ""}, []string{"internal/novel"}},
		{"a module that is not listed", "import", map[string]string{
			"internal/engine/a.go": `import "github.com/rabbitmq/amqp091-go"`}, []string{"internal/engine->github.com/rabbitmq/amqp091-go"}},
		{"a module below a listed one", "import", map[string]string{
			"internal/vfs/a.go": `import "golang.org/x/sys/unix"`}, nil},
		{"patterns and ALL", "import", map[string]string{
			"test/e2e/a.go": `import "github.com/warrenmq/warren/internal/cli"`, "internal/sim/a.go": `import "github.com/warrenmq/warren/broker"`}, nil},
		{"tests may import more", "import", map[string]string{
			"internal/amqpserver/a_test.go": `import "github.com/warrenmq/warren/internal/engine"`}, nil},
		{"but not those of the core", "import", map[string]string{
			"internal/core/queue/a_test.go": `import ("github.com/warrenmq/warren/broker"; "pgregory.net/rapid")`}, []string{"internal/core/queue->broker"}},

		{"one doc comment", "doc", map[string]string{"broker/a.go": "// Package broker is one.\npackage broker", "broker/b.go": ""}, nil},
		{"no doc comment", "doc", map[string]string{"broker/a.go": "", "broker/a_test.go": "// Package broker here does not count.\npackage broker"}, []string{"broker"}},
		{"two doc comments", "doc", map[string]string{
			"broker/a.go": "// Package broker is one.\npackage broker", "broker/b.go": "// Package broker again.\npackage broker"}, []string{"broker"}},
		{"a doc comment that begins otherwise", "doc", map[string]string{"broker/a.go": "// The broker.\npackage broker"}, []string{"broker/a.go"}},
		{"a folder of tests", "doc", map[string]string{"test/e2e/a_test.go": "// Package e2e drives.\npackage e2e", "test/e2e/b_test.go": ""}, nil},

		{"a name that says nothing", "name", map[string]string{"internal/util/a.go": ""}, []string{"internal/util"}},
		{"a name with a capital", "name", map[string]string{"internal/Wire/a.go": "package Wire"}, []string{"internal/Wire"}},
		{"a package in a folder of another name", "name", map[string]string{"internal/wire/a.go": "package frames"}, []string{"internal/wire"}},
		{"a program may be in any folder", "name", map[string]string{"cmd/warren/a.go": "package main"}, nil},

		{"a file at the limit", "file", map[string]string{"broker/a.go": lines(maxFileLines - 1)}, nil},
		{"a file beyond it", "file", map[string]string{"broker/a.go": lines(maxFileLines)}, []string{"broker/a.go"}},
		{"a generated file", "file", map[string]string{"broker/a_gen.go": lines(maxFileLines)}, nil},
		{"a function at the limit", "func", map[string]string{"broker/a.go": "func f() {" + lines(maxFuncLines-1) + "}"}, nil},
		{"a function and a method beyond it", "func", map[string]string{
			"broker/a.go": "func f() {" + lines(maxFuncLines) + "}\nfunc (t *T[K]) g() {" + lines(maxFuncLines) + "}"}, []string{"broker.T.g", "broker.f"}},
	}
}

func stateCases() []catchCase {
	return []catchCase{
		{"durations are data", "pure", map[string]string{"internal/core/queue/a.go": "import \"time\"\nvar d = time.Second"}, nil},
		{"the clock", "pure", map[string]string{"internal/core/queue/a.go": "import \"time\"\nvar d = time.Now()"}, []string{"internal/core/queue/a.go"}},
		{"the clock under another name", "pure", map[string]string{
			"internal/core/queue/a.go": "import clock \"time\"\nvar d = clock.Since(x)"}, []string{"internal/core/queue/a.go"}},
		{"locks, files, network, randomness", "pure", map[string]string{
			"internal/core/a/a.go": `import "sync/atomic"`, "internal/core/b/a.go": `import "os"`,
			"internal/core/c/a.go": `import "net/netip"`, "internal/core/d/a.go": `import "math/rand/v2"`},
			[]string{"internal/core/a/a.go", "internal/core/b/a.go", "internal/core/c/a.go", "internal/core/d/a.go"}},
		{"goroutines and channels", "pure", map[string]string{
			"internal/core/a/a.go": "func f() { go f() }", "internal/core/b/a.go": "func f(c chan int) {}", "internal/core/c/a.go": "func f() { select {} }"},
			[]string{"internal/core/a/a.go", "internal/core/b/a.go", "internal/core/c/a.go"}},
		{"outside the core all of it is fine", "pure", map[string]string{"internal/engine/a.go": "import \"time\"\nvar d = time.Now()\nfunc f() { go f() }"}, nil},

		{"errors and tables do not change", "global", map[string]string{
			"broker/a.go": "import \"errors\"\nvar errX = errors.New(\"x\")\nvar table = map[string]int{\"a\": 1}\nvar _ = table"}, nil},
		{"a variable without a value", "global", map[string]string{"broker/a.go": "var count int"}, []string{"broker.count"}},
		{"an embedded file has one", "global", map[string]string{"broker/a.go": "//go:embed x.txt\nvar text string"}, nil},
		{"a variable assigned in another file", "global", map[string]string{
			"broker/a.go": "var limit = 1", "broker/b.go": "func f() { limit = 2 }"}, []string{"broker.limit"}},
		{"a table written to, emptied, counted up, pointed to", "global", map[string]string{
			"broker/a.go": "var a, b, c, d = map[int]int{}, map[int]int{}, [1]int{}, T{}\nfunc f() { a[1] = 2; delete(b, 1); c[0]++; g(&d.x) }"},
			[]string{"broker.a", "broker.b", "broker.c", "broker.d"}},
		{"a local variable of the same name", "global", map[string]string{"broker/a.go": "var n = 1\nfunc f() { n := 2; n++ }"}, nil},
		{"a pool", "global", map[string]string{"broker/a.go": "import \"sync\"\nvar pool = sync.Pool{}"}, []string{"broker.pool"}},
		{"a value computed once", "global", map[string]string{"broker/a.go": "import \"sync\"\nvar spec = sync.OnceValue(load)"}, nil},

		{"the process outside cmd and cli", "process", map[string]string{
			"broker/a.go": "import \"os\"\nfunc f() { os.Exit(1) }", "internal/config/a.go": "import \"os\"\nvar x = os.Getenv(\"X\")",
			"internal/engine/a.go": `import "os/signal"`, "internal/mgmt/a.go": `import "flag"`},
			[]string{"broker/a.go", "internal/config/a.go", "internal/engine/a.go", "internal/mgmt/a.go"}},
		{"the process where it belongs", "process", map[string]string{
			"cmd/warren/a.go": "package main\nimport \"os\"\nfunc main() { os.Exit(1) }", "internal/cli/a.go": "import \"os\"\nvar x = os.Args",
			"test/interop/x/a.go":  "package main\nimport \"os\"\nfunc main() { os.Exit(1) }",
			"internal/wire/gen.go": "//go:build ignore\n\npackage main\nimport \"os\"\nfunc main() { os.Exit(1) }"}, nil},

		{"a sleeping test", "sleep", map[string]string{"broker/a_test.go": "import \"time\"\nfunc f() { time.Sleep(1) }"}, []string{"broker/a_test.go"}},
		{"sleeping under a fake clock", "sleep", map[string]string{
			"broker/a_test.go": "import (\"time\"; \"testing/synctest\")\nfunc f() { synctest.Test(t, func() { time.Sleep(1) }) }"}, nil},
		{"production code may sleep", "sleep", map[string]string{"broker/a.go": "import \"time\"\nfunc f() { time.Sleep(1) }"}, nil},

		{"a marker in a comment", "marker", map[string]string{"broker/a.go": "// TO" + "DO: later\nvar x = 1"}, []string{"broker/a.go"}},
		{"the same in a string", "marker", map[string]string{"broker/a.go": "var x = \"TO" + "DO\""}, nil},
	}
}
