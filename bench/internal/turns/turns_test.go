package turns

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRun: which figures run, in which order, and what of a name that is none.
func TestRun(t *testing.T) {
	broken := errors.New("broken")
	figure := func(name string, err error) Figure[*[]string] {
		return Figure[*[]string]{name, func(ran *[]string) error { *ran = append(*ran, name); return err }}
	}
	figures := []Figure[*[]string]{figure("a", nil), figure("b", nil), figure("c", broken), figure("d", nil)}
	for _, c := range []struct {
		only, says string
		want       []string
	}{
		{"", "c: broken", []string{"a", "b", "c"}},
		{"d,a", "", []string{"a", "d"}},
		{"a,latnecy", `there is no figure "latnecy": there are a, b, c, d`, nil},
	} {
		var ran []string
		err := Run(figures, c.only, &ran)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || !slices.Equal(ran, c.want) {
			t.Errorf("%q: %v, %v", c.only, ran, err)
		}
	}
}

// TestInFolder: the folder is there for as long as it is used.
func TestInFolder(t *testing.T) {
	dir, broken := t.TempDir(), errors.New("broken")
	err := InFolder(dir, "x-", func(folder string) error {
		if filepath.Dir(folder) != dir {
			t.Errorf("%s is not in %s", folder, dir)
		}
		if err := os.WriteFile(filepath.Join(folder, "data"), nil, 0o600); err != nil {
			t.Error(err)
		}
		return broken
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}
