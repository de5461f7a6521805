package config

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// hidden stands for every secret that is printed.
const hidden = "***"

// Print writes the effective configuration as a TOML file that Load reads, each
// value with a remark where it comes from. Password hashes are written as ***,
// which Load refuses, so that a copied file cannot let anyone in by accident.
func (c *Config) Print(w io.Writer) error {
	var b bytes.Buffer
	section := ""
	for _, s := range Settings() {
		if s.get == nil {
			continue
		}
		value := s.get(c)
		if value == nil {
			continue
		}
		table, key, nested := strings.Cut(s.Key, ".")
		if !nested {
			table, key = "", s.Key
		}
		if table != section {
			section = table
			fmt.Fprintf(&b, "\n[%s]\n", table)
		}
		from := c.origin[s.Key]
		if from == "" {
			from = "default"
		}
		fmt.Fprintf(&b, "%-44s # %s\n", key+" = "+tomlValue(value), from)
	}
	for _, u := range c.Users {
		fmt.Fprintf(&b, "\n[[users]]\nname = %s\npassword_hash = %s\n", tomlString(u.Name), tomlString(hidden))
		if len(u.Vhosts) > 0 {
			fmt.Fprintf(&b, "vhosts = %s\n", tomlValue(u.Vhosts))
		}
		if u.Tags != nil {
			fmt.Fprintf(&b, "tags = %s\n", tomlValue(u.Tags))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func tomlValue(v any) string {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = tomlString(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return tomlString(fmt.Sprint(v))
	}
}

// tomlString writes a basic string: control characters as \u and four hexadecimal digits,
// the rest as is.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
