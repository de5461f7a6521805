package doctor

import (
	"fmt"

	"github.com/warrenmq/warren/internal/mgmtclient"
)

// deadLettering looks at where dead letters of each queue go.
func (x *examination) deadLettering() {
	x.work(func(q *mgmtclient.Queue) {
		exchange, has := q.Argument("x-dead-letter-exchange").(string)
		switch {
		case !has && !x.deadLetters[placeOf(q)]:
			x.add(Finding{NoDeadLetters, Risk, q.VHost, "queue " + q.Name,
				"neither an argument nor a policy names a dead-letter exchange",
				"what is rejected, expires, exceeds a length limit or the delivery limit is deleted without a trace",
				x.giveDeadLetters(q)})
		case has:
			if why, mend := x.leadsNowhere(q, exchange); why != "" {
				x.add(Finding{DeadLettersLost, Loss, q.VHost, "queue " + q.Name, why,
					"every dead letter: it is dropped without a trace, or with at-least-once stays in the queue for ever", mend})
			}
		}
		if q.Argument("x-dead-letter-strategy") == "at-least-once" {
			x.atLeastOnce(q, has)
		}
	})
}

func (x *examination) giveDeadLetters(q *mgmtclient.Queue) string {
	return x.give(q, map[string]any{"dead-letter-exchange": "", deadLetterKeyPolicy: q.Name + ".dlq"})
}

// leadsNowhere says why dead letters of q reach no queue, as far as that can be
// told without their keys, and how to mend it.
func (x *examination) leadsNowhere(q *mgmtclient.Queue, exchange string) (why, mend string) {
	key := deadLetterKey(q)
	if exchange == "" {
		if key == "" || x.queues[Place{q.VHost, key}] != nil {
			return "", ""
		}
		return fmt.Sprintf("its dead letters go to queue %s, which does not exist", key), "warren declare queue " + quote(key)
	}
	p := Place{q.VHost, exchange}
	e := x.exchanges[p]
	if e == nil {
		return fmt.Sprintf("its dead-letter exchange %s does not exist", exchange),
			fmt.Sprintf("warren declare exchange %s, and bind a queue to it: warren bind %s QUEUE --routing-key %s", quote(exchange), quote(exchange), quote(orAny(key, q.Name)))
	}
	if x.alternate(p) != "" {
		return "", ""
	}
	for _, b := range x.bindings[p] {
		if e.Type != "direct" || key == "" || b.Key == key {
			return "", ""
		}
	}
	return fmt.Sprintf("no queue is bound to its dead-letter exchange %s (%s) for them", exchange, e.Type),
		fmt.Sprintf("warren declare queue %s && warren bind %s %s --routing-key %s", quote(q.Name+".dlq"), quote(exchange), quote(q.Name+".dlq"), quote(orAny(key, q.Name)))
}

func orAny(key, otherwise string) string {
	if key == "" {
		return otherwise
	}
	return key
}

// atLeastOnce looks whether the strategy is in force.
func (x *examination) atLeastOnce(q *mgmtclient.Queue, hasExchange bool) {
	overflow, _ := q.Argument("x-overflow").(string)
	why := ""
	switch {
	case q.Type != "quorum":
		why = "the queue is no quorum queue"
	case !hasExchange:
		why = "there is no dead-letter exchange"
	case overflow != "reject-publish":
		why = "x-overflow is " + orAny(overflow, "drop-head") + " and not reject-publish"
	default:
		return
	}
	x.add(Finding{AtMostOnce, Risk, q.VHost, "queue " + q.Name,
		"x-dead-letter-strategy is at-least-once, but " + why,
		"the server goes on with at-most-once and says so only in its log: a dead letter is lost if its target cannot take it at that moment",
		x.alsoAtLeastOnce(q, overflow)})
}

// alsoAtLeastOnce is how the strategy comes into force.
func (x *examination) alsoAtLeastOnce(q *mgmtclient.Queue, overflow string) string {
	_, byArgument := q.Arguments["x-overflow"]
	switch {
	case q.Type != "quorum":
		return "declare the queue as a quorum queue under another name: warren topology apply NAME"
	case byArgument && overflow != "reject-publish" && !x.warren():
		return "declare the queue anew with x-overflow reject-publish: its argument goes before any policy"
	}
	return x.give(q, map[string]any{"overflow": "reject-publish"})
}

// giveLimit gives a queue a delivery limit.
func (x *examination) giveLimit(q *mgmtclient.Queue, set bool) string {
	if _, byArgument := q.Arguments["x-delivery-limit"]; byArgument && set && !x.warren() {
		return "declare the queue anew without x-delivery-limit -1, or with 20"
	}
	return x.give(q, map[string]any{"delivery-limit": 20})
}

// limits looks for queues that redeliver without end.
func (x *examination) limits() {
	x.work(func(q *mgmtclient.Queue) {
		if q.Type != "quorum" || x.deadLetters[placeOf(q)] {
			return // people look at dead letters: that must not use them up
		}
		limit, set := q.Argument("x-delivery-limit").(float64)
		if set && limit >= 0 || !set && !x.rabbitBefore(4) {
			return
		}
		seen := "no delivery limit is set, and RabbitMQ has none before 4.0"
		if set {
			seen = "x-delivery-limit is -1"
		}
		x.add(Finding{NoDeliveryLimit, Risk, q.VHost, "queue " + q.Name, seen,
			"a message that crashes its consumer comes again without end: no other gets through, and it never becomes a dead letter",
			x.giveLimit(q, set)})
	})
}

// loopRedeliveries is from how many redeliveries between two looks on something
// goes in circles.
const loopRedeliveries = 10

func (x *examination) redelivering() {
	if x.first == x.now {
		return
	}
	x.work(func(q *mgmtclient.Queue) {
		before := x.before[placeOf(q)]
		if before == nil || q.Stats.Redeliver < before.Stats.Redeliver {
			return
		}
		again, acked := q.Stats.Redeliver-before.Stats.Redeliver, q.Stats.Ack-min(before.Stats.Ack, q.Stats.Ack)
		if again < loopRedeliveries || again <= acked {
			return
		}
		x.add(Finding{RedeliveryLoop, Risk, q.VHost, "queue " + q.Name,
			fmt.Sprintf("%s and %s within %v", redeliveries(again), count(int(acked), "acknowledgement"), x.o.Interval),
			"consumers give messages back, or die of them, again and again: the processor is busy with messages that fail, others wait, and at a delivery limit they are deleted or dead",
			"in the program: do not nack with requeue what fails, but retry later (reliable.Consume with a RetryPolicy), and reject what never can succeed"})
	})
}

func redeliveries(n uint64) string {
	if n == 1 {
		return "1 redelivery"
	}
	return fmt.Sprintf("%d redeliveries", n)
}

// transient looks for messages that a restart loses.
func (x *examination) transient() {
	x.work(func(q *mgmtclient.Queue) {
		if q.Type == "quorum" {
			return // they keep everything
		}
		seen, sampled := "", 0
		for _, m := range x.o.Samples[placeOf(q)] {
			if mode, ok := m.Properties.Number("delivery_mode"); !ok || mode != 2 {
				sampled++
			}
		}
		switch {
		case q.Persistent != nil && *q.Persistent < q.Messages:
			seen = fmt.Sprintf("%d of its %s are transient", q.Messages-*q.Persistent, count(q.Messages, "message"))
		case q.Transient > 0:
			seen = fmt.Sprintf("%d of the messages that came since the broker started were transient", q.Transient)
		case sampled > 0:
			seen = fmt.Sprintf("%d of %s that were looked at are transient", sampled, count(len(x.o.Samples[placeOf(q)]), "message"))
		default:
			return
		}
		x.add(Finding{TransientMessages, Loss, q.VHost, "queue " + q.Name, seen + ", although the queue is durable",
			"they are gone when the broker restarts or crashes, also those that were confirmed",
			"in the program: publish with DeliveryMode: amqp.Persistent (delivery_mode 2); reliable.NewPublisher always does"})
	})
}

// stuck looks for dead letters that do not leave their queue.
func (x *examination) stuck() {
	if x.first == x.now {
		return
	}
	for i := range x.now.Queues {
		q := &x.now.Queues[i]
		before := x.before[placeOf(q)]
		if q.Dying == 0 || before == nil || before.Dying == 0 || !x.meant(q.Name) {
			continue
		}
		exchange, _ := q.Argument("x-dead-letter-exchange").(string)
		mend := fmt.Sprintf("warren bind %s QUEUE --routing-key KEY", quote(orAny(exchange, "EXCHANGE")))
		if x.network[placeOf(q)] {
			mend = "warren topology apply QUEUE (with the name of any work queue): it puts the network and its alternate exchange in order"
		}
		x.add(Finding{DeadLettersStuck, Loss, q.VHost, "queue " + q.Name,
			fmt.Sprintf("%s could not be handed to exchange %s in both looks, %v apart", count(q.Dying, "dead letter"), orAny(exchange, "(default)"), x.o.Interval),
			"nothing is lost yet, but they do not arrive; 32 of them stop the queue for all others behind, and with a full queue publishers are refused",
			mend})
	}
}

// waiting looks for messages that nobody takes, or not fast enough.
func (x *examination) waiting() {
	x.work(func(q *mgmtclient.Queue) {
		before := x.before[placeOf(q)]
		switch p := placeOf(q); {
		case x.lost[p]:
		case x.deadLetters[p] && q.Consumers == 0 && q.Messages > 0:
			x.add(Finding{DeadLettersWait, Suspicion, q.VHost, "queue " + q.Name,
				fmt.Sprintf("%s, and no consumer", count(q.Messages, "dead letter")),
				"work that was given up and that nobody has noticed; if the queue has a length limit or a time to live, it is deleted in the end",
				fmt.Sprintf("look at them: warren dlq ls %[1]s; send them back when the cause is mended: warren dlq redrive %[1]s; or give them up: warren dlq purge %[1]s --all", quote(q.Name))})
		case x.deadLetters[p]:
		case q.Consumers == 0 && q.Ready > 0 && q.Argument("x-message-ttl") == nil:
			x.add(Finding{NoConsumer, Risk, q.VHost, "queue " + q.Name,
				fmt.Sprintf("%s ready, and no consumer", count(q.Ready, "message")),
				"they are not handled; when memory or disk run out, all publishers of the broker are blocked, or a length limit deletes the oldest",
				fmt.Sprintf("start its consumer; or if nobody needs it any more: warren delete queue %s", quote(q.Name))})
		case x.first != x.now && before != nil && q.Consumers > 0 && q.Ready >= x.o.Backlog && q.Ready > before.Ready:
			x.add(Finding{GrowingBacklog, Risk, q.VHost, "queue " + q.Name,
				fmt.Sprintf("%d messages are ready, %d more than %v ago, although it has %s", q.Ready, q.Ready-before.Ready, x.o.Interval, count(q.Consumers, "consumer")),
				"messages come later and later; when memory or disk run out, all publishers of the broker are blocked",
				"start more consumers, or raise their concurrency (reliable.Concurrency); to slow publishers instead, give the queue x-max-length and x-overflow reject-publish"})
		}
	})
}

// ids looks for messages that cannot be told from their duplicates.
func (x *examination) ids() {
	x.work(func(q *mgmtclient.Queue) {
		samples, without := x.o.Samples[placeOf(q)], 0
		for _, m := range samples {
			if m.Properties.Text("message_id") == "" {
				without++
			}
		}
		if without == 0 {
			return
		}
		seen, severity := fmt.Sprintf("%d of %s that were looked at have no message_id", without, count(len(samples), "message")), Suspicion
		if q.Stats.Redeliver > 0 {
			seen += fmt.Sprintf(", and the queue has redelivered %d times", q.Stats.Redeliver)
		}
		x.add(Finding{NoMessageID, severity, q.VHost, "queue " + q.Name, seen,
			"no message, but its effect can happen twice: every message may be delivered again, and without an id a consumer cannot tell. Unless the body has a key of its own, or the effect is the same a second time",
			"in the program: set MessageId, the same one when publishing again; reliable.NewPublisher does, reliable.Idempotent uses it"})
	})
}
