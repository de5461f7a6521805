package config

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestManagement(t *testing.T) {
	for _, c := range []struct {
		file, env, flag, want string
		named                 bool
	}{
		{"", "", "", ":15672", false},
		{`management = "127.0.0.1:1"`, "", "", "127.0.0.1:1", true},
		{`management = "127.0.0.1:1"`, "off", "", "", true},
		{`management = "off"`, "", ":2", ":2", true},
	} {
		env, flags := map[string]string{}, map[string][]string{}
		if c.env != "" {
			env["WARREN_MANAGEMENT"] = c.env
		}
		if c.flag != "" {
			flags["management"] = []string{c.flag}
		}
		got := mustLoad(t, c.file, env, flags)
		if got.Management != c.want || got.Named("management") != c.named {
			t.Errorf("%+v: %q, named %v", c, got.Management, got.Named("management"))
		}
	}
}

func TestTags(t *testing.T) {
	const file = `
[[users]]
name = "a"
password = "p"
tags = ["monitoring", "policymaker"]
[[users]]
name = "b"
password = "p"
tags = []
[[users]]
name = "c"
password = "p"
`
	c := mustLoad(t, file, nil, nil)
	if u := c.Users; !slices.Equal(u[0].Tags, []string{"monitoring", "policymaker"}) || u[1].Tags == nil || len(u[1].Tags) > 0 || u[2].Tags != nil {
		t.Errorf("%v", c.Users)
	}
	var out bytes.Buffer
	if err := c.Print(&out); err != nil || strings.Count(out.String(), "tags = ") != 2 {
		t.Errorf("%v %s", err, out.String())
	}
	for file, want := range map[string]string{
		"[[users]]\nname = \"a\"\npassword = \"p\"\ntags = [\"king\"]": "w.toml: users[0]: user 'a': there is no tag 'king' (administrator, monitoring, policymaker or management)",
		"[[users]]\nname = \"a\"\npassword = \"p\"\ntags = \"king\"":   "w.toml: users[0].tags: want a list such as [\"a\", \"b\"]",
	} {
		if _, err := load(file, nil, nil); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
