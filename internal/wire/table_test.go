package wire

import (
	"strings"
	"testing"
)

func TestTableSetGetDelete(t *testing.T) {
	tab := Table{{"a", int32(1)}, {"b", "x"}, {"a", int32(2)}}
	if v, ok := tab.Get("a"); !ok || v != int32(1) {
		t.Errorf("the first a is %v", v)
	}
	if v, ok := tab.Get("c"); ok {
		t.Errorf("there is a c: %v", v)
	}
	tab = tab.Set("b", "y").Set("c", true)
	if want := (Table{{"a", int32(1)}, {"b", "y"}, {"a", int32(2)}, {"c", true}}); !EqualTables(tab, want) {
		t.Errorf("after Set: %v", tab)
	}
	if tab = tab.Delete("a"); len(tab) != 2 || tab[0].Key != "b" || tab[1].Key != "c" {
		t.Errorf("after Delete: %v", tab)
	}
}

func TestErrorNamesItsMethod(t *testing.T) {
	e := ChannelError(PreconditionFailed, "unknown delivery tag %d", 7)
	on := e.On(IDBasicAck)
	if e.Method != 0 || on.Method != IDBasicAck || on.Scope != ScopeChannel {
		t.Errorf("%+v, %+v", e, on)
	}
	if s := on.Error(); s != "PRECONDITION_FAILED - unknown delivery tag 7" {
		t.Errorf("text %q", s)
	}
	if e := ConnectionError(FrameErrorCode, "x"); e.Scope != ScopeConnection {
		t.Errorf("%+v", e)
	}
}

func TestCodeNames(t *testing.T) {
	for code, want := range map[uint16]string{
		200: "OK", 311: "CONTENT_TOO_LARGE", 312: "NO_ROUTE", 313: "NO_CONSUMERS", 320: "CONNECTION_FORCED",
		402: "INVALID_PATH", 403: "ACCESS_REFUSED", 404: "NOT_FOUND", 405: "RESOURCE_LOCKED",
		406: "PRECONDITION_FAILED", 501: "FRAME_ERROR", 502: "SYNTAX_ERROR", 503: "COMMAND_INVALID",
		504: "CHANNEL_ERROR", 505: "UNEXPECTED_FRAME", 506: "RESOURCE_ERROR", 530: "NOT_ALLOWED",
		540: "NOT_IMPLEMENTED", 541: "INTERNAL_ERROR", 999: "CODE_999",
	} {
		if got := CodeName(code); got != want {
			t.Errorf("%d is %q, want %q", code, got, want)
		}
	}
}

func TestQuotedEscapes(t *testing.T) {
	want := `type 3, all octets = <<"\b\t\n\v\f\r\e` + "\xa0\xff~ " + `">>`
	if got := FrameText(3, []byte("\b\t\n\v\f\r\x1b\xa0\xff~ ")); got != want {
		t.Errorf("got %q", got)
	}
	if got := FrameText(3, []byte(strings.Repeat("a", 17))); got != `type 3, first 16 octets = <<"aaaaaaaaaaaaaaaa">>` {
		t.Errorf("got %q", got)
	}
}
