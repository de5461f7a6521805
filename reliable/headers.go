package reliable

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// maxHeaderBytes is how large the headers of a message may be: they share a frame
// with the other properties, and 128 KiB is the frame that servers agree to by
// default. What a message carries grows on its way (x-death, retries), so that
// much is kept free.
const maxHeaderBytes = 96 << 10

// tableBytes is about what a table takes on the wire; it never says less.
func tableBytes(t amqp.Table) int {
	n := 4
	for name, value := range t {
		n += 2 + len(name) + valueBytes(value)
	}
	return n
}

func valueBytes(v any) int {
	switch v := v.(type) {
	case string:
		return 4 + len(v)
	case []byte:
		return 4 + len(v)
	case amqp.Table:
		return tableBytes(v)
	case []any:
		n := 4
		for _, e := range v {
			n += 1 + valueBytes(e)
		}
		return n
	case time.Time:
		return 8
	}
	return 8 // numbers, booleans, decimals, nil
}

// longName finds a name in a table, or in one below it, that is too long.
func longName(v any) (name string, found bool) {
	switch v := v.(type) {
	case amqp.Table:
		for name, value := range v {
			if len(name) > maxShortString {
				return name, true
			}
			if name, found = longName(value); found {
				return name, true
			}
		}
	case []any:
		for _, e := range v {
			if name, found = longName(e); found {
				return name, true
			}
		}
	}
	return "", false
}

// checkHeaders refuses headers that cannot be sent.
func checkHeaders(h amqp.Table) error {
	if err := h.Validate(); err != nil {
		return fmt.Errorf("reliable: headers: %w", err)
	}
	if size := tableBytes(h); size > maxHeaderBytes {
		return fmt.Errorf("reliable: the headers have %d bytes, at most %d are possible: they have to fit one frame", size, maxHeaderBytes)
	}
	if name, found := longName(h); found {
		return fmt.Errorf("reliable: the name of header %.20q… has %d bytes, at most %d are possible", name, len(name), maxShortString)
	}
	return nil
}
