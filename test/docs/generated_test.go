package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/config"
	"github.com/warrenmq/warren/internal/doctor"
)

// TestGeneratedTables compares the tables that are made from the code with what
// the pages have.
func TestGeneratedTables(t *testing.T) {
	for _, table := range []struct{ page, name, want string }{
		{"docs/configuration.md", "settings", settingsTable()},
		{"docs/compatibility.md", "deviations", reasonsTable(t, "deviations.txt")},
		{"docs/management.md", "api-deviations", apiDeviations(t)},
		{"docs/doctor.md", "checks", checksTable()},
		{"docs/compatibility.md", "later", reasonsTable(t, "later.txt")},
	} {
		file := filepath.Join(root, table.page)
		text := readFile(t, file)
		begin, end := "<!-- "+table.name+":begin -->\n", "<!-- "+table.name+":end -->"
		before, rest, found := strings.Cut(text, begin)
		have, after, closed := strings.Cut(rest, end)
		switch {
		case !found || !closed:
			t.Errorf("%s has no place for the table: %q ... %q", table.page, begin, end)
		case have == table.want:
		case os.Getenv("WARREN_UPDATE_DOCS") != "":
			if err := os.WriteFile(file, []byte(before+begin+table.want+end+after), 0o644); err != nil {
				t.Error(err)
			}
		default:
			t.Errorf("%s: the table of %s is out of date, run WARREN_UPDATE_DOCS=1 go test ./test/docs; it should be\n%s",
				table.page, table.name, table.want)
		}
	}
}

// checksTable is what warren doctor looks for.
func checksTable() string {
	var b strings.Builder
	b.WriteString("| check | finds | severity | seen when |\n|---|---|---|---|\n")
	for _, c := range doctor.Checks() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.Name, c.Finds, c.Worst, c.When)
	}
	return b.String()
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("| in the file | flag | variable | default | what it is |\n|---|---|---|---|---|\n")
	for _, s := range config.Settings() {
		key, value := "`"+s.Key+"`", "`"+s.Default()+"`"
		if s.Default() == "" {
			value = "none"
		}
		if s.Key == "user" || s.Key == "user_hash" {
			key = "`[[users]]`"
		}
		usage := strings.ReplaceAll(s.Usage, "|", `\|`)
		fmt.Fprintf(&b, "| %s | `%s` | `%s` | %s | %s |\n", key, strings.TrimSpace("--"+s.Flag+" "+strings.ReplaceAll(s.Arg, "|", `\|`)), s.Env, value, usage)
	}
	return b.String()
}

// reasonsTable groups the scripts of test/parity that have the same reason.
func reasonsTable(t *testing.T, file string) string {
	scripts := map[string][]string{}
	var order []string
	for line := range strings.Lines(readFile(t, filepath.Join(root, "test/parity", file))) {
		line = strings.TrimSpace(line)
		name, reason, ok := strings.Cut(line, ": ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if scripts[reason] == nil {
			order = append(order, reason)
		}
		scripts[reason] = append(scripts[reason], "`"+name+"`")
	}
	var b strings.Builder
	b.WriteString("| what and why | scripts |\n|---|---|\n")
	for _, reason := range order {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(reason, "|", `\|`), strings.Join(scripts[reason], " "))
	}
	return b.String()
}

// apiDeviations are the lines of test/mgmt, those with the same reason together.
func apiDeviations(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| request | where | why |\n|---|---|---|\n")
	for line := range strings.Lines(readFile(t, filepath.Join(root, "test/mgmt/deviations.txt"))) {
		parts := strings.Split(strings.TrimSpace(line), " | ")
		if len(parts) != 3 || strings.HasPrefix(line, "#") {
			continue
		}
		if parts[0] == "*" {
			parts[0] = "any"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", parts[0], parts[1], parts[2])
	}
	return b.String()
}

// documents are all files of prose.
func documents(t *testing.T) []string {
	return append(pages(t), "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
}

// TestNamesExist looks for links to, and names of, files that are not there.
func TestNamesExist(t *testing.T) {
	fenced := regexp.MustCompile("(?ms)^```.*?^```$")
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	name := regexp.MustCompile("`((?:internal|cmd|broker|brokertest|reliable|examples|test|docs|bench|\\.ci)/[A-Za-z0-9_./-]*)`")
	for _, file := range documents(t) {
		text := readFile(t, filepath.Join(root, file))
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
		for _, m := range name.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s: %v", file, m[1], err)
			}
		}
	}
}

// TestCommandsAreDescribed wants every command of the binary on its page.
func TestCommandsAreDescribed(t *testing.T) {
	help := exec.Command("go", "run", "./cmd/warren", "--help")
	help.Dir = root
	out, err := help.Output()
	if err != nil {
		t.Fatal(err)
	}
	page := readFile(t, filepath.Join(root, "docs", "cli.md"))
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`).FindAllStringSubmatch(string(out), -1) {
		found++
		if m[1] != "help" && !strings.Contains(page, "`warren "+m[1]) {
			t.Errorf("docs/cli.md does not mention warren %s", m[1])
		}
	}
	if found < 10 {
		t.Errorf("found only %d commands in:\n%s", found, out)
	}
}

// TestFileMap wants every folder with Go files in ARCHITECTURE.md's file map, by
// itself or with the folder above.
func TestFileMap(t *testing.T) {
	text := readFile(t, filepath.Join(root, "ARCHITECTURE.md"))
	files, err := filepath.Glob(filepath.Join(root, "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*/*/*.go", "*/*/*/*.go"} {
		more, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	missing := map[string]bool{}
	for _, f := range files {
		dir, err := filepath.Rel(root, filepath.Dir(f))
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.ToSlash(dir)
		if !strings.Contains(text, "| `"+dir+"/`") && !strings.Contains(text, "| `"+path.Dir(dir)+"/`") {
			missing[dir] = true
		}
	}
	for dir := range missing {
		t.Errorf("the file map of ARCHITECTURE.md has no line for `%s/`: say in one line what it holds", dir)
	}
	if len(files) < 100 {
		t.Errorf("found only %d files", len(files))
	}
}
