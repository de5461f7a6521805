package parity

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// token is one word of a step: positional when key is empty. A value that was a table
// literal is in tab, everything else in text.
type token struct {
	key, text string
	tab       table
	isTable   bool
}

// scanner reads the words and literals of one script line. subst replaces "~" and
// "$name" in every string it reads.
type scanner struct {
	s     string
	subst func(string) string
	err   error
}

func (s *scanner) fail(format string, a ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, a...)
	}
	s.s = ""
}

func (s *scanner) space() { s.s = strings.TrimLeft(s.s, " \t") }

// tokens reads the whole line.
func (s *scanner) tokens() ([]token, error) {
	var out []token
	for s.space(); s.s != ""; s.space() {
		out = append(out, s.token())
	}
	return out, s.err
}

func (s *scanner) token() token {
	var t token
	if s.s[0] != '"' {
		if i := strings.IndexAny(s.s, "= \t"); i > 0 && s.s[i] == '=' && s.s[:i+1] != "=>" {
			t.key, s.s = s.s[:i], s.s[i+1:]
		}
	}
	if strings.HasPrefix(s.s, "{") {
		t.tab, t.isTable = s.table(), true
		return t
	}
	t.text = s.str(" \t")
	return t
}

// str reads a quoted string, or a bare word that ends at any of stop.
func (s *scanner) str(stop string) string {
	if strings.HasPrefix(s.s, `"`) {
		q, err := strconv.QuotedPrefix(s.s)
		if err != nil {
			s.fail("bad string %s", s.s)
			return ""
		}
		s.s = s.s[len(q):]
		text, _ := strconv.Unquote(q)
		return s.subst(text)
	}
	i := strings.IndexAny(s.s, stop)
	if i < 0 {
		i = len(s.s)
	}
	w := s.s[:i]
	s.s = s.s[i:]
	return s.subst(w)
}

func (s *scanner) eat(c byte) bool {
	s.space()
	if s.s != "" && s.s[0] == c {
		s.s = s.s[1:]
		return true
	}
	return false
}

// table reads {key: value, ...}.
func (s *scanner) table() table {
	s.eat('{')
	t := table{}
	for !s.eat('}') {
		s.space()
		key := s.str(":")
		if !s.eat(':') {
			s.fail("no value for %q", key)
			return t
		}
		t = append(t, entry{key, s.value()})
		if !s.eat(',') && !strings.HasPrefix(s.s, "}") {
			s.fail("table not closed")
			return t
		}
	}
	return t
}

func (s *scanner) value() value {
	s.space()
	switch {
	case strings.HasPrefix(s.s, "{"):
		return value{'F', s.table()}
	case s.eat('['):
		a := []value{}
		for !s.eat(']') {
			a = append(a, s.value())
			if !s.eat(',') && !strings.HasPrefix(s.s, "]") {
				s.fail("array not closed")
				break
			}
		}
		return value{'A', a}
	case strings.HasPrefix(s.s, `"`):
		return value{'S', s.str("")}
	}
	if rest, ok := strings.CutPrefix(s.s, "x:"); ok {
		s.s = rest
		return value{'x', s.str("")}
	}
	w := s.str(",]} ")
	v, err := bareValue(w)
	if err != nil {
		s.fail("value %q: %v", w, err)
	}
	return v
}

// bareValue reads true, false, V, 5 or TAG:NUMBER.
func bareValue(w string) (value, error) {
	switch w {
	case "true", "false":
		return value{'t', w == "true"}, nil
	case "V":
		return value{'V', nil}, nil
	}
	tag := byte('I')
	if len(w) > 2 && w[1] == ':' {
		tag, w = w[0], w[2:]
	}
	switch tag {
	case 'f', 'd':
		f, err := strconv.ParseFloat(w, 64)
		return value{tag, f}, err
	case 'D':
		var d decimal
		_, err := fmt.Sscanf(w, "%d/%d", &d.digits, &d.scale)
		return value{tag, d}, err
	case 'B', 'u', 'i', 'T':
		u, err := strconv.ParseUint(w, 10, 64)
		return value{tag, u}, err
	}
	i, err := strconv.ParseInt(w, 10, 64)
	return value{tag, i}, err
}

// formatValue is the inverse of scanner.value, with table keys in alphabetical order
// (their order on the wire means nothing) and strings masked.
func formatValue(v value, mask func(string) string) string {
	switch x := v.v.(type) {
	case nil:
		return "V"
	case bool:
		return strconv.FormatBool(x)
	case string:
		if v.tag == 'x' {
			return "x:" + strconv.Quote(mask(x))
		}
		return strconv.Quote(mask(x))
	case table:
		return formatTable(x, mask)
	case []value:
		parts := make([]string, len(x))
		for i, e := range x {
			parts[i] = formatValue(e, mask)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case decimal:
		return fmt.Sprintf("D:%d/%d", x.digits, x.scale)
	case uint64:
		if v.tag == 'T' && isRecent(x) {
			return "T:<now>"
		}
	}
	if v.tag == 'I' {
		return fmt.Sprint(v.v)
	}
	return fmt.Sprintf("%c:%v", v.tag, v.v)
}

func formatTable(t table, mask func(string) string) string {
	t = slices.Clone(t)
	slices.SortStableFunc(t, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	parts := make([]string, len(t))
	for i, e := range t {
		parts[i] = e.key + ": " + formatValue(e.val, mask)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// formatField writes name=value for one method or property field.
func formatField(name string, v any, mask func(string) string) string {
	switch x := v.(type) {
	case string:
		return name + "=" + strconv.Quote(mask(x))
	case table:
		return name + "=" + formatTable(x, mask)
	case uint64:
		if name == "timestamp" && isRecent(x) {
			return name + "=<now>"
		}
	}
	return fmt.Sprintf("%s=%v", name, v)
}

// formatBody quotes short bodies and sums up long ones.
func formatBody(b []byte, mask func(string) string) string {
	if len(b) <= 120 {
		return "body=" + strconv.Quote(mask(string(b)))
	}
	return fmt.Sprintf("body=<%d bytes, crc %08x>", len(b), crc32.ChecksumIEEE(b))
}
