package reliabletest

import (
	"fmt"
	"strings"
	"testing"
)

func TestDifference(t *testing.T) {
	long := make([]string, 100)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	for _, c := range []struct{ want, have, shows string }{
		{"a b c", "a b c", "  …"},
		{"a b c", "a x c", "  a|- b|+ x|  c"},
		{"", "a", "+ a"},
		{"a", "", "- a"},
		{"a b", "b a", "- a|  b|+ a"},
		{strings.Join(long, " "), strings.Join(append(long[:50:50], long[51:]...), " "),
			"  …|  47|  48|  49|- 50|  51|  52|  53|  …"},
	} {
		got := strings.ReplaceAll(difference(strings.Fields(c.want), strings.Fields(c.have)), "\n", "|")
		if got != c.shows {
			t.Errorf("%q -> %q: %s", c.want, c.have, got)
		}
	}
	huge := make([]string, 3000)
	for i := range huge {
		huge[i] = fmt.Sprint(-i)
	}
	if d := difference(huge, long); strings.Count(d, "\n") != 3100-1-1 { // "0" is in both
		t.Errorf("%d lines", strings.Count(d, "\n"))
	}
}
