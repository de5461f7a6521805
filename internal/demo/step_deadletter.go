package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

func deadLetterStep() step {
	return step{
		name:  "dead letters",
		title: "A malformed message: put aside, shown, repaired",
		why: "No retry mends a message that cannot be read, and requeueing it would block the " +
			"queue for ever. Nack it without requeue: the queue's dead-letter exchange keeps " +
			"it, with a note (x-death) on why and where. Then somebody can look at it.",
		run: runDeadLetter,
	}
}

// order is what the consumer of this step can read.
type order struct {
	Order int `json:"order"`
	Cents int `json:"cents"`
}

const (
	malformedID   = "order-2"
	malformedBody = `{"order": 2, "cents": 19`
)

func runDeadLetter(ctx context.Context, s *stage) error {
	exchange, queue, dead, err := s.deadLetterTopology()
	if err != nil {
		return err
	}
	p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	s.doing = "publishing orders"
	for _, m := range []message{
		{id: "order-1", body: `{"order": 1, "cents": 500}`},
		{id: malformedID, body: malformedBody},
		{id: "order-3", body: `{"order": 3, "cents": 250}`},
	} {
		m.exchange, m.key, m.copies = exchange, "order.new", 1
		if err := p.publish(ctx, m); err != nil {
			return err
		}
	}
	c, err := s.consumer(ctx, queue, 10)
	if err != nil {
		return err
	}
	for range 3 {
		if err := s.readOrder(ctx, c); err != nil {
			return err
		}
	}
	morgue, err := s.consumer(ctx, dead, 10)
	if err != nil {
		return err
	}
	if err := s.repair(ctx, p, morgue, queue); err != nil {
		return err
	}
	if s.sabotage.skipRepair {
		s.check(s.ledger.snapshot().Repaired == 1, "%d of 1 dead letters repaired", s.ledger.snapshot().Repaired)
		return nil
	}
	if err := s.readOrder(ctx, c); err != nil {
		return err
	}
	handled := s.ledger.snapshot().Handled
	s.check(handled == 3, "3 orders were placed, %d are handled, one of them after a repair", handled)
	return nil
}

// deadLetterTopology declares an exchange with a queue, and the queue's
// dead-letter exchange with a queue of its own.
func (s *stage) deadLetterTopology() (exchange, queue, dead string, err error) {
	if exchange, err = s.exchange("orders", "direct"); err != nil {
		return
	}
	dlx, err := s.exchange("orders-dead", "fanout")
	if err != nil {
		return
	}
	if dead, err = s.queue("orders-dead", nil); err != nil {
		return
	}
	if err = s.bind(dead, "", dlx, nil); err != nil {
		return
	}
	if queue, err = s.queue("orders", amqp.Table{"x-dead-letter-exchange": dlx}); err != nil {
		return
	}
	err = s.bind(queue, "order.new", exchange, nil)
	return
}

// readOrder handles one delivery: acked if it can be read, else nacked for good.
func (s *stage) readOrder(ctx context.Context, c *consumer) error {
	d, err := s.next(ctx, c, "an order")
	if err != nil {
		return err
	}
	var o order
	unreadable := json.Unmarshal(d.Body, &o)
	if unreadable == nil {
		s.note("handled", map[string]any{"id": d.MessageId, "order": o.Order, "cents": o.Cents},
			"%s: %d.%02d, handled and acked", d.MessageId, o.Cents/100, o.Cents%100)
		return c.finish(d)
	}
	if s.sabotage.skipNack {
		return c.ack(d)
	}
	s.note("rejected", map[string]any{"id": d.MessageId, "error": unreadable.Error(), "body": string(d.Body)},
		"%s: %s, nacked without requeue", d.MessageId, unreadable)
	return c.nack(d)
}

// repair takes the dead letter, shows its history, mends it and publishes it to
// where it had come from, which x-death tells. The dead letter is acked only
// after the confirm: dying in between leaves it where it is.
func (s *stage) repair(ctx context.Context, p *publisher, morgue *consumer, queue string) error {
	d, err := s.next(ctx, morgue, "the malformed message in the dead-letter queue")
	if err != nil {
		return err
	}
	history := deaths(d.Headers)
	if len(history) == 0 || len(history[0].RoutingKeys) == 0 {
		s.fail("the dead letter %s has no complete x-death: %v", d.MessageId, d.Headers["x-death"])
		return errMissing
	}
	last := history[0]
	s.note("dead-lettered", map[string]any{"id": d.MessageId, "body": string(d.Body), "xDeath": history},
		"in the dead-letter queue lies %s: %s", d.MessageId, d.Body)
	s.note("x-death", nil, "  x-death: %s %dx in %s, published to %s with key %s", last.Reason, last.Count,
		s.short(last.Queue), s.short(last.Exchange), strings.Join(last.RoutingKeys, ","))
	s.check(d.MessageId == malformedID && last.Reason == "rejected" && last.Queue == queue && last.Count == 1,
		"the dead letter is %s, and the broker's note says: %s, %d time", d.MessageId, last.Reason, last.Count)
	if s.sabotage.skipRepair {
		return morgue.ack(d)
	}
	mended := strings.TrimSpace(string(d.Body)) + "00}"
	if err := p.publish(ctx, message{exchange: last.Exchange, key: last.RoutingKeys[0], id: d.MessageId, body: mended, copies: 1}); err != nil {
		return err
	}
	s.ledger.count(func(t *Tally) { t.Repaired++ })
	s.note("repaired", map[string]any{"id": d.MessageId, "body": mended}, "repaired and sent again: %s", mended)
	return morgue.ack(d)
}

// short is a name without the run's prefix, for people.
func (s *stage) short(name string) string {
	if rest, ok := strings.CutPrefix(name, s.names.prefix); ok {
		return rest
	}
	return fmt.Sprintf("%q", name)
}
