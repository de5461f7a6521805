package topology

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/warrenmq/warren/internal/wire"
)

// A script is commands, each followed by a line "= what it answers":
//
//	declare-queue q durable x-max-length=10
//	= ok created
//
// "#" starts a comment line. "fresh" empties the vhost. "@2 " before a command
// runs it on connection 2 (else 1). Words may be quoted as in Go. key=value
// words are arguments; a bare number is a signedint, true and false are bools,
// void is void, TYPE:value gives another type, all else is a longstr.
type step struct {
	line int
	conn uint64
	cmd  string
	opts []string // words after the command, without arguments
	args wire.Table
	want string
}

func readScript(path string) ([]step, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var steps []step
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "="):
			if len(steps) == 0 || steps[len(steps)-1].want != "" {
				return nil, fmt.Errorf("%s:%d: an answer without a command", path, i+1)
			}
			steps[len(steps)-1].want = strings.TrimSpace(line[1:])
		default:
			s, err := parseStep(line)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
			}
			s.line = i + 1
			steps = append(steps, s)
		}
	}
	return steps, nil
}

func parseStep(line string) (step, error) {
	words, err := splitWords(line)
	if err != nil {
		return step{}, err
	}
	s := step{conn: 1}
	if n, ok := strings.CutPrefix(words[0].text, "@"); ok {
		if s.conn, err = strconv.ParseUint(n, 10, 64); err != nil {
			return step{}, err
		}
		words = words[1:]
	}
	s.cmd = words[0].text
	for _, w := range words[1:] {
		key, val, ok := strings.Cut(w.text, "=")
		if w.quoted || !ok {
			s.opts = append(s.opts, w.text)
			continue
		}
		v, err := parseValue(val)
		if err != nil {
			return step{}, err
		}
		s.args = append(s.args, wire.Field{Key: key, Value: v})
	}
	return s, nil
}

type word struct {
	text   string
	quoted bool
}

func splitWords(line string) ([]word, error) {
	var words []word
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		if line[0] == '"' {
			q, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, err
			}
			text, err := strconv.Unquote(q)
			if err != nil {
				return nil, err
			}
			words = append(words, word{text, true})
			line = line[len(q):]
			continue
		}
		w, rest, _ := strings.Cut(line, " ")
		words = append(words, word{w, false})
		line = rest
	}
	return words, nil
}

func parseValue(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return int32(n), nil
	}
	switch s {
	case "true", "false":
		return s == "true", nil
	case "void":
		return nil, nil
	}
	typ, val, ok := strings.Cut(s, ":")
	if !ok {
		return s, nil
	}
	n, intErr := strconv.ParseInt(val, 10, 64)
	f, floatErr := strconv.ParseFloat(val, 64)
	switch typ {
	case "string":
		return val, nil
	case "bytes":
		return []byte(val), nil
	case "int8":
		return int8(n), intErr
	case "uint8":
		return uint8(n), intErr
	case "int16":
		return int16(n), intErr
	case "int64":
		return n, intErr
	case "float32":
		return float32(f), floatErr
	case "float64":
		return f, floatErr
	case "timestamp":
		return wire.Timestamp(n), intErr
	case "array":
		var a wire.Array
		for _, x := range strings.Split(val, ",") {
			v, err := parseValue(x)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		return a, nil
	case "table":
		var t wire.Table
		for _, x := range strings.Split(val, ",") {
			k, y, _ := strings.Cut(x, "/")
			v, err := parseValue(y)
			if err != nil {
				return nil, err
			}
			t = append(t, wire.Field{Key: k, Value: v})
		}
		return t, nil
	}
	return s, nil
}

// flag takes name out of the options and reports whether it was there.
func (s *step) flag(name string) bool {
	for i, o := range s.opts {
		if o == name {
			s.opts = append(append([]string(nil), s.opts[:i]...), s.opts[i+1:]...)
			return true
		}
	}
	return false
}

// opt is the i-th option that is no flag, "" if there are fewer.
func (s *step) opt(i int) string {
	if i < len(s.opts) {
		return s.opts[i]
	}
	return ""
}
