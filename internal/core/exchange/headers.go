package exchange

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/warrenmq/warren/internal/wire"
)

// headers routes by the message's header table: a binding's arguments name the
// headers it wants. "x-match" says whether all or any of them must match;
// "all-with-x" and "any-with-x" also look at keys that begin with "x-", which
// the plain modes pass over. A void value asks for presence only.
//
// Values match if they are equal as values: integers of any width by number,
// short and long floats by number, timestamps by the second, strings and byte arrays by bytes, nested
// tables and arrays only with the same types in the same order. (RabbitMQ
// compares decoded values without their width, so it does too.)
type headers struct {
	bindings []*headerBinding
	index    map[headerID]int // position in bindings
}

type headerID struct {
	key  string
	args string
	dest Dest
}

type headerBinding struct {
	id     headerID
	any    bool
	wanted []wantedHeader
}

// valueClass groups wire types whose values compare with each other.
type valueClass uint8

const (
	classPresence valueClass = iota // a void in a binding: any value will do
	classVoid
	classBool
	classInt
	classFloat
	classTime
	classBytes
	classOther // compared as tag and raw bytes
)

type wantedHeader struct {
	key   string
	class valueClass
	num   int64   // classBool, classInt, classTime
	float float64 // classFloat
	bytes string  // classBytes: the content; classOther: tag and raw value
}

func newHeaders() *headers { return &headers{index: make(map[headerID]int)} }

// InvalidBinding returns RabbitMQ's explanation of what is wrong with the
// arguments of a binding to an exchange of type t, empty if nothing is. It is a
// 406 precondition_failed.
func InvalidBinding(t Type, args wire.Table) string {
	if t != Headers {
		return ""
	}
	v, ok := args.Get("x-match")
	if !ok {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		return fmt.Sprintf("Invalid x-match field type %s (value %s); expected longstr", wire.TypeName(v), Term(v))
	}
	switch s {
	case "all", "any", "all-with-x", "any-with-x":
		return ""
	}
	return fmt.Sprintf("Invalid x-match field value %s; expected all, any, all-with-x, or any-with-x", Term(s))
}

func (t *headers) Bind(key string, args wire.Table, d Dest) bool {
	id := headerID{key, EncodeArgs(args), d}
	if _, ok := t.index[id]; ok {
		return false
	}
	t.index[id] = len(t.bindings)
	t.bindings = append(t.bindings, compileHeaders(id, args))
	return true
}

func (t *headers) Unbind(key string, args wire.Table, d Dest) bool {
	id := headerID{key, EncodeArgs(args), d}
	i, ok := t.index[id]
	if !ok {
		return false
	}
	last := len(t.bindings) - 1
	t.bindings[i] = t.bindings[last]
	t.index[t.bindings[i].id] = i
	t.bindings[last] = nil
	t.bindings = t.bindings[:last]
	delete(t.index, id)
	return true
}

func (t *headers) Len() int { return len(t.bindings) }

func (t *headers) Route(dst []Dest, _ string, raw []byte) []Dest {
	if len(t.bindings) == 0 {
		return dst
	}
	var space [24]rawHeader // on the stack; a message with more spills
	fields := parseHeaders(space[:0], raw)
	for _, b := range t.bindings {
		if b.matches(fields) {
			dst = append(dst, b.id.dest)
		}
	}
	return dst
}

// matches: "all" of nothing is true, "any" of nothing is false, as in RabbitMQ.
func (b *headerBinding) matches(fields []rawHeader) bool {
	for i := range b.wanted {
		if b.wanted[i].found(fields) == b.any {
			return b.any
		}
	}
	return !b.any
}

func (w *wantedHeader) found(fields []rawHeader) bool {
	// From the end: of two headers with one key the later counts.
	for i := len(fields) - 1; i >= 0; i-- {
		if string(fields[i].key) == w.key {
			return w.equals(&fields[i])
		}
	}
	return false
}

func (w *wantedHeader) equals(h *rawHeader) bool {
	if w.class == classPresence {
		return true
	}
	if w.class != classOf(h.tag) {
		return false
	}
	switch w.class {
	case classBool, classInt, classTime:
		return h.integer() == w.num
	case classFloat:
		return h.float() == w.float
	case classBytes:
		return string(h.value) == w.bytes
	case classOther:
		return w.bytes[0] == h.tag && string(h.value) == w.bytes[1:]
	}
	return false
}

func compileHeaders(id headerID, args wire.Table) *headerBinding {
	b := &headerBinding{id: id}
	mode, _ := args.Get("x-match")
	withX := mode == "all-with-x" || mode == "any-with-x"
	b.any = mode == "any" || mode == "any-with-x"
	for _, f := range args {
		if f.Key == "x-match" || !withX && strings.HasPrefix(f.Key, "x-") {
			continue
		}
		b.wanted = append(b.wanted, compileHeader(f))
	}
	return b
}

// compileHeader goes through the wire form, so that a binding's value and a
// message's are decoded by the same code.
func compileHeader(f wire.Field) wantedHeader {
	w := wantedHeader{key: f.Key}
	if f.Value == nil {
		return w
	}
	enc := appendValue(nil, f.Value)
	value, _, _ := cutValue(enc)
	h := rawHeader{tag: enc[0], value: value}
	switch w.class = classOf(h.tag); w.class {
	case classBool, classInt, classTime:
		w.num = h.integer()
	case classFloat:
		w.float = h.float()
	case classBytes:
		w.bytes = string(value)
	default:
		w.bytes = string(enc[:1]) + string(value)
	}
	return w
}

// rawHeader is one field of a message's header table, aliasing its bytes. value
// is without the length that precedes it on the wire.
type rawHeader struct {
	key   []byte
	tag   byte
	value []byte
}

// parseHeaders appends the fields of a raw table. It stops at the first one that
// does not parse: the session refuses such messages before they get here.
func parseHeaders(fields []rawHeader, raw []byte) []rawHeader {
	for len(raw) > 0 {
		n := int(raw[0])
		if len(raw) < n+2 {
			return fields
		}
		key, rest := raw[1:1+n], raw[1+n:]
		value, used, ok := cutValue(rest)
		if !ok {
			return fields
		}
		fields = append(fields, rawHeader{key, rest[0], value})
		raw = rest[used:]
	}
	return fields
}

// cutValue splits a tagged value off b (not empty): the value without tag and
// length, and how many bytes of b it takes.
func cutValue(b []byte) (value []byte, usedBytes int, ok bool) {
	size := 0
	switch b[0] {
	case 'V':
	case 't', 'b', 'B':
		size = 1
	case 's', 'u':
		size = 2
	case 'I', 'i', 'f':
		size = 4
	case 'D':
		size = 5
	case 'l', 'L', 'd', 'T':
		size = 8
	case 'S', 'x', 'A', 'F':
		if len(b) < 5 {
			return nil, 0, false
		}
		n := uint64(binary.BigEndian.Uint32(b[1:]))
		if n > uint64(len(b)-5) {
			return nil, 0, false
		}
		return b[5 : 5+n], 5 + int(n), true
	default:
		return nil, 0, false
	}
	if len(b) < 1+size {
		return nil, 0, false
	}
	return b[1 : 1+size], 1 + size, true
}

func classOf(tag byte) valueClass {
	switch tag {
	case 'V':
		return classVoid
	case 't':
		return classBool
	case 'b', 'B', 's', 'u', 'I', 'i', 'l', 'L':
		return classInt
	case 'T':
		return classTime
	case 'f', 'd':
		return classFloat
	case 'S', 'x':
		return classBytes
	}
	return classOther
}

func (h *rawHeader) integer() int64 {
	switch h.tag {
	case 't':
		if h.value[0] != 0 {
			return 1
		}
		return 0
	case 'b':
		return int64(int8(h.value[0]))
	case 'B':
		return int64(h.value[0])
	case 's':
		return int64(int16(binary.BigEndian.Uint16(h.value)))
	case 'u':
		return int64(binary.BigEndian.Uint16(h.value))
	case 'I':
		return int64(int32(binary.BigEndian.Uint32(h.value)))
	case 'i':
		return int64(binary.BigEndian.Uint32(h.value))
	}
	return int64(binary.BigEndian.Uint64(h.value))
}

func (h *rawHeader) float() float64 {
	if h.tag == 'f' {
		return float64(math.Float32frombits(binary.BigEndian.Uint32(h.value)))
	}
	return math.Float64frombits(binary.BigEndian.Uint64(h.value))
}
