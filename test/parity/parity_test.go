package parity

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// reference is the RabbitMQ version whose behaviour this project's broker follows.
const reference = "4.3"

func readScripts(t *testing.T) map[string]string {
	t.Helper()
	scripts, err := Scripts("scripts")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	return scripts
}

// recorded reads a transcript under testdata, "" if there is none.
func recorded(t *testing.T, folder, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", folder, name+".txt"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// reasons reads deviations.txt or later.txt: script name -> reason.
func reasons(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok || len(reason) < 20 {
			t.Errorf("%s: %q has no reason", file, line)
		}
		found[name] = reason
	}
	return found
}

// play plays all scripts. One with milliseconds in it may see something else on a machine
// that is busy with all the others: if it does not say what is wanted, it gets a second
// chance alone, which is logged.
func play(t *testing.T, scripts map[string]string, target string, want func(name string) string) []Result {
	t.Helper()
	timed := regexp.MustCompile(`quiet|ttl|expir`)
	results := RunAll(scripts, target, 12)
	for i, r := range results {
		if r.Err == nil && r.Transcript != want(r.Name) && timed.MatchString(scripts[r.Name]) {
			results[i].Transcript, results[i].Err = Run(scripts[r.Name], target)
			t.Logf("%s: played again alone", r.Name)
		}
	}
	return results
}

// compare reports every script whose transcript is not the wanted one.
func compare(t *testing.T, results []Result, want func(name string) string) {
	t.Helper()
	slices.SortFunc(results, func(a, b Result) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range results {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Name, r.Err)
			continue
		}
		if d := Diff(want(r.Name), r.Transcript); d != "" {
			t.Errorf("%s:\n%s", r.Name, d)
		}
	}
}

// Every script has a recording of both versions, every recording a script, and none holds a
// step that waited in vain.
func TestRecordingsAreComplete(t *testing.T) {
	scripts := readScripts(t)
	for _, version := range []string{reference, "3.10"} {
		for name := range scripts {
			switch text := recorded(t, "recorded/"+version, name); {
			case text == "":
				t.Errorf("%s has no recording of %s", name, version)
			case strings.Contains(text, " TIMEOUT\n"):
				t.Errorf("%s of %s holds a step that timed out", name, version)
			}
		}
		paths, _ := filepath.Glob("testdata/recorded/" + version + "/*.txt")
		for _, p := range paths {
			if name := strings.TrimSuffix(filepath.Base(p), ".txt"); scripts[name] == "" {
				t.Errorf("%s records no script", p)
			}
		}
	}
	for name := range reasons(t, "later.txt") {
		if scripts[name] == "" {
			t.Errorf("later.txt names %s, which is no script", name)
		}
	}
	for name := range reasons(t, "deviations.txt") {
		own := recorded(t, "deviations", name)
		switch {
		case scripts[name] == "":
			t.Errorf("deviation of %s: no such script", name)
		case own == "":
			t.Errorf("deviation of %s: no transcript of what is wanted instead", name)
		case own == recorded(t, "recorded/"+reference, name):
			t.Errorf("deviation of %s: it is none", name)
		}
	}
}

// A live RabbitMQ still behaves as recorded. WARREN_PARITY_URL names it, and
// WARREN_PARITY_VERSION the recording to compare with.
func TestLive(t *testing.T) {
	target := os.Getenv("WARREN_PARITY_URL")
	if target == "" {
		t.Skip("WARREN_PARITY_URL is not set")
	}
	version := os.Getenv("WARREN_PARITY_VERSION")
	want := func(name string) string { return recorded(t, "recorded/"+version, name) }
	compare(t, play(t, readScripts(t), target, want), want)
}

// The codec reads back what it writes, for every method of the table.
func TestMethodsRoundTrip(t *testing.T) {
	for name, m := range spec().byName {
		a := args{}
		for i, f := range m.fields {
			switch f.kind {
			case "bit":
				a[f.name] = i%2 == 0
			case "shortstr", "longstr":
				a[f.name] = "text"
			case "table":
				a[f.name] = table{{"k", value{'l', int64(-5)}}, {"a", value{'A', []value{{'V', nil}, {'S', "x"}}}}}
			default:
				a[f.name] = uint64(200 + i)
			}
		}
		payload, err := encodeMethod(m, a)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back, got, err := decodeMethod(payload)
		if err != nil || back.name != name {
			t.Fatalf("%s came back as %v, %v", name, back, err)
		}
		for _, f := range m.fields {
			same := func(s string) string { return s }
			if w, g := formatField(f.name, a[f.name], same), formatField(f.name, got[f.name], same); w != g {
				t.Errorf("%s: wrote %s, read %s", name, w, g)
			}
		}
	}
}

// Table literals are read as they are written.
func TestTableLiterals(t *testing.T) {
	same := func(s string) string { return s }
	const text = `{a: "x y", b: 5, c: l:-7, d: [1, "two", [V]], e: {f: true, g: {}}, h: x:"\x00\xff", i: D:314/2, j: d:1.5, k: T:1700000000}`
	toks, err := (&scanner{s: "headers=" + text + " body=b", subst: same}).tokens()
	if err != nil || len(toks) != 2 || !toks[0].isTable {
		t.Fatalf("%+v, %v", toks, err)
	}
	if got := formatTable(toks[0].tab, same); got != text {
		t.Errorf("read %s, got %s", text, got)
	}
	for _, bad := range []string{"h={a}", "h={a: 5", `h={a: [1}`, "h={a: nonsense}", `h="x`} {
		if _, err := (&scanner{s: bad, subst: same}).tokens(); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// A peer that is no broker shows in the transcript, and a wrong script as an error.
func TestRunSeesWhatIsThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("AMQP\x00\x00\x09\x01"))
			_ = c.Close()
		}
	}()
	target := "amqp://guest:guest@" + l.Addr().String() + "/"
	got, err := Run("a connect", target)
	if want := "> a connect\n< a0 protocol-header [0 0 9 1]\n< a0 closed\n> end\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"a1 basic.get", "a connect\na1 nonsense", "a connect\na1 basic.get colour=red", "a"} {
		if _, err := Run(bad, target); err == nil {
			t.Errorf("script %q was played", bad)
		}
	}
}

// Diff names the step and both sides.
func TestDiff(t *testing.T) {
	if d := Diff("> a x\n< 1\n", "> a x\n< 1\n"); d != "" {
		t.Errorf("equal transcripts differ: %s", d)
	}
	d := Diff("> a x\n< 1\n> a y\n< 2\n", "> a x\n< 1\n> a y\n< 3\n")
	if !strings.Contains(d, "> a y") || !strings.Contains(d, "want < 2") || !strings.Contains(d, "got  < 3") || strings.Contains(d, "< 1") {
		t.Errorf("diff is %s", d)
	}
}
