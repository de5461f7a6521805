package mgmt

import (
	"github.com/warrenmq/warren/internal/core/status"
)

// kindName is a count's name in message_stats.
func kindName(k status.Kind) string {
	return [status.Kinds]string{
		"publish", "confirm", "return_unroutable", "drop_unroutable", "deliver", "deliver_no_ack",
		"get", "get_no_ack", "get_empty", "redeliver", "ack",
	}[k]
}

// Kinds that RabbitMQ shows together: if one of them has ever happened, all of
// them are there.
func publishKinds() []status.Kind {
	return []status.Kind{status.Publish, status.Confirm, status.ReturnUnroutable, status.DropUnroutable}
}

func deliverKinds() []status.Kind {
	return []status.Kind{status.Ack, status.Deliver, status.DeliverNoAck, status.Get, status.GetNoAck, status.GetEmpty, status.Redeliver}
}

// messageStats is message_stats; an empty object if nothing has happened.
func messageStats(c *status.Counts, r *status.Rates, publishing []status.Kind) object {
	o := object{}
	if anyOf(c, publishing) {
		o = appendKinds(o, c, r, publishing)
	}
	if anyOf(c, deliverKinds()) {
		o = appendKinds(o, c, r, deliverKinds())
		o = counted(o, "deliver_get", c.DeliverGet(), r.DeliverGet())
	}
	return o
}

func anyOf(c *status.Counts, kinds []status.Kind) bool {
	for _, k := range kinds {
		if c[k] > 0 {
			return true
		}
	}
	return false
}

func appendKinds(o object, c *status.Counts, r *status.Rates, kinds []status.Kind) object {
	for _, k := range kinds {
		o = counted(o, kindName(k), c[k], r[k])
	}
	return o
}

// counted is a number and its rate, as RabbitMQ has them everywhere.
func counted[N any](o object, name string, n N, perSecond float64) object {
	return append(o, member{name, n}, member{name + "_details", object{{"rate", perSecond}}})
}

// withStats adds message_stats if there are any.
func withStats(o object, stats object) object {
	if len(stats) == 0 {
		return o
	}
	return o.with("message_stats", stats)
}

// queueTotals are the messages of a queue or of many.
func queueTotals(o object, ready, unacked int, readyRate, unackedRate float64) object {
	o = counted(o, "messages", ready+unacked, readyRate+unackedRate)
	return readyAndUnacked(o, ready, unacked, readyRate, unackedRate)
}

func readyAndUnacked(o object, ready, unacked int, readyRate, unackedRate float64) object {
	o = counted(o, "messages_ready", ready, readyRate)
	return counted(o, "messages_unacknowledged", unacked, unackedRate)
}
