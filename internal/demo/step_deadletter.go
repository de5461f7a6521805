package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/warrenmq/warren/reliable"
)

func deadLetterStep() step {
	return step{
		name:  "dead letters",
		title: "A malformed message: put aside, shown, repaired",
		why: "No retry mends a message that cannot be read, and requeueing it would block the " +
			"queue for ever. So it goes to the queue of dead letters, with a note on why, and " +
			"from where. There somebody can look at it, mend it, and send it back.",
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
	p, err := s.connect(ctx)
	if err != nil {
		return err
	}
	exchange, err := s.exchange("orders", "direct")
	if err != nil {
		return err
	}
	queue, err := s.workQueue(p, "orders", reliable.Bind{Exchange: reliable.Exchange{Name: exchange}, Key: "order.new"})
	if err != nil {
		return err
	}
	if err := s.publishOrders(ctx, p, exchange); err != nil {
		return err
	}
	c, err := consume[order](ctx, s, p, queue, reliable.Use(s.watchUnreadable))
	if err != nil {
		return err
	}
	for range 2 {
		if err := s.readOrder(ctx, c); err != nil {
			return err
		}
	}
	dead := p.client.DeadLetters(queue)
	if err := s.repair(ctx, dead, queue, exchange); err != nil {
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

// publishOrders publishes bodies as they are: a program with a fault wrote the second.
func (s *stage) publishOrders(ctx context.Context, p *program, exchange string) error {
	out, err := publish[string](ctx, s, p, reliable.ToExchange(reliable.Exchange{Name: exchange}, "order.new"))
	if err != nil {
		return err
	}
	s.doing = "publishing orders"
	for _, m := range []struct{ id, body string }{
		{"order-1", `{"order": 1, "cents": 500}`},
		{malformedID, malformedBody},
		{"order-3", `{"order": 3, "cents": 250}`},
	} {
		if err := out.publish(ctx, m.id, m.body, 1); err != nil {
			return err
		}
	}
	return nil
}

// readOrder handles an order that could be read.
func (s *stage) readOrder(ctx context.Context, c *consumer[order]) error {
	a, err := c.await(ctx, s, "an order")
	if err != nil {
		return err
	}
	o := a.Body
	s.note("handled", map[string]any{"id": a.ID, "order": o.Order, "cents": o.Cents},
		"%s: %d.%02d, handled and acked", a.ID, o.Cents/100, o.Cents%100)
	c.finish(a)
	return nil
}

// watchUnreadable tells of a message that no handler gets to see, because its body is
// no order: that makes it a dead letter at once.
func (s *stage) watchUnreadable(next reliable.HandlerFunc) reliable.HandlerFunc {
	return func(ctx context.Context, d *reliable.Delivery) error {
		err := next(ctx, d)
		var unreadable *reliable.DecodeError
		if !errors.As(err, &unreadable) {
			return err
		}
		if s.sabotage.hideMalformed {
			return nil
		}
		s.note("rejected", map[string]any{"id": d.ID, "error": unreadable.Err.Error(), "body": string(d.Raw)},
			"%s: %s, put aside", d.ID, unreadable.Err)
		return err
	}
}

// scan waits for a dead letter, counts it and returns it.
func (s *stage) scan(ctx context.Context, dead *reliable.DeadLetters, what string) (d reliable.DeadLetter, err error) {
	n, err := s.awaitDepth(ctx, dead.Name(), 1)
	if err != nil {
		return d, err
	}
	s.doing = "looking at the dead letters"
	for letter, err := range dead.Scan(ctx, reliable.Filter{}) {
		if err != nil {
			return d, err
		}
		d = letter
		s.ledger.count(func(t *Tally) { t.DeadLettered++ })
	}
	if n == 0 {
		s.fail("%s among the dead letters did not arrive within %v", what, s.limits.patience)
		return d, errMissing
	}
	return d, nil
}

// repair looks at the dead letter, mends it and sends it back to the queue that it
// came from, all without taking it out first: it is removed only when the broker has
// confirmed the mended one.
func (s *stage) repair(ctx context.Context, dead *reliable.DeadLetters, queue reliable.Queue, exchange string) error {
	d, err := s.scan(ctx, dead, "the malformed message")
	if err != nil {
		return err
	}
	s.note("dead-lettered", map[string]any{"id": d.ID, "body": string(d.Body), "reason": d.Reason, "error": d.Error,
		"attempts": d.Attempts, "queue": d.Queue, "exchange": d.Exchange, "key": d.Key},
		"among the dead letters is %s: %s", d.ID, d.Body)
	s.note("history", nil, "  %s, %dx in %s, published to %s with key %s", d.Reason, d.Attempts, s.short(d.Queue), s.short(d.Exchange), d.Key)
	s.check(d.ID == malformedID && d.Reason == reliable.ReasonUnreadable && d.Queue == queue.Name && d.Attempts == 1 &&
		d.Exchange == exchange && d.Key == "order.new",
		"the dead letter is %s, and the note on it says: %s, after %d attempt", d.ID, d.Reason, d.Attempts)
	if s.sabotage.skipRepair {
		_, err := dead.Purge(ctx, reliable.Filter{}, reliable.PurgeOptions{})
		return err
	}
	var mended string
	s.doing = "sending a dead letter back"
	report, err := dead.Redrive(ctx, reliable.Filter{IDs: []string{malformedID}}, reliable.RedriveOptions{Edit: func(d *reliable.DeadLetter) {
		mended = strings.TrimSpace(string(d.Body)) + "00}"
		d.Body = []byte(mended)
	}})
	if err != nil {
		return err
	}
	s.ledger.count(func(t *Tally) { // sent, confirmed, and on its way to one queue
		t.Repaired += report.Done
		t.Published += report.Matched
		t.Confirmed += report.Done
		t.Routed += report.Done
	})
	s.note("repaired", map[string]any{"id": d.ID, "body": mended}, "repaired and sent back: %s", mended)
	return nil
}

// short is a name without the run's prefix, for people.
func (s *stage) short(name string) string {
	if rest, ok := strings.CutPrefix(name, s.names.prefix); ok {
		return rest
	}
	return fmt.Sprintf("%q", name)
}
