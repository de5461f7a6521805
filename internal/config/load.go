package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// FileEnv is the environment variable that names the configuration file.
const FileEnv = "WARREN_CONFIG"

// Sources is where Load takes values from. The zero value gives the defaults.
type Sources struct {
	File   string                            // path of the TOML file; "" takes WARREN_CONFIG, which may be absent too
	Getenv func(string) (string, bool)       // os.LookupEnv, or nil for no environment
	Flags  map[string][]string               // flag name without dashes -> values, only flags that were given
	Read   func(name string) ([]byte, error) // os.ReadFile if nil
}

// Load returns the effective configuration, or an error of one line that says
// which file and key, variable or flag is wrong, and how.
func Load(src Sources) (*Config, error) {
	c := base()
	if src.Getenv == nil {
		src.Getenv = func(string) (string, bool) { return "", false }
	}
	file := src.File
	if file == "" {
		file, _ = src.Getenv(FileEnv)
	}
	if file != "" {
		if err := c.loadFile(file, src.Read); err != nil {
			return nil, err
		}
	}
	if err := c.chooseWhere(); err != nil {
		return nil, err
	}
	for _, s := range Settings() {
		if v, _ := src.Getenv(s.Env); v != "" { // set but empty means not set, as compose files do it
			if err := c.apply(s, splitEnv(s, v), s.Env); err != nil {
				return nil, err
			}
		}
	}
	if err := c.chooseWhere(); err != nil {
		return nil, err
	}
	for _, s := range Settings() {
		if values, ok := src.Flags[s.Flag]; ok {
			if err := c.apply(s, slices.Clone(values), "--"+s.Flag); err != nil {
				return nil, err
			}
		}
	}
	if err := c.chooseWhere(); err != nil {
		return nil, err
	}
	c.complete()
	return c, c.check()
}

// chooseWhere settles the choice between a data directory and memory after each
// kind of source: a stronger one that names either overrules a weaker one that
// names the other, and one that asks for both contradicts itself.
func (c *Config) chooseWhere() error {
	data, memory := c.origin["data"], c.origin["memory"]
	newData, newMemory := data != c.seenData, memory != c.seenMemory
	c.seenData, c.seenMemory = data, memory
	switch {
	case newData && newMemory && c.Memory:
		return fmt.Errorf("%s and %s exclude each other: one names a directory, the other wants none", data, memory)
	case newData && !newMemory && c.Memory:
		c.Memory = false
		delete(c.origin, "memory")
		c.seenMemory = ""
	}
	return nil
}

// apply sets one value and remembers where it came from. A setting that adds up
// remembers all its places.
func (c *Config) apply(s Setting, values []string, place string) error {
	if !s.List && len(values) != 1 {
		return fmt.Errorf("%s: want one value, got %d", place, len(values))
	}
	if err := s.set(c, values); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	if s.Key == "vhosts" && c.origin[s.Key] != "" {
		place = c.origin[s.Key] + ", " + place
	}
	c.origin[s.Key] = place
	return nil
}

// splitEnv cuts a list at commas. Passwords with a comma in them need the file.
func splitEnv(s Setting, value string) []string {
	if !s.List {
		return []string{value}
	}
	var out []string
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func (c *Config) loadFile(name string, read func(string) ([]byte, error)) error {
	if read == nil {
		read = os.ReadFile
	}
	data, err := read(name)
	if err != nil {
		return fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	return c.applyFile(name, string(data))
}
