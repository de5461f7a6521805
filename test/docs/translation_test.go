package docs

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTranslations compares the blocks of translated pages with those of their
// originals, which TestPages runs. Pictures (text) may have words of their own.
func TestTranslations(t *testing.T) {
	translated := map[string]bool{}
	for _, page := range pages(t) {
		if original(page) == "" {
			continue
		}
		translated[original(page)] = true
		got, want := codeOf(t, page), codeOf(t, original(page))
		for i := range max(len(got), len(want)) {
			switch {
			case i >= len(got):
				t.Errorf("%s lacks the block of %s:%d", page, original(page), want[i].line)
			case i >= len(want):
				t.Errorf("%s:%d: %s has no such block", page, got[i].line, original(page))
			case got[i].lang != want[i].lang || got[i].info != want[i].info || got[i].text != want[i].text:
				t.Errorf("%s:%d is not the block of %s:%d", page, got[i].line, original(page), want[i].line)
			default:
				continue
			}
			break // what follows would differ, too
		}
	}
	for _, page := range pages(t) {
		if strings.HasPrefix(page, "docs/tutorial/") && !translated[page] {
			t.Errorf("%s has no translation in docs/zh-CN", page)
		}
	}
}

// codeOf are the blocks of a page that a translation has to have.
func codeOf(t *testing.T, page string) []block {
	t.Helper()
	list, err := blocks(readFile(t, filepath.Join(root, page)))
	if err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	return slices.DeleteFunc(list, func(b block) bool { return b.lang == "text" })
}
