package parity

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed methods.txt
var methodsText string

// fieldSpec is one field of a method: its name and wire type.
type fieldSpec struct{ name, kind string }

// methodSpec is one method of the protocol.
type methodSpec struct {
	class, method uint16
	name          string
	fields        []fieldSpec
	replies       []string // methods that answer it; none for asynchronous ones
}

// hasContent tells whether header and body frames follow the method.
func (m *methodSpec) hasContent() bool {
	switch m.name {
	case "basic.publish", "basic.return", "basic.deliver", "basic.get-ok":
		return true
	}
	return false
}

// protocol is the method table by name and by id; read-only once built.
type protocol struct {
	byName map[string]*methodSpec
	byID   map[uint32]*methodSpec
}

// spec parses methods.txt once.
var spec = sync.OnceValue(func() *protocol {
	p := &protocol{byName: map[string]*methodSpec{}, byID: map[uint32]*methodSpec{}}
	for line := range strings.Lines(methodsText) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		head, replies, _ := strings.Cut(line, ">")
		words := strings.Fields(head)
		m := &methodSpec{name: words[1], replies: strings.Fields(replies)}
		if _, err := fmt.Sscanf(words[0], "%d.%d", &m.class, &m.method); err != nil {
			panic("methods.txt: " + line)
		}
		for _, f := range words[2:] {
			name, kind, _ := strings.Cut(f, ":")
			m.fields = append(m.fields, fieldSpec{name, kind})
		}
		p.byName[m.name] = m
		p.byID[uint32(m.class)<<16|uint32(m.method)] = m
	}
	return p
})

// propertySpecs are the 14 properties of class basic in flag order, from bit 15 down.
func propertySpecs() []fieldSpec {
	return []fieldSpec{
		{"content-type", "shortstr"}, {"content-encoding", "shortstr"}, {"headers", "table"},
		{"delivery-mode", "octet"}, {"priority", "octet"}, {"correlation-id", "shortstr"},
		{"reply-to", "shortstr"}, {"expiration", "shortstr"}, {"message-id", "shortstr"},
		{"timestamp", "longlong"}, {"type", "shortstr"}, {"user-id", "shortstr"},
		{"app-id", "shortstr"}, {"cluster-id", "shortstr"},
	}
}
