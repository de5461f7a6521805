package parity

import (
	"fmt"
	"strconv"
	"strings"
)

// step is one parsed line of a script.
type step struct {
	line    string // as written, for the transcript
	conn    string
	channel uint16
	verb    string // a method name or one of the verbs in the package comment
	words   []string
	named   args // fields by name, typed by parseFields
	raw     []token
	save    string // "$name" of "=> $name:field"
	field   string
}

// parseStep reads one line. subst replaces "~" and "$name" in strings.
func parseStep(line string, subst func(string) string) (*step, error) {
	body, save, saved := strings.Cut(line, "=>")
	st := &step{line: line}
	if saved {
		st.save, st.field, _ = strings.Cut(strings.TrimSpace(save), ":")
	}
	toks, err := (&scanner{s: body, subst: subst}).tokens()
	if err != nil {
		return nil, err
	}
	if len(toks) < 2 {
		return nil, fmt.Errorf("a step needs a place and a verb")
	}
	where := toks[0].text
	st.conn = strings.TrimRight(where, "0123456789")
	if n := where[len(st.conn):]; n != "" {
		ch, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return nil, err
		}
		st.channel = uint16(ch)
	}
	st.verb, st.raw = toks[1].text, toks[2:]
	st.named, st.words, err = parseFields(st.raw)
	return st, err
}

// parseFields types name=value tokens by the name's kind in the protocol; the rest are words.
func parseFields(toks []token) (args, []string, error) {
	a, words := args{}, []string(nil)
	for _, t := range toks {
		if t.key == "" {
			words = append(words, t.text)
			continue
		}
		kind := fieldKind(t.key)
		switch kind {
		case "table":
			if !t.isTable {
				return nil, nil, fmt.Errorf("%s is a table", t.key)
			}
			a[t.key] = t.tab
		case "bit":
			a[t.key] = t.text == "true" || t.text == "1"
		case "shortstr", "longstr":
			a[t.key] = t.text
		default:
			n, err := strconv.ParseUint(t.text, 0, 64)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", t.key, err)
			}
			a[t.key] = n
		}
	}
	return a, words, nil
}

// fieldKind is the wire type of a field name; names mean the same in every method but for
// access.request's, which scripts do not set. Names that are no field of the protocol are
// options of verbs: those in the list are strings, all others numbers.
func fieldKind(name string) string {
	for _, p := range propertySpecs() {
		if p.name == name && name != "type" {
			return p.kind
		}
	}
	for _, m := range spec().byName {
		for _, f := range m.fields {
			if f.name == name && m.name != "access.request" {
				return f.kind
			}
		}
	}
	switch name {
	case "body", "user", "password", "vhost", "capabilities":
		return "shortstr"
	}
	return "number"
}
