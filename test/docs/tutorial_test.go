package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTutorial runs the programs that the tutorial shows on a broker outside, such
// as RabbitMQ: they print what they print on ours.
func TestTutorial(t *testing.T) {
	url := os.Getenv("WARREN_DOCS_AMQP_URL")
	if url == "" {
		t.Skip("WARREN_DOCS_AMQP_URL names no broker")
	}
	programs := 0
	for _, file := range pages(t) {
		if !strings.HasPrefix(file, "docs/tutorial/") {
			continue
		}
		list, err := blocks(readFile(t, filepath.Join(root, file)))
		if err != nil {
			t.Fatal(err)
		}
		p := newPage(t, t.TempDir(), file)
		p.env = append(p.env, "AMQP_URL="+url)
		for _, b := range list {
			isPython := b.info == "python"
			if b.lang != "console" || isPython && os.Getenv(pythonVariable) == "" {
				continue
			}
			list, err := steps(b.text)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				if !isPython && !strings.HasPrefix(s.command, "go run ./examples/") {
					continue
				}
				programs++
				if got, err := p.run(s.command); err != nil || !matches(s.want, got) {
					t.Errorf("%s:%d: $ %s\nprinted (%v):\n%s\nthe page says:\n%s", file, b.line, s.command, err, got, s.want)
				}
			}
		}
	}
	if programs < 6 {
		t.Errorf("only %d programs were run: are they still found?", programs)
	}
}
