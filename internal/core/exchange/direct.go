package exchange

import "github.com/warrenmq/warren/internal/wire"

// direct routes by exact key.
type direct struct {
	keys map[string]*set
	n    int
}

func newDirect() *direct { return &direct{keys: make(map[string]*set)} }

func (t *direct) Bind(key string, args wire.Table, d Dest) bool {
	s := t.keys[key]
	if s == nil {
		s = new(set)
		t.keys[key] = s
	}
	if !s.add(entry{d, EncodeArgs(args)}) {
		return false
	}
	t.n++
	return true
}

func (t *direct) Unbind(key string, args wire.Table, d Dest) bool {
	s := t.keys[key]
	if s == nil || !s.remove(entry{d, EncodeArgs(args)}) {
		return false
	}
	if len(s.entries) == 0 {
		delete(t.keys, key)
	}
	t.n--
	return true
}

func (t *direct) Route(dst []Dest, key string, _ []byte) []Dest {
	if s := t.keys[key]; s != nil {
		return s.appendTo(dst)
	}
	return dst
}

func (t *direct) Len() int { return t.n }

// fanout routes everything to everyone. The key does not matter for routing, yet
// it tells bindings apart, so it goes into the entry together with the arguments.
type fanout struct{ all set }

func newFanout() *fanout { return new(fanout) }

// fanoutEntry needs no separator: the key's length leads.
func fanoutEntry(key string, args wire.Table, d Dest) entry {
	enc := EncodeArgs(args)
	if key == "" && enc == "" {
		return entry{dest: d}
	}
	return entry{d, string([]byte{byte(len(key) >> 8), byte(len(key))}) + key + enc}
}

func (t *fanout) Bind(key string, args wire.Table, d Dest) bool {
	return t.all.add(fanoutEntry(key, args, d))
}

func (t *fanout) Unbind(key string, args wire.Table, d Dest) bool {
	return t.all.remove(fanoutEntry(key, args, d))
}

func (t *fanout) Route(dst []Dest, _ string, _ []byte) []Dest { return t.all.appendTo(dst) }

func (t *fanout) Len() int { return len(t.all.entries) }
