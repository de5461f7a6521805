package parity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Result is one script's transcript, or why it could not be played.
type Result struct {
	Name, Transcript string
	Err              error
}

// Scripts reads the scripts in dir by name (file name without .txt).
func Scripts(dir string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	scripts := map[string]string{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		scripts[strings.TrimSuffix(filepath.Base(p), ".txt")] = string(text)
	}
	return scripts, nil
}

// RunAll plays scripts against one broker, at most parallel at a time.
func RunAll(scripts map[string]string, amqpURL string, parallel int) []Result {
	var (
		mu      sync.Mutex
		results []Result
		wg      sync.WaitGroup
		slots   = make(chan struct{}, parallel)
	)
	for name, text := range scripts {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			transcript, err := Run(text, amqpURL)
			<-slots
			mu.Lock()
			defer mu.Unlock()
			results = append(results, Result{name, transcript, err})
		}()
	}
	wg.Wait()
	return results
}

// Diff shows where two transcripts part: the first different line with the step it belongs
// to, and what follows on both sides. It is empty if they are equal.
func Diff(want, got string) string {
	if want == got {
		return ""
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	i, from := 0, 0
	for i < len(w) && i < len(g) && w[i] == g[i] {
		if strings.HasPrefix(w[i], ">") {
			from = i
		}
		i++
	}
	var b strings.Builder
	for _, l := range w[from:i] {
		fmt.Fprintf(&b, "    %s\n", l)
	}
	for _, side := range []struct {
		mark  string
		lines []string
	}{{"want", w[i:]}, {"got ", g[i:]}} {
		for n, l := range side.lines {
			if n > 0 && strings.HasPrefix(l, ">") || n == 6 {
				break
			}
			fmt.Fprintf(&b, "%s %s\n", side.mark, l)
		}
	}
	return b.String()
}
