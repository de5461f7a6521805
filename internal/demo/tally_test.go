package demo

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/warrenmq/warren/reliable"
)

// good is a tally in which every balance holds.
func good() Tally {
	return Tally{Published: 5, Confirmed: 5, Returned: 1, Routed: 6, Delivered: 11, First: 6, Redelivered: 2,
		Retried: 2, DeadLettered: 1, Handled: 4, Deduplicated: 1, Acked: 6, Moved: 3, CutOff: 2, Repaired: 1}
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
		if name == "Returned" || name == "Repaired" || name == "Unconfirmed" {
			continue // checked by their steps, against the messages themselves
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

func TestDeliveriesAreClassifiedByWhatStandsOnThem(t *testing.T) {
	for _, tc := range []struct {
		name string
		d    reliable.Delivery
		want Tally
	}{
		{"new", reliable.Delivery{Attempt: 1}, Tally{Delivered: 1, First: 1}},
		{"redelivered", reliable.Delivery{Attempt: 1, Redelivered: true}, Tally{Delivered: 1, Redelivered: 1}},
		{"a retry", reliable.Delivery{Attempt: 2}, Tally{Delivered: 1, Retried: 1}},
		{"a retry that is redelivered", reliable.Delivery{Attempt: 2, Redelivered: true}, Tally{Delivered: 1, Redelivered: 1}},
		{"sent back from the dead letters", reliable.Delivery{Attempt: 1, Generation: 1}, Tally{Delivered: 1, First: 1}},
	} {
		var l ledger
		l.arrived(&tc.d)
		if got := l.snapshot(); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestOutcomesAreCounted(t *testing.T) {
	for outcome, want := range map[reliable.Outcome]Tally{
		reliable.OutcomeDone:       {Acked: 1},
		reliable.OutcomeDuplicate:  {Delivered: 1, First: 1, Acked: 1, Deduplicated: 1},
		reliable.OutcomeRetry:      {Moved: 1},
		reliable.OutcomeDeadLetter: {Moved: 1},
		reliable.OutcomeUnsettled:  {CutOff: 1},
		reliable.OutcomeGivenBack:  {}, // it is still there, which the queue shows
	} {
		var l ledger
		l.settled(&reliable.Delivery{Attempt: 1}, outcome)
		if got := l.snapshot(); got != want {
			t.Errorf("%s: %+v, want %+v", outcome, got, want)
		}
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
