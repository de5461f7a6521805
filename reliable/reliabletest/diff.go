package reliabletest

import (
	"slices"
	"strings"
)

// maxDiffLines bounds the table of a comparison: beyond it only the lengths of what is
// equal at both ends matter.
const maxDiffLines = 1000

func equal(a, b []string) bool { return slices.Equal(a, b) }

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// difference shows what has to be taken from want (-) and added (+) to become have. Long
// runs of equal lines are left out.
func difference(want, have []string) string {
	if len(want) == 0 && len(have) == 0 {
		return ""
	}
	var lines []string
	head := 0
	for head < min(len(want), len(have)) && want[head] == have[head] {
		lines = append(lines, "  "+shorten(want[head]))
		head++
	}
	tail := 0
	for tail < min(len(want), len(have))-head && want[len(want)-1-tail] == have[len(have)-1-tail] {
		tail++
	}
	lines = append(lines, middle(want[head:len(want)-tail], have[head:len(have)-tail])...)
	for _, line := range want[len(want)-tail:] {
		lines = append(lines, "  "+shorten(line))
	}
	return strings.Join(fold(lines), "\n")
}

// middle compares by the longest common subsequence.
func middle(want, have []string) (lines []string) {
	if len(want) > maxDiffLines || len(have) > maxDiffLines {
		for _, line := range want {
			lines = append(lines, "- "+shorten(line))
		}
		for _, line := range have {
			lines = append(lines, "+ "+shorten(line))
		}
		return lines
	}
	common := make([][]int, len(want)+1) // of want[i:] and have[j:]
	for i := range common {
		common[i] = make([]int, len(have)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(have) - 1; j >= 0; j-- {
			if want[i] == have[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(want) || j < len(have) {
		switch {
		case i < len(want) && j < len(have) && want[i] == have[j]:
			lines = append(lines, "  "+shorten(want[i]))
			i, j = i+1, j+1
		case i < len(want) && (j == len(have) || common[i+1][j] >= common[i][j+1]):
			lines = append(lines, "- "+shorten(want[i]))
			i++
		default:
			lines = append(lines, "+ "+shorten(have[j]))
			j++
		}
	}
	return lines
}

// fold leaves out equal lines that are more than three away from a difference.
func fold(lines []string) (out []string) {
	const around = 3
	near := func(at int) bool {
		for i := max(0, at-around); i <= min(len(lines)-1, at+around); i++ {
			if !strings.HasPrefix(lines[i], "  ") {
				return true
			}
		}
		return false
	}
	left := false
	for i, line := range lines {
		switch {
		case near(i):
			out, left = append(out, line), false
		case !left:
			out, left = append(out, "  …"), true
		}
	}
	return out
}
