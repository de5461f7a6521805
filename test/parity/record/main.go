// Command record plays the parity scripts against a broker and writes their transcripts.
//
//	go run ./test/parity/record --url amqp://guest:guest@127.0.0.1:5673/ --out test/parity/testdata/recorded/4.3
//
// Each script is played several times; one whose transcripts differ is reported and not
// written, because a recording must say the same whenever it is made.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/warrenmq/warren/test/parity"
)

func main() {
	url := flag.String("url", "amqp://guest:guest@127.0.0.1:5672/", "broker to record")
	out := flag.String("out", "", "folder for the transcripts; none: print them")
	dir := flag.String("scripts", "test/parity/scripts", "folder of the scripts")
	only := flag.String("only", "", "comma-separated script names or prefixes ending in *; default all")
	times := flag.Int("times", 3, "how often each script is played and must say the same")
	parallel := flag.Int("parallel", 8, "scripts at a time")
	flag.Parse()
	if err := record(*url, *out, *dir, *only, *times, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func record(url, out, dir, only string, times, parallel int) error {
	scripts, err := parity.Scripts(dir)
	if err != nil {
		return err
	}
	for name := range scripts {
		if !selected(name, only) {
			delete(scripts, name)
		}
	}
	if len(scripts) == 0 {
		return fmt.Errorf("no script in %s is called %s", dir, only)
	}
	said, bad := map[string]string{}, map[string]string{}
	for range times {
		for _, r := range parity.RunAll(scripts, url, parallel) {
			before, again := said[r.Name]
			switch {
			case r.Err != nil:
				bad[r.Name] = r.Err.Error()
			case strings.Contains(r.Transcript, " TIMEOUT\n"):
				bad[r.Name] = "timed out:\n" + r.Transcript
			case again && before != r.Transcript:
				bad[r.Name] = "not the same each time:\n" + parity.Diff(before, r.Transcript)
			}
			said[r.Name] = r.Transcript
		}
	}
	for name, text := range said {
		if why := bad[name]; why != "" {
			fmt.Fprintf(os.Stderr, "%s: %s\n", name, why)
			continue
		}
		if err := write(out, name, text); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d scripts could not be recorded", len(bad), len(scripts))
	}
	return nil
}

func write(out, name, text string) error {
	if out == "" {
		_, err := fmt.Printf("== %s\n%s", name, text)
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, name+".txt"), []byte(text), 0o644)
}

func selected(name, only string) bool {
	if only == "" {
		return true
	}
	for p := range strings.SplitSeq(only, ",") {
		if prefix, cut := strings.CutSuffix(p, "*"); p == name || cut && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
