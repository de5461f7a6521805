package demo

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// good is a tally in which every balance holds.
func good() Tally {
	return Tally{Published: 5, Confirmed: 5, Returned: 1, Routed: 6, Delivered: 11, First: 6, Redelivered: 2,
		Retried: 2, DeadLettered: 1, Handled: 4, Deduplicated: 1, Acked: 6, Nacked: 3, CutOff: 2, Repaired: 1}
}

// TestBalancesFail changes one number at a time: at least one balance must break
// for each number that a balance is about.
func TestBalancesFail(t *testing.T) {
	broken := func(tally Tally) (texts []string) {
		for _, b := range balances() {
			if !b.holds(tally) {
				texts = append(texts, b.render(tally))
			}
		}
		return texts
	}
	if texts := broken(good()); len(texts) > 0 {
		t.Fatalf("broken from the start: %v", texts)
	}
	fields := reflect.TypeFor[Tally]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if name == "Returned" || name == "Repaired" {
			continue // checked by their steps, against the message itself
		}
		tally := good()
		v := reflect.ValueOf(&tally).Elem().Field(i)
		v.SetInt(v.Int() + 1)
		texts := broken(tally)
		if len(texts) == 0 {
			t.Errorf("one more %s goes unnoticed", name)
		}
		for _, text := range texts {
			if !strings.Contains(text, " != ") {
				t.Errorf("%s: %q does not say that it is broken", name, text)
			}
		}
	}
}

// TestTallyKnowsAllItsFields guards add and the table against a number that is
// counted but never shown.
func TestTallyKnowsAllItsFields(t *testing.T) {
	fields := reflect.TypeFor[Tally]()
	for i := range fields.NumField() {
		var one, sum Tally
		reflect.ValueOf(&one).Elem().Field(i).SetInt(1)
		sum.add(one)
		sum.add(one)
		if got := reflect.ValueOf(sum).Field(i).Int(); got != 2 {
			t.Errorf("add loses %s: %d", fields.Field(i).Name, got)
		}
		shown := 0
		for _, c := range counters() {
			shown += c.of(one)
		}
		if shown != 1 {
			t.Errorf("%s is in %d rows of the table", fields.Field(i).Name, shown)
		}
	}
}

func TestArrivalsAreClassifiedByWhatTheBrokerWrote(t *testing.T) {
	entry := func(reason string) amqp.Table {
		return amqp.Table{"queue": "q", "reason": reason, "count": int64(1)}
	}
	for _, tc := range []struct {
		name string
		d    amqp.Delivery
		want Tally
	}{
		{"new", amqp.Delivery{}, Tally{Delivered: 1, First: 1}},
		{"redelivered", amqp.Delivery{Redelivered: true}, Tally{Delivered: 1, Redelivered: 1}},
		{"back from a delay", amqp.Delivery{Headers: amqp.Table{"x-death": []any{entry("expired"), entry("rejected")}}}, Tally{Delivered: 1, Retried: 1}},
		{"dead letter", amqp.Delivery{Headers: amqp.Table{"x-death": []any{entry("rejected"), entry("expired")}}}, Tally{Delivered: 1, DeadLettered: 1}},
	} {
		var l ledger
		l.arrived(tc.d)
		if got := l.snapshot(); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestDeaths(t *testing.T) {
	at := time.Unix(1700000000, 0)
	got := deaths(amqp.Table{"x-death": []any{
		amqp.Table{"queue": "q", "reason": "rejected", "count": int64(3), "exchange": "x", "time": at, "routing-keys": []any{"a", "b", int32(7)}},
		"not a table",
	}})
	want := []death{{Queue: "q", Reason: "rejected", Count: 3, Exchange: "x", Time: at, RoutingKeys: []string{"a", "b"}}, {}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := died(got, "q", "rejected"); n != 3 {
		t.Errorf("died %d times, want 3", n)
	}
	if n := died(got, "q", "expired"); n != 0 {
		t.Errorf("expired %d times, want 0", n)
	}
	if got := deaths(amqp.Table{"x-death": "nonsense"}); len(got) != 0 {
		t.Errorf("%v out of nonsense", got)
	}
}

func TestMismatchErrorNamesEach(t *testing.T) {
	var err error = &MismatchError{Mismatches: []Mismatch{{2, "confirms", "a is not b"}, {7, "duplicates", "c is not d"}}}
	want := "the numbers do not add up: step 2 (confirms): a is not b; step 7 (duplicates): c is not d"
	if err.Error() != want {
		t.Errorf("%q, want %q", err.Error(), want)
	}
	var target *MismatchError
	if !errors.As(err, &target) {
		t.Error("not a *MismatchError")
	}
}
