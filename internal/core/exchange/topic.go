package exchange

import (
	"strings"

	"github.com/warrenmq/warren/internal/wire"
)

// topic routes by patterns over the dot-separated words of the key: '*' is one
// word (which may be empty), '#' any number of words. An empty key has no words.
//
// Patterns share their prefixes in a trie. Matching walks all patterns at once,
// word by word, with the set of trie nodes reached so far. Every node has one
// parent, so a step reaches a node at most once, with one exception dealt with
// in activeNodes; the work is bounded by words times nodes, however many '#'
// the patterns have.
type topic struct {
	root *topicNode
	n    int
}

type topicNode struct {
	parent *topicNode
	word   string // edge from the parent
	isHash bool
	// nested is set on a '#' node below another '#' node: only such a node can be
	// reached from its parent again after it has become active.
	nested bool

	children map[string]*topicNode // by literal word
	star     *topicNode
	hash     *topicNode
	bindings set // patterns that end here
}

func newTopic() *topic { return &topic{root: new(topicNode)} }

func (t *topic) Bind(key string, args wire.Table, d Dest) bool {
	n := t.root
	for rest, word, more := cutWord(key); more; rest, word, more = nextWord(rest) {
		n = n.child(word)
	}
	if !n.bindings.add(entry{d, EncodeArgs(args)}) {
		return false
	}
	t.n++
	return true
}

func (t *topic) Unbind(key string, args wire.Table, d Dest) bool {
	n := t.root
	for rest, word, more := cutWord(key); more; rest, word, more = nextWord(rest) {
		if n = n.lookup(word); n == nil {
			return false
		}
	}
	if !n.bindings.remove(entry{d, EncodeArgs(args)}) {
		return false
	}
	t.n--
	n.prune()
	return true
}

func (t *topic) Len() int { return t.n }

func (t *topic) Route(dst []Dest, key string, _ []byte) []Dest {
	if t.n == 0 {
		return dst
	}
	// Stack space for ordinary tables; wider fronts spill to the heap.
	var first, second [32]*topicNode
	var again nestedSeen
	cur, next := activate(first[:0], t.root, &again), second[:0]
	for rest, word, more := cutWord(key); more; rest, word, more = nextWord(rest) {
		next = next[:0]
		for _, n := range cur {
			if n.isHash {
				next = append(next, n) // '#' swallows the word and stays
			}
			if c := n.children[word]; c != nil {
				next = activate(next, c, &again)
			}
			if n.star != nil {
				next = activate(next, n.star, &again)
			}
		}
		if len(next) == 0 {
			return dst
		}
		cur, next = next, cur
	}
	for _, n := range cur {
		dst = n.bindings.appendTo(dst)
	}
	return dst
}

// activate appends n and the '#' nodes that follow it, since '#' also matches no
// words. A '#' node stays active once it is, so it must not be added again when
// its parent is reached a second time; that can happen to nested ones alone.
func activate(front []*topicNode, n *topicNode, again *nestedSeen) []*topicNode {
	front = append(front, n)
	for h := n.hash; h != nil; h = h.hash {
		if h.nested && again.seen(h) {
			break // then those behind it were added with it
		}
		front = append(front, h)
	}
	return front
}

// nestedSeen remembers nested '#' nodes: a short list, which spills into a map
// only for tables made to be awkward.
type nestedSeen struct {
	few  [8]*topicNode
	n    int
	many map[*topicNode]struct{}
}

// seen reports whether h was given before, and remembers it.
func (s *nestedSeen) seen(h *topicNode) bool {
	if s.many != nil {
		if _, ok := s.many[h]; ok {
			return true
		}
		s.many[h] = struct{}{}
		return false
	}
	for _, x := range s.few[:s.n] {
		if x == h {
			return true
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = h
		s.n++
		return false
	}
	s.many = map[*topicNode]struct{}{h: {}}
	for _, x := range s.few {
		s.many[x] = struct{}{}
	}
	return false
}

// child returns the node behind word, making it if needed.
func (n *topicNode) child(word string) *topicNode {
	if c := n.lookup(word); c != nil {
		return c
	}
	c := &topicNode{parent: n, word: word}
	switch word {
	case "*":
		n.star = c
	case "#":
		c.isHash = true
		c.nested = n.belowHash()
		n.hash = c
	default:
		if n.children == nil {
			n.children = make(map[string]*topicNode)
		}
		// A copy, so that the node does not pin the whole key it came from.
		c.word = strings.Clone(word)
		n.children[c.word] = c
	}
	return c
}

func (n *topicNode) lookup(word string) *topicNode {
	switch word {
	case "*":
		return n.star
	case "#":
		return n.hash
	}
	return n.children[word]
}

func (n *topicNode) belowHash() bool {
	for ; n != nil; n = n.parent {
		if n.isHash {
			return true
		}
	}
	return false
}

// prune removes n and its ancestors as far as nothing hangs on them.
func (n *topicNode) prune() {
	for n.parent != nil && len(n.bindings.entries) == 0 &&
		len(n.children) == 0 && n.star == nil && n.hash == nil {
		p := n.parent
		switch n.word {
		case "*":
			p.star = nil
		case "#":
			p.hash = nil
		default:
			delete(p.children, n.word)
		}
		n = p
	}
}

// cutWord starts the walk over a key's words: `for rest, word, more :=
// cutWord(key); more; rest, word, more = nextWord(rest)`. The rest keeps its
// leading dot, so that "a." has two words and "a" one.
func cutWord(key string) (rest, word string, more bool) {
	if key == "" {
		return "", "", false
	}
	return splitWord(key)
}

func nextWord(rest string) (string, string, bool) {
	if rest == "" {
		return "", "", false
	}
	return splitWord(rest[1:])
}

func splitWord(s string) (rest, word string, more bool) {
	if i := strings.IndexByte(s, '.'); i >= 0 {
		return s[i:], s[:i], true
	}
	return "", s, true
}
