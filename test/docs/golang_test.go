package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGoBlocks compiles the Go blocks of all pages. They are laid over the
// repository as packages of their own, so that their imports resolve.
func TestGoBlocks(t *testing.T) {
	base, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	// Several packages at once: go build then keeps nothing. go vet would do, but
	// wants the folders to be there.
	args := []string{"build", "-overlay", filepath.Join(temp, "overlay.json")}
	for _, page := range pages(t) {
		if original(page) != "" {
			continue
		}
		list, err := blocks(readFile(t, filepath.Join(root, page)))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list {
			if b.lang != "go" || b.info != "" {
				continue
			}
			name := fmt.Sprintf("%s_line%d", regexp.MustCompile(`\W+`).ReplaceAllString(strings.ToLower(strings.TrimSuffix(page, ".md")), "_"), b.line)
			real := filepath.Join(temp, name+".go")
			if err := os.WriteFile(real, []byte(wholeFile(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay.Replace[filepath.Join(base, "test", "docs", "snippets", name, "snippet.go")] = real
			args = append(args, "./test/docs/snippets/"+name)
		}
	}
	if len(overlay.Replace) == 0 {
		t.Fatal("found no Go blocks")
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(temp, "overlay.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", args...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// packages are what a block without imports may use.
func packages() map[string]string {
	return map[string]string{
		"amqp": "github.com/rabbitmq/amqp091-go", "broker": "github.com/warrenmq/warren/broker",
		"brokertest": "github.com/warrenmq/warren/brokertest", "dedup": "github.com/warrenmq/warren/reliable/dedup",
		"sqlstore": "github.com/warrenmq/warren/reliable/dedup/sqlstore", "outbox": "github.com/warrenmq/warren/reliable/outbox",
		"reliable": "github.com/warrenmq/warren/reliable", "sql": "database/sql", "context": "context", "errors": "errors",
		"fmt": "fmt", "http": "net/http", "log": "log", "slog": "log/slog", "net": "net", "os": "os", "testing": "testing", "time": "time",
	}
}

// wholeFile makes a file of functions or statements.
func wholeFile(text string) string {
	if strings.HasPrefix(text, "package ") {
		return text
	}
	if !regexp.MustCompile(`(?m)^(func|type) `).MatchString(text) {
		text = "func snippet() {\n" + text + "}\n"
	}
	head := "package snippet\n\n"
	for name, path := range packages() {
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(text) {
			head += fmt.Sprintf("import %s %q\n", name, path)
		}
	}
	return head + "\n" + text
}
