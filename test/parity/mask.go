package parity

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// masker turns what differs from run to run into what does not: the run's own prefix
// into "~", server-made names and Erlang process ids into numbers in order of appearance.
type masker struct {
	prefix string
	names  map[string]string
	counts map[string]int
	random *regexp.Regexp
}

func newMasker() *masker {
	var b [4]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return &masker{
		// Always as long, so that texts that are cut at 255 bytes are cut at the same place.
		prefix: "p" + hex.EncodeToString(b[:]) + ".",
		names:  map[string]string{},
		counts: map[string]int{},
		random: regexp.MustCompile(`(amq\.gen-|amq\.ctag-|amq\.rabbitmq\.reply-to\.)[A-Za-z0-9+/=._-]+|<\d+\.\d+\.\d+>`),
	}
}

func (m *masker) mask(s string) string {
	s = strings.ReplaceAll(s, m.prefix, "~")
	return m.random.ReplaceAllStringFunc(s, func(found string) string {
		if shown, ok := m.names[found]; ok {
			return shown
		}
		kind := "<pid>"
		for _, k := range []string{"amq.gen-", "amq.ctag-", "amq.rabbitmq.reply-to."} {
			if strings.HasPrefix(found, k) {
				kind = k
			}
		}
		m.counts[kind]++
		m.names[found] = fmt.Sprintf("%s#%d", kind, m.counts[kind])
		return m.names[found]
	})
}

// isRecent tells a timestamp the broker made (seconds, or milliseconds) from one a script sent.
func isRecent(ts uint64) bool {
	dayAgo := uint64(time.Now().Add(-24 * time.Hour).Unix())
	return ts > dayAgo && ts < dayAgo+7*86400 || ts > dayAgo*1000 && ts < (dayAgo+7*86400)*1000
}

// identity are the server properties that say which product it is.
func maskIdentity(t table) table {
	out := table{}
	for _, e := range t {
		switch e.key {
		case "product", "version", "platform", "copyright", "information", "cluster_name", "node":
			e.val = value{'S', "..."}
		}
		out = append(out, e)
	}
	return out
}

// sortedWords is a list of words in order: a server may offer mechanisms in another one
// each time it starts.
func sortedWords(s string) string {
	words := strings.Fields(s)
	slices.Sort(words)
	return strings.Join(words, " ")
}
