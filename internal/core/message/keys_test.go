package message

import (
	"slices"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

func rawHeaders(h wire.Table) []byte { return wire.AppendTable(nil, h)[4:] }

func TestExtraKeys(t *testing.T) {
	cases := []struct {
		name    string
		headers wire.Table
		keys    []string
		bcc     bool
		err     string
	}{
		{"none", nil, nil, false, ""},
		{"others", wire.Table{{Key: "cc", Value: wire.Array{"a"}}, {Key: "X", Value: "CC"}}, nil, false, ""},
		{"CC", wire.Table{{Key: "CC", Value: wire.Array{"a", "b"}}}, []string{"a", "b"}, false, ""},
		{"BCC", wire.Table{{Key: "BCC", Value: wire.Array{"c"}}}, []string{"c"}, true, ""},
		{"both, CC first", wire.Table{{Key: "BCC", Value: wire.Array{"c"}}, {Key: "CC", Value: wire.Array{"a"}}}, []string{"a", "c"}, true, ""},
		{"an empty BCC", wire.Table{{Key: "BCC", Value: wire.Array{}}}, nil, true, ""},
		{"what is no string is passed over", wire.Table{{Key: "CC", Value: wire.Array{int32(5), "a", nil, wire.Array{"x"}, ""}}}, []string{"a", ""}, false, ""},
		{"a string", wire.Table{{Key: "CC", Value: "a"}}, nil, false,
			`PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}`},
		{"a number", wire.Table{{Key: "CC", Value: wire.Array{"a"}}, {Key: "BCC", Value: int32(5)}}, nil, false,
			`PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"BCC",signedint}`},
		{"void", wire.Table{{Key: "CC", Value: nil}}, nil, false,
			`PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",void}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			keys, bcc, err := ExtraKeys([]string{"first"}, rawHeaders(c.headers))
			if c.err != "" {
				if err == nil || err.ReplyText() != c.err || err.Scope != wire.ScopeChannel {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := append([]string{"first"}, c.keys...); !slices.Equal(keys, want) || bcc != c.bcc {
				t.Errorf("keys %q, BCC %t; want %q, %t", keys, bcc, want, c.bcc)
			}
		})
	}
}

func TestWithoutBCC(t *testing.T) {
	p := wire.Properties{Flags: wire.FlagHeaders | wire.FlagAppID, AppID: "app", Headers: wire.Table{
		{Key: "a", Value: int32(1)}, {Key: "BCC", Value: wire.Array{"secret"}}, {Key: "CC", Value: wire.Array{"b"}},
	}}
	r := Build(nil, "x", "k", props(p), []byte("body"), 0)
	got, err := r.WithoutBCC(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := p
	want.Headers = wire.Table{{Key: "a", Value: int32(1)}, {Key: "CC", Value: wire.Array{"b"}}}
	if whole := Build(nil, "x", "k", props(want), []byte("body"), 0); !slices.Equal(got, whole) {
		t.Errorf("got  %q\nwant %q", got, whole)
	}
	// Its headers stay, empty, when BCC was the only one.
	p.Headers = wire.Table{{Key: "BCC", Value: wire.Array{"secret"}}}
	got, err = Build(nil, "x", "k", props(p), nil, 0).WithoutBCC(nil)
	if q, _ := got.Properties(); err != nil || q.Flags != p.Flags || len(q.Headers) != 0 {
		t.Errorf("got %+v, %v", q, err)
	}
}
