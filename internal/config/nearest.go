package config

import "strings"

// Nearest returns the known word that word most likely was meant to be, or ""
// if none is close: the smallest number of typed mistakes, at most a third of
// the word. The part after the last dot may match alone, and a word that the
// known one begins with counts as one mistake.
func Nearest(word string, known []string) string {
	best, bestCost := "", len(word)/3+1
	for _, k := range known {
		cost := mistakes(word, k)
		if len(word) > 1 && strings.HasPrefix(k, word) {
			cost = 1
		}
		if _, tail, ok := cutLast(k, "."); ok {
			_, wordTail, _ := cutLast(word, ".")
			cost = min(cost, mistakes(wordTail, tail)+1)
		}
		if cost < bestCost || cost == bestCost && best != "" && k < best {
			best, bestCost = k, cost
		}
	}
	return best
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// mistakes is the Damerau-Levenshtein distance (adjacent letters swapped count
// once), over bytes: all known words are ASCII.
func mistakes(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			cost := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cost = min(cost, rows[i-2][j-2]+1)
			}
			rows[i][j] = cost
		}
	}
	return rows[len(a)][len(b)]
}
