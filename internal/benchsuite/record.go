package benchsuite

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/warrenmq/warren/internal/loadgen"
)

// Record is one run, as it is kept.
type Record struct {
	Row     string          `json:"row"`
	Variant string          `json:"variant,omitempty"`
	Round   int             `json:"round"`
	Broker  string          `json:"broker"`                  // what it calls itself
	Commit  string          `json:"broker_commit,omitempty"` // that it was built from, if its process is a Go program that says so
	Order   int             `json:"order"`                   // its place among the URLs, from 1
	Started time.Time       `json:"started"`
	Length  time.Duration   `json:"length_ns"` // Options.Duration
	Scale   float64         `json:"scale"`
	Machine Machine         `json:"machine"`
	Load    *loadgen.Config `json:"load,omitempty"`
	Churn   *loadgen.Churn  `json:"churn,omitempty"`
	Idle    int             `json:"idle_connections,omitempty"`
	Report  *loadgen.Report `json:"report,omitempty"`
	Syncs   float64         `json:"raw_fdatasync_per_second,omitempty"` // of the disk, just before
	Error   string          `json:"error,omitempty"`

	path string // that it was read from
}

// Machine is where a run took place.
type Machine struct {
	OS        string `json:"os"`
	Arch      string `json:"arch"`
	Kernel    string `json:"kernel,omitempty"`
	CPU       string `json:"cpu,omitempty"`
	CPUs      int    `json:"cpus"`
	Go        string `json:"go"`
	Generator string `json:"generator,omitempty"` // commit of warren bench
}

// thisMachine looks around.
func thisMachine() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name")
		name, _, _ := strings.Cut(rest, "\n")
		m.CPU = strings.TrimSpace(strings.TrimLeft(name, " \t:"))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		m.Generator = commitOf(info)
	}
	return m
}

// commitOf is what a program was built from, "" if it does not say.
func commitOf(info *debug.BuildInfo) string {
	commit, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " (modified)"
		}
	}
	if commit == "" {
		return ""
	}
	return commit + modified
}

// brokerCommit is commitOf a process, "" for one that is no Go program.
func brokerCommit(pid int) string {
	if pid == 0 {
		return ""
	}
	info, err := buildinfo.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return commitOf(info)
}

// file is the name of a record.
func (r *Record) file() string {
	name := r.Row
	if r.Variant != "" {
		name += "." + r.Variant
	}
	broker := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-':
			return c
		}
		return '-'
	}, r.Broker)
	return fmt.Sprintf("%s.%d-%s.%d.json", name, r.Order, broker, r.Round)
}

// write keeps a record. Samples of a second are kept for the JSON's readers: they
// show what an average hides.
func (r *Record) write(dir string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("run %s: %w", r.file(), err)
	}
	return os.WriteFile(filepath.Join(dir, r.file()), append(text, '\n'), 0o644)
}

// ErrNoRecords says that a folder has no runs.
var ErrNoRecords = errors.New("there are no recorded runs")

// Load reads all records of a folder, in the order of the matrix.
func Load(dir string) ([]Record, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var list []Record
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var r Record
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if r.Row == "" || r.Broker == "" {
			return nil, fmt.Errorf("%s is no recorded run", name)
		}
		r.path = name
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoRecords)
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(a.file(), b.file()) })
	return list, nil
}
