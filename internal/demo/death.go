package demo

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// death is one entry of the x-death header: all deaths of a message for one
// reason in one queue. The broker keeps the list, the last death first (older
// RabbitMQ versions leave the rest in no particular order).
type death struct {
	Queue       string    `json:"queue"`
	Reason      string    `json:"reason"` // rejected, expired, maxlen, delivery_limit
	Count       int64     `json:"count"`
	Exchange    string    `json:"exchange"` // where it had been published
	RoutingKeys []string  `json:"routingKeys"`
	Time        time.Time `json:"time"` // of the first one, in whole seconds
}

// deaths reads x-death; entries that are not as a broker writes them come out
// with zero fields.
func deaths(headers amqp.Table) []death {
	list, _ := headers["x-death"].([]any)
	out := make([]death, 0, len(list))
	for _, item := range list {
		t, _ := item.(amqp.Table)
		var d death
		d.Queue, _ = t["queue"].(string)
		d.Reason, _ = t["reason"].(string)
		d.Count, _ = t["count"].(int64)
		d.Exchange, _ = t["exchange"].(string)
		d.Time, _ = t["time"].(time.Time)
		keys, _ := t["routing-keys"].([]any)
		for _, k := range keys {
			if s, ok := k.(string); ok {
				d.RoutingKeys = append(d.RoutingKeys, s)
			}
		}
		out = append(out, d)
	}
	return out
}

// died counts the deaths of a message in one queue for one reason.
func died(list []death, queue, reason string) int {
	for _, d := range list {
		if d.Queue == queue && d.Reason == reason {
			return int(d.Count)
		}
	}
	return 0
}
