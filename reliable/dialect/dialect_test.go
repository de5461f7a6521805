package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

type stateError string

func (e stateError) Error() string    { return "no" }
func (e stateError) SQLState() string { return string(e) }

type codeError int

func (e codeError) Error() string { return "no" }
func (e codeError) Code() int     { return int(e) }

func TestBusy(t *testing.T) {
	for _, c := range []struct {
		dialect Dialect
		err     error
		want    bool
	}{
		{Postgres, stateError("55P03"), true}, {Postgres, fmt.Errorf("insert: %w", stateError("40001")), true},
		{Postgres, stateError("23505"), false}, {Postgres, errors.New("database is locked"), false}, {Postgres, nil, false},
		{SQLite, codeError(5), true}, {SQLite, codeError(517), true}, {SQLite, codeError(1), false}, {SQLite, nil, false},
		{SQLite, errors.New("database is locked"), true}, {SQLite, errors.New("no such table"), false},
	} {
		if got := c.dialect.Busy(c.err); got != c.want {
			t.Errorf("%v.Busy(%v) is %v", c.dialect, c.err, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, name := range []string{"warren_dedup", "app.warren_dedup", "T1"} {
		if err := Check(Postgres, name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a b", "a;b", "1a", "a.b.c", "a.", `"a"`, "a'", strings.Repeat("a", 49)} {
		if Check(SQLite, name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if Check(0, "a") == nil {
		t.Error("no dialect was accepted")
	}
}

func TestBind(t *testing.T) {
	if got := Postgres.Bind("a = ?1 AND b = ?12"); got != "a = $1 AND b = $12" {
		t.Error(got)
	}
	if got := SQLite.Bind("a = ?1"); got != "a = ?1" {
		t.Error(got)
	}
}

func TestText(t *testing.T) {
	bytes := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", `\x`, "\x00", "é"}).Draw(t, "front") + string(rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "bytes"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := bytes.Draw(t, "a"), bytes.Draw(t, "b")
		if (Text(a) == Text(b)) != (a == b) {
			t.Fatalf("%q and %q became %q and %q", a, b, Text(a), Text(b))
		}
		if back, err := Bytes(Text(a)); err != nil || back != a {
			t.Fatalf("%q came back as %q, %v", a, back, err)
		}
		if text := Text(a); !utf8.ValidString(text) || strings.ContainsRune(text, 0) || len(text) > 2*len(a)+2 {
			t.Fatalf("%q became %q", a, text)
		}
	})
	if _, err := Bytes(`\xyz`); err == nil {
		t.Error("what is not hexadecimal was read")
	}
	if Text("order 1") != "order 1" {
		t.Error("text did not stay as it is")
	}
}
