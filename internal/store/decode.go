package store

import (
	"fmt"
	"strconv"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
)

// Facts is a decoded settled, delivered, returned or died record.
type Facts struct {
	Type   uint8
	Queue  queue.ID
	Ranges []FactRange
}

// FactRange is a range of messages, both ends included; of a returned record one
// message and how often it has come back, of a died record one and why.
type FactRange struct {
	From, To queue.Seq
	Tries    queue.Tries
	Died     queue.Reason
}

// Name says what happened to the messages.
func (f *Facts) Name() string { return TypeName(f.Type) }

// TypeName is what a record type is called in the documentation.
func TypeName(typ uint8) string {
	names := map[uint8]string{recPublish: "publish", recSettled: "settled", recDelivered: "delivered", recReturned: "returned", recDied: "died", recPublishLarge: "publish-large",
		recQueue: "queue", recQueueGone: "queue-gone", recExchange: "exchange", recExchangeGone: "exchange-gone",
		recBinding: "binding", recBindingGone: "binding-gone", recCounters: "counters"}
	if n := names[typ]; n != "" {
		return n
	}
	return strconv.Itoa(int(typ))
}

// Decode takes a record apart: a *Published, a *Facts or a *Definition. What it
// returns aliases the record.
func Decode(e seglog.Entry) (any, error) {
	if e.Version != 0 {
		return nil, fmt.Errorf("%w: type %d, version %d", ErrFormat, e.Type, e.Version)
	}
	switch e.Type {
	case recPublish, recPublishLarge:
		p, err := parsePublish(e.Type, e.Payload)
		return &p, err
	case recSettled, recDelivered, recReturned, recDied:
		f := &Facts{Type: e.Type}
		err := parseFacts(e.Payload, func(q queue.ID, a, b uint64) error {
			r := FactRange{From: queue.Seq(a), To: queue.Seq(b)}
			switch e.Type {
			case recReturned:
				r.To, r.Tries = r.From, triesOf(b)
			case recDied:
				r.To, r.Died = r.From, queue.Reason(b)
			}
			f.Queue, f.Ranges = q, append(f.Ranges, r)
			return nil
		})
		return f, err
	}
	d, err := parseDefinition(e.Type, e.Payload)
	return &d, err
}
