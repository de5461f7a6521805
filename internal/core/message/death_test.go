package message

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/warrenmq/warren/internal/wire"
)

// show writes a table value on one line, as the cases below have it.
func show(v any) string {
	switch v := v.(type) {
	case wire.Table:
		var fields []string
		for _, f := range v {
			fields = append(fields, f.Key+"="+show(f.Value))
		}
		slices.Sort(fields)
		return "{" + strings.Join(fields, " ") + "}"
	case wire.Array:
		var items []string
		for _, x := range v {
			items = append(items, show(x))
		}
		return "[" + strings.Join(items, " ") + "]"
	case string:
		return v
	}
	return fmt.Sprintf("%T:%v", v, v)
}

// life is a message that dies again and again.
type life struct {
	t     *testing.T
	r     Record
	known bool
	one   bool // a death has replaced the routing key
	now   uint64
	keys  []string
	dead  Dead
}

func born(t *testing.T, exchange, key string, p wire.Properties) *life {
	return &life{t: t, r: Build(nil, exchange, key, props(p), []byte("body"), 0), now: 1000}
}

func (l *life) die(b Burial) {
	l.t.Helper()
	b.TimeSeconds, b.Known, b.OneKey = l.now, b.Known || l.known, l.one
	dead, err := l.r.Bury(nil, b)
	if err != nil {
		l.t.Fatal(err)
	}
	l.r, l.keys, l.dead, l.known = dead.Record, dead.Keys, dead, true
	l.now++
	l.one = l.one || b.HasKey
}

// expect compares route, keys to route with, and headers; headers are NAME=value
// in order of name.
func (l *life) expect(exchange, key, keys string, headers ...string) {
	l.t.Helper()
	if string(l.r.Exchange()) != exchange || string(l.r.Key()) != key || strings.Join(l.keys, ",") != keys {
		l.t.Errorf("goes to %q with key %q, keys %q; want %q, %q, %q", l.r.Exchange(), l.r.Key(), l.keys, exchange, key, keys)
	}
	p, err := l.r.Properties()
	if err != nil {
		l.t.Fatal(err)
	}
	if got, want := show(p.Headers), "{"+strings.Join(headers, " ")+"}"; got != want {
		l.t.Errorf("headers\n got %s\nwant %s", got, want)
	}
	if p.Flags&wire.FlagExpiration != 0 || p.Expiration != "" {
		l.t.Errorf("it still expires: %q", p.Expiration)
	}
	if string(l.r.AppendBody(nil)) != "body" {
		l.t.Errorf("the body is %q", l.r.AppendBody(nil))
	}
}

func first(exchange, queue, reason string) string {
	return fmt.Sprintf("x-first-death-exchange=%s x-first-death-queue=%s x-first-death-reason=%s", exchange, queue, reason)
}

func last(exchange, queue, reason string) string {
	return fmt.Sprintf("x-last-death-exchange=%s x-last-death-queue=%s x-last-death-reason=%s", exchange, queue, reason)
}

func TestFirstDeath(t *testing.T) {
	l := born(t, "ex", "key", wire.Properties{})
	l.die(Burial{Queue: "q", Reason: "rejected", DLX: "dlx"})
	l.expect("dlx", "key", "key",
		"x-death=[{count=int64:1 exchange=ex queue=q reason=rejected routing-keys=[key] time=wire.Timestamp:1000}]",
		first("ex", "q", "rejected"), last("ex", "q", "rejected"))
}

// The wire types, and the order in which fields stand, do not depend on show.
func TestDeathTypes(t *testing.T) {
	l := born(t, "ex", "key", wire.Properties{})
	l.die(Burial{Queue: "q", Reason: "expired", DLX: "dlx"})
	p, _ := l.r.Properties()
	v, _ := p.Headers.Get("x-death")
	deaths, ok := v.(wire.Array)
	if !ok || len(deaths) != 1 || p.Flags != wire.FlagHeaders {
		t.Fatalf("x-death is %#v; flags %x", v, p.Flags)
	}
	want := wire.Table{
		{Key: "count", Value: int64(1)}, {Key: "reason", Value: "expired"}, {Key: "queue", Value: "q"},
		{Key: "time", Value: wire.Timestamp(1000)}, {Key: "exchange", Value: "ex"}, {Key: "routing-keys", Value: wire.Array{"key"}},
	}
	if !wire.EqualValues(deaths[0], want) {
		t.Errorf("got %#v", deaths[0])
	}
}

// A death of the same queue and reason counts up and comes to the front; all
// else stays as it was the first time.
func TestRepeatedDeath(t *testing.T) {
	l := born(t, "ex", "key", wire.Properties{Flags: wire.FlagExpiration, Expiration: "50"})
	l.die(Burial{Queue: "q", Reason: "expired", DLX: "dlx", Key: "back", HasKey: true})
	l.expect("dlx", "back", "back",
		"x-death=[{count=int64:1 exchange=ex original-expiration=50 queue=q reason=expired routing-keys=[key] time=wire.Timestamp:1000}]",
		first("ex", "q", "expired"), last("ex", "q", "expired"))
	l.die(Burial{Queue: "wait", Reason: "expired", DLX: "ex", Key: "key", HasKey: true})
	l.expect("ex", "key", "key",
		"x-death=[{count=int64:1 exchange=dlx queue=wait reason=expired routing-keys=[back] time=wire.Timestamp:1001}",
		"{count=int64:1 exchange=ex original-expiration=50 queue=q reason=expired routing-keys=[key] time=wire.Timestamp:1000}]",
		first("ex", "q", "expired"), last("dlx", "wait", "expired"))
	l.die(Burial{Queue: "q", Reason: "expired", DLX: "dlx", Key: "back", HasKey: true})
	l.expect("dlx", "back", "back",
		"x-death=[{count=int64:2 exchange=ex original-expiration=50 queue=q reason=expired routing-keys=[key] time=wire.Timestamp:1000}",
		"{count=int64:1 exchange=dlx queue=wait reason=expired routing-keys=[back] time=wire.Timestamp:1001}]",
		first("ex", "q", "expired"), last("ex", "q", "expired"))
	// Another reason is another entry.
	l.die(Burial{Queue: "wait", Reason: "maxlen", DLX: "ex"})
	l.expect("ex", "back", "back",
		"x-death=[{count=int64:1 exchange=dlx queue=wait reason=maxlen routing-keys=[back] time=wire.Timestamp:1003}",
		"{count=int64:2 exchange=ex original-expiration=50 queue=q reason=expired routing-keys=[key] time=wire.Timestamp:1000}",
		"{count=int64:1 exchange=dlx queue=wait reason=expired routing-keys=[back] time=wire.Timestamp:1001}]",
		first("ex", "q", "expired"), last("dlx", "wait", "maxlen"))
	// The last of three comes to the front, the others keep their order.
	l.die(Burial{Queue: "wait", Reason: "expired", DLX: "ex"})
	l.expect("ex", "back", "back",
		"x-death=[{count=int64:2 exchange=dlx queue=wait reason=expired routing-keys=[back] time=wire.Timestamp:1001}",
		"{count=int64:1 exchange=dlx queue=wait reason=maxlen routing-keys=[back] time=wire.Timestamp:1003}",
		"{count=int64:2 exchange=ex original-expiration=50 queue=q reason=expired routing-keys=[key] time=wire.Timestamp:1000}]",
		first("ex", "q", "expired"), last("ex", "wait", "expired"))
}

// An expiration is noted whatever the reason.
func TestOriginalExpiration(t *testing.T) {
	for _, reason := range []string{"rejected", "expired", "maxlen", "delivery_limit"} {
		l := born(t, "", "q", wire.Properties{Flags: wire.FlagExpiration, Expiration: "60000"})
		l.die(Burial{Queue: "q", Reason: reason, DLX: "dlx"})
		l.expect("dlx", "q", "q",
			"x-death=[{count=int64:1 exchange= original-expiration=60000 queue=q reason="+reason+" routing-keys=[q] time=wire.Timestamp:1000}]",
			first("", "q", reason), last("", "q", reason))
	}
}

// What a client publishes as x-death is not believed; the broker's own is.
func TestClientsDeathsAreNotBelieved(t *testing.T) {
	forged := wire.Properties{Flags: wire.FlagHeaders, Headers: wire.Table{
		{Key: "mine", Value: int32(1)},
		{Key: "x-death", Value: wire.Array{wire.Table{
			{Key: "count", Value: int64(41)}, {Key: "reason", Value: "rejected"}, {Key: "queue", Value: "q"}}}},
		{Key: "x-first-death-exchange", Value: "no"}, {Key: "x-first-death-queue", Value: "no"}, {Key: "x-first-death-reason", Value: "no"},
		{Key: "x-last-death-exchange", Value: "no"}, {Key: "x-last-death-queue", Value: "no"}, {Key: "x-last-death-reason", Value: "no"},
	}}
	l := born(t, "ex", "key", forged)
	l.die(Burial{Queue: "q", Reason: "rejected", DLX: "dlx"})
	l.expect("dlx", "key", "key", "mine=int32:1",
		"x-death=[{count=int64:1 exchange=ex queue=q reason=rejected routing-keys=[key] time=wire.Timestamp:1000}]",
		first("ex", "q", "rejected"), last("ex", "q", "rejected"))

	l = born(t, "ex", "key", forged)
	l.die(Burial{Queue: "q", Reason: "rejected", DLX: "dlx", Known: true})
	l.expect("dlx", "key", "key", "mine=int32:1", "x-death=[{count=int64:42 queue=q reason=rejected}]",
		first("no", "no", "no"), last("ex", "q", "rejected"))

	// Known, but none of it is of the right type.
	l = born(t, "ex", "key", wire.Properties{Flags: wire.FlagHeaders, Headers: wire.Table{{Key: "x-death", Value: "no"}}})
	l.die(Burial{Queue: "q", Reason: "maxlen", DLX: "dlx", Known: true})
	l.expect("dlx", "key", "key",
		"x-death=[{count=int64:1 exchange=ex queue=q reason=maxlen routing-keys=[key] time=wire.Timestamp:1000}]",
		first("ex", "q", "maxlen"), last("ex", "q", "maxlen"))
}

// CC and BCC keys route a dead letter unless the queue has a key of its own. CC
// stays in the headers, BCC is gone, and only CC is among the routing keys.
func TestCarbonCopies(t *testing.T) {
	copies := func() wire.Properties {
		return wire.Properties{Flags: wire.FlagHeaders, Headers: wire.Table{
			{Key: "BCC", Value: wire.Array{"secret"}}, {Key: "CC", Value: wire.Array{"c1", "c2"}}}}
	}
	death := "x-death=[{count=int64:1 exchange=ex queue=q reason=rejected routing-keys=[key c1 c2] time=wire.Timestamp:1000}]"
	l := born(t, "ex", "key", copies())
	l.die(Burial{Queue: "q", Reason: "rejected", DLX: "dlx"})
	l.expect("dlx", "key", "key,c1,c2,secret", "CC=[c1 c2]", death, first("ex", "q", "rejected"), last("ex", "q", "rejected"))

	l = born(t, "ex", "key", copies())
	l.die(Burial{Queue: "q", Reason: "rejected", DLX: "", Key: "other", HasKey: true})
	l.expect("", "other", "other", "CC=[c1 c2]", death, first("ex", "q", "rejected"), last("ex", "q", "rejected"))

	// From then on CC routes no more, and is not among the routing keys.
	l.die(Burial{Queue: "q2", Reason: "rejected", DLX: "dlx"})
	l.expect("dlx", "other", "other", "CC=[c1 c2]",
		"x-death=[{count=int64:1 exchange= queue=q2 reason=rejected routing-keys=[other] time=wire.Timestamp:1001}", death[len("x-death=["):],
		first("ex", "q", "rejected"), last("", "q2", "rejected"))

	// A replacement that is empty replaces too.
	l = born(t, "ex", "key", copies())
	l.die(Burial{Queue: "q", Reason: "rejected", DLX: "dlx", Key: "", HasKey: true})
	l.expect("dlx", "", "", "CC=[c1 c2]", death, first("ex", "q", "rejected"), last("ex", "q", "rejected"))
}

// Everything else about a message stays.
func TestDeathKeepsTheRest(t *testing.T) {
	p := wire.Properties{
		Flags:       0xFFFC,
		ContentType: "ct", ContentEncoding: "ce", DeliveryMode: 2, Priority: 7, CorrelationID: "c", ReplyTo: "r",
		Expiration: "1", MessageID: "m", Timestamp: 5, Type: "t", UserID: "guest", AppID: "a", ClusterID: "cl",
		Headers: wire.Table{{Key: "h", Value: true}},
	}
	l := born(t, "ex", "key", p)
	l.die(Burial{Queue: "q", Reason: "rejected", DLX: "dlx"})
	got, err := l.r.Properties()
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := got.Headers.Get("h"); !ok || v != true || len(got.Headers) != 8 {
		t.Errorf("headers %v", got.Headers)
	}
	got.Headers, p.Headers = nil, nil
	p.Flags, p.Expiration = p.Flags&^wire.FlagExpiration, ""
	if fmt.Sprint(got) != fmt.Sprint(p) {
		t.Errorf("got  %+v\nwant %+v", got, p)
	}
}

func TestCycle(t *testing.T) {
	cases := []struct {
		deaths string // queue:reason, newest first
		queue  string
		want   bool
	}{
		{"", "q", false},
		{"q:expired", "q", true},
		{"q:maxlen", "q", true},
		{"q:delivery_limit", "q", true},
		{"q:rejected", "q", false},
		{"q:expired", "other", false},
		{"wait:expired q:expired", "q", true},
		{"wait:expired q:maxlen", "wait", true},
		// A rejection since it was there, or there, breaks the cycle.
		{"wait:expired q:rejected", "q", false},
		{"wait:rejected q:expired", "q", false},
		{"a:expired b:rejected q:expired", "q", false},
		// One from before that does not.
		{"wait:expired q:expired a:rejected", "q", true},
		{"q:expired q:rejected", "q", true},
		{"q:rejected q:expired", "q", false},
		{"a:expired b:expired c:expired", "q", false},
	}
	for _, c := range cases {
		var d Dead
		for _, death := range strings.Fields(c.deaths) {
			queue, reason, _ := strings.Cut(death, ":")
			d.deaths = append(d.deaths, wire.Table{{Key: "reason", Value: reason}, {Key: "queue", Value: queue}})
		}
		if got := d.Cycle(c.queue); got != c.want {
			t.Errorf("after %q to %s: cycle %t, want %t", c.deaths, c.queue, got, c.want)
		}
	}
	// The deaths are those of Bury, the present one included.
	l := born(t, "", "q", wire.Properties{})
	l.die(Burial{Queue: "q", Reason: "expired", DLX: "dlx"})
	if !l.dead.Cycle("q") || l.dead.Cycle("wait") {
		t.Error("a message that expires in q cannot go to q, but to others")
	}
	l.die(Burial{Queue: "wait", Reason: "rejected", DLX: "dlx"})
	if l.dead.Cycle("q") || l.dead.Cycle("wait") {
		t.Error("a rejected message can go anywhere")
	}
}

func TestBuryRefusesBadProperties(t *testing.T) {
	r := Build(nil, "x", "k", []byte{0xFF, 0xFC}, nil, 0)
	if _, err := r.Bury(nil, Burial{Queue: "q", Reason: "expired"}); err == nil {
		t.Error("buried a message whose properties cannot be read")
	}
	if _, err := r.WithoutBCC(nil); err == nil {
		t.Error("rewrote a message whose properties cannot be read")
	}
}
