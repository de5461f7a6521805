package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

// consuming looks at how consumers are subscribed.
func (x *examination) consuming() {
	global := map[string]int{}
	for _, ch := range x.now.Channels {
		global[ch.Name] = ch.GlobalPrefetch
	}
	x.work(func(q *mgmtclient.Queue) {
		var auto, unlimited []mgmtclient.Consumer
		for _, c := range x.consumers[placeOf(q)] {
			switch {
			case !c.AckRequired:
				auto = append(auto, c)
			case c.Prefetch == 0 && global[c.Channel.Name] == 0:
				unlimited = append(unlimited, c)
			}
		}
		if len(auto) > 0 {
			x.add(Finding{AutoAck, Loss, q.VHost, "queue " + q.Name,
				fmt.Sprintf("%s without acknowledgements: %s", count(len(auto), "consumer"), who(auto)),
				"every message that has been sent to such a consumer and is not handled yet, when it crashes, is stopped or loses its connection",
				"in the program: ch.Consume(queue, tag, false, …) instead of autoAck true, and d.Ack(false) after the work"})
		}
		if len(unlimited) > 0 {
			x.add(Finding{UnlimitedPrefetch, Risk, q.VHost, "queue " + q.Name,
				fmt.Sprintf("%s without a prefetch limit: %s", count(len(unlimited), "consumer"), who(unlimited)),
				"no message at once; but a backlog goes to one consumer as a whole, which can run out of memory, and then all of it comes again, and counts against a delivery limit",
				"in the program: ch.Qos(20, 0, false) before ch.Consume"})
		}
	})
}

// who names the connections of consumers, at most three.
func who(list []mgmtclient.Consumer) string {
	var names []string
	for _, c := range list {
		names = append(names, fmt.Sprintf("%s of user %s on %s", quoted(c.Tag), c.Channel.User, c.Channel.Connection))
	}
	return some(names)
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func some(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// publishing looks at channels that have published, user by user.
func (x *examination) publishing() {
	type publisher struct{ vhost, user string }
	unconfirmed, dropped := map[publisher][]string{}, map[publisher][]string{}
	published, lost := map[publisher]uint64{}, map[publisher]uint64{}
	var order []publisher
	for _, ch := range x.now.Channels {
		p := publisher{ch.VHost, ch.User}
		if !slices.Contains(order, p) {
			order = append(order, p)
		}
		if ch.Stats.Publish > 0 && !ch.Confirm && !ch.Transactional {
			unconfirmed[p] = append(unconfirmed[p], ch.Name)
			published[p] += ch.Stats.Publish
		}
		if ch.Stats.DropUnroutable > 0 {
			dropped[p] = append(dropped[p], ch.Name)
			lost[p] += ch.Stats.DropUnroutable
		}
	}
	for _, p := range order {
		if list := unconfirmed[p]; len(list) > 0 {
			x.add(Finding{Unconfirmed, Loss, p.vhost, "publisher of user " + p.user,
				fmt.Sprintf("%s published on %s without confirms: %s", count(int(published[p]), "message"), count(len(list), "channel"), some(list)),
				"whatever is on its way when the connection breaks or the broker stops, and what the broker refuses (a full queue, a failed disk): the publisher never hears of it",
				"in the program: ch.Confirm(false) once, and wait for each publish's confirm; reliable.NewPublisher always does"})
		}
		if list := dropped[p]; len(list) > 0 {
			x.add(Finding{Unroutable, Loss, p.vhost, "publisher of user " + p.user,
				fmt.Sprintf("%s found no queue and were dropped, on %s", count(int(lost[p]), "message"), some(list)),
				"they are lost already: no queue was bound to the exchange for their routing key",
				"warren bind EXCHANGE QUEUE --routing-key KEY; and in the program publish with mandatory true, and read the returns"})
		}
	}
}

// serverTimeout is RabbitMQ's consumer_timeout unless it is configured otherwise.
const serverTimeout = 30 * time.Minute

// timeouts compares what handlers may take with what the server waits.
func (x *examination) timeouts() {
	if x.o.HandlerTimeout == 0 {
		return
	}
	x.work(func(q *mgmtclient.Queue) {
		var late []mgmtclient.Consumer
		shortest, known := time.Duration(0), true
		for _, c := range x.consumers[placeOf(q)] {
			limit, sure := x.consumerTimeout(q, &c)
			if limit == 0 || !c.AckRequired || limit > x.o.HandlerTimeout {
				continue
			}
			if late = append(late, c); shortest == 0 || limit < shortest {
				shortest, known = limit, sure
			}
		}
		if len(late) == 0 {
			return
		}
		how := "the server waits"
		if !known {
			how = "the server waits, unless consumer_timeout is set otherwise, which its API does not show,"
		}
		x.add(Finding{ConsumerTimeout, Risk, q.VHost, "queue " + q.Name,
			fmt.Sprintf("handlers may take %v, %s %v for an acknowledgement of %s", x.o.HandlerTimeout, how, shortest, who(late)),
			"the server takes the message back while it is still handled and closes the channel: its effect happens twice, and it counts against a delivery limit until the message is dead",
			x.longerTimeout(q)})
	})
}

func (x *examination) longerTimeout(q *mgmtclient.Queue) string {
	longer := 2 * x.o.HandlerTimeout
	if x.rabbitBefore(4) {
		return fmt.Sprintf("consumer_timeout = %d in rabbitmq.conf, or make the handler shorter", longer.Milliseconds())
	}
	return x.give(q, map[string]any{"consumer-timeout": longer.Milliseconds()})
}

// consumerTimeout is how long an acknowledgement may take, 0 for any time; sure is
// false if it is the usual one.
func (x *examination) consumerTimeout(q *mgmtclient.Queue, c *mgmtclient.Consumer) (limit time.Duration, sure bool) {
	if x.warren() {
		return 0, true // it waits for as long as it takes, whatever the arguments
	}
	if c.TimeoutMillis > 0 {
		return time.Duration(c.TimeoutMillis) * time.Millisecond, true
	}
	if ms, ok := c.Arguments.Number("x-consumer-timeout"); ok {
		return time.Duration(ms) * time.Millisecond, true
	}
	if ms, ok := q.Argument("x-consumer-timeout").(float64); ok {
		return time.Duration(ms) * time.Millisecond, true
	}
	return serverTimeout, false
}
