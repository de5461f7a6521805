package topoplan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/warrenmq/warren/internal/mgmtclient"
	"github.com/warrenmq/warren/reliable"
)

// Live is what a management API lists of one virtual host.
type Live struct {
	Exchanges []mgmtclient.Exchange
	Queues    []mgmtclient.Queue
	Bindings  []mgmtclient.Binding
}

// Compare finds what a virtual host lacks of a topology, has otherwise, or has
// besides: a binding from one of the plan's exchanges to one of its queues or
// exchanges that the plan does not have brings messages to the wrong place.
func Compare(t *reliable.Topology, live *Live) []Finding {
	var found []Finding
	for _, e := range t.Exchanges {
		f := Finding{Kind: "exchange", Name: e.Name, State: Missing}
		for _, have := range live.Exchanges {
			if have.Name == e.Name {
				f.State, f.Note = verdict(differences(e.Type, have.Type, e.Durable, have.Durable, e.AutoDelete, have.AutoDelete,
					e.Internal, have.Internal, e.Arguments, have.Arguments))
			}
		}
		found = append(found, f)
	}
	for _, q := range t.Queues {
		f := Finding{Kind: "queue", Name: q.Name, State: Missing}
		for _, have := range live.Queues {
			if have.Name == q.Name {
				f.State, f.Note = verdict(differences("", "", q.Durable, have.Durable, q.AutoDelete, have.AutoDelete,
					false, false, q.Arguments, have.Arguments))
			}
		}
		found = append(found, f)
	}
	for _, b := range t.Bindings {
		f := Finding{Kind: "binding", Name: bindingName(b), State: Missing}
		if slices.ContainsFunc(live.Bindings, func(have mgmtclient.Binding) bool { return sameBinding(b, have) }) {
			f.State = Same
		}
		found = append(found, f)
	}
	return append(found, extra(t, live)...)
}

// extra are the bindings within the plan that it does not have.
func extra(t *reliable.Topology, live *Live) (found []Finding) {
	planned := map[string]bool{}
	for _, e := range t.Exchanges {
		planned["exchange "+e.Name] = true
	}
	for _, q := range t.Queues {
		planned["queue "+q.Name] = true
	}
	for _, have := range live.Bindings {
		if !planned["exchange "+have.Source] || !planned[have.DestinationType+" "+have.Destination] ||
			slices.ContainsFunc(t.Bindings, func(b reliable.BindingSpec) bool { return sameBinding(b, have) }) {
			continue
		}
		spec := reliable.BindingSpec{Source: have.Source, Destination: have.Destination, DestinationType: have.DestinationType, RoutingKey: have.Key}
		found = append(found, Finding{Kind: "binding", Name: bindingName(spec), State: Extra, Note: "the plan has no such binding: it brings messages to the wrong place"})
	}
	return found
}

func sameBinding(b reliable.BindingSpec, have mgmtclient.Binding) bool {
	return b.Source == have.Source && b.Destination == have.Destination && b.DestinationType == have.DestinationType &&
		b.RoutingKey == have.Key && reflect.DeepEqual(plain(b.Arguments), plain(have.Arguments))
}

func verdict(notes []string) (State, string) {
	if len(notes) == 0 {
		return Same, ""
	}
	return Different, strings.Join(notes, "; ")
}

// differences names what differs between planned and present properties.
func differences(kind, haveKind string, durable, haveDurable, autoDelete, haveAutoDelete, internal, haveInternal bool, args, haveArgs any) (notes []string) {
	add := func(name string, want, have any) {
		if !reflect.DeepEqual(want, have) {
			notes = append(notes, fmt.Sprintf("%s is %s, planned is %s", name, shown(have), shown(want)))
		}
	}
	add("type", kind, haveKind)
	add("durable", durable, haveDurable)
	add("auto-delete", autoDelete, haveAutoDelete)
	add("internal", internal, haveInternal)
	want, have := plain(args), plain(haveArgs)
	for k := range have {
		if _, ok := want[k]; !ok {
			want[k] = nil
		}
	}
	keys := make([]string, 0, len(want))
	for k := range want {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		add(k, want[k], have[k])
	}
	return notes
}

func shown(v any) string {
	if v == nil {
		return "not set"
	}
	return fmt.Sprint(v)
}

// plain is a table as JSON has it, so that tables of different origin can be
// compared. Classic queues may name their type or not.
func plain(table any) map[string]any {
	m := map[string]any{}
	text, err := json.Marshal(table)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil || m == nil {
		return map[string]any{}
	}
	if m["x-queue-type"] == "classic" {
		delete(m, "x-queue-type")
	}
	return m
}
