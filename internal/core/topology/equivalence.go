package topology

import (
	"fmt"

	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// sameField is 406 unless a property is declared again as it was.
func sameField[T comparable](field, on string, current, received T) *wire.Error {
	if current == received {
		return nil
	}
	return inequivalent(field, on, fmt.Sprintf("'%v'", received), fmt.Sprintf("'%v'", current))
}

// sameArg is 406 unless an argument is declared again as it was. Where one side
// has no such argument the text names the other side's type, else just values.
func sameArg(key, on string, current, received wire.Table) *wire.Error {
	cur, hasCur := current.Get(key)
	rec, hasRec := received.Get(key)
	switch {
	case hasCur != hasRec:
		return inequivalent(key, on, typedValue(rec, hasRec), typedValue(cur, hasCur))
	case hasCur && !sameValue(cur, rec):
		return inequivalent(key, on, quotedValue(rec), quotedValue(cur))
	}
	return nil
}

func inequivalent(what, on, received, current string) *wire.Error {
	return precondition("inequivalent arg '" + what + "' for " + on + ": received " + received + " but current is " + current)
}

func typedValue(v any, ok bool) string {
	if !ok {
		return "none"
	}
	return "the value '" + plainValue(v) + "' of type '" + wire.TypeName(v) + "'"
}

// quotedValue prints a void as if it were not there, as RabbitMQ does.
func quotedValue(v any) string {
	if v == nil {
		return "none"
	}
	return "'" + plainValue(v) + "'"
}

// plainValue prints strings bare and all else as a term.
func plainValue(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return exchange.Term(v)
}

// sameValue compares by value, not by width: 10 is 10 as a byte, a long or a
// timestamp, and a string is the byte array with the same bytes.
func sameValue(a, b any) bool {
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	if x, ok := float(a); ok {
		y, ok := float(b)
		return ok && x == y
	}
	switch a.(type) {
	case string, []byte:
		switch b.(type) {
		case string, []byte:
			return plainValue(a) == plainValue(b)
		}
		return false
	}
	return exchange.EncodeArgs(wire.Table{{Value: a}}) == exchange.EncodeArgs(wire.Table{{Value: b}})
}

func number(v any) (int64, bool) {
	if ts, ok := v.(wire.Timestamp); ok {
		return int64(ts), true
	}
	return intValue(v)
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
