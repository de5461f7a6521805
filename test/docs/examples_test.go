package docs

import (
	"go/ast"
	"go/doc"
	"path"
	"strings"
	"testing"
)

// concepts are what a user of package reliable and those below it has to know, and
// the example that shows each, by its package.
var concepts = map[string][]string{
	"reliable": {
		"", "FromEnv", "ToURL", "ToExchange", "Codec", "TopologyFor", // connect, declare
		"Publisher_Publish", "Publisher_PublishAsync", "Publisher_PublishAll", "PublishOption", "PublishError", "After", "At",
		"Consume_decisions", "Permanent", "RetryAfter", "Snooze", "Drop", "Pause", "PanicError", "DecodeError", // decisions
		"RetryPolicy", "Exponential", "Schedule", "Jitter",
		"PartitionBy", "Use", "Timeout", "Breaker", "RateLimit", "Mux", "ConsumeBatch", "BatchError",
		"Client_Run", "Client_Ready", "Consumer_Stop", "Observer",
		"Idempotent", "DedupKey", "InTx", "NewOutboxPublisher",
		"DeadLetters_Scan", "DeadLetters_Redrive", "DeadLetters_Purge", "DeadLetters_Export", "Client_Lost",
	},
	"reliable/dedup":             {"Store", "Memory", "Hold"},
	"reliable/dedup/boltstore":   {"New"},
	"reliable/dedup/sqlstore":    {"Store_BeginTx"},
	"reliable/dialect":           {"Dialect_Bind"},
	"reliable/otel":              {""},
	"reliable/outbox":            {""},
	"reliable/outbox/boltoutbox": {""},
	"reliable/reliabletest":      {"", "Broker_Advance", "Broker_CutAt", "Broker_CutAtFrame", "Broker_Duplicate", "Expect"},
	"broker":                     {"", "Broker_Serve"},
	"brokertest":                 {"", "Broker_HoldConfirms", "Broker_CrashAndRestart"},
}

// withoutExample are packages that examples cannot run, each with the reason.
var withoutExample = map[string]string{
	"reliable/dedup/deduptest":  "it is the test of stores: each store's test is its example",
	"reliable/dedup/redisstore": "it needs a Redis; it is used as the other stores",
	"reliable/outbox/pgnotify":  "it needs a Postgres",
}

// TestEveryConceptHasAnExample wants the examples above, with an output that is
// compared; and of package reliable every function that users call to be used in one.
func TestEveryConceptHasAnExample(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range publicPackages(t) {
		seen[p.path] = true
		if withoutExample[p.path] != "" {
			continue
		}
		if len(concepts[p.path]) == 0 {
			t.Errorf("package %s has no concepts here, and no reason to have none", p.path)
		}
		shown := map[string]bool{}
		for _, e := range doc.Examples(p.tests...) {
			if e.Output == "" || e.Unordered {
				t.Errorf("package %s: Example%s has no output that is compared", p.path, e.Name)
			}
			shown[e.Name] = true
		}
		for _, name := range concepts[p.path] {
			if !shown[name] {
				t.Errorf("package %s: there is no Example%s", p.path, name)
			}
		}
		if p.path == "reliable" {
			p.wantUsed(t)
		}
	}
	for name := range withoutExample {
		if !seen[name] {
			t.Errorf("package %s does not exist", name)
		}
	}
}

// wantUsed wants each exported function of the package in a file of examples.
func (p *publicPackage) wantUsed(t *testing.T) {
	used := map[string]bool{}
	for _, f := range p.tests {
		if !strings.HasPrefix(path.Base(p.fset.Position(f.Pos()).Filename), "example") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if of, ok := s.X.(*ast.Ident); ok && of.Name == path.Base(p.path) {
					used[s.Sel.Name] = true
				}
			}
			return true
		})
	}
	for _, f := range p.files {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.IsExported() && !used[d.Name.Name] {
				t.Errorf("package %s: no example uses %s", p.path, d.Name.Name)
			}
		}
	}
}
