package demo

import (
	"context"
	"fmt"
)

func duplicateStep() step {
	return step{
		name:  "duplicates",
		title: "A duplicate: delivered twice, handled once",
		why: "At least once means: sometimes twice. A publisher that missed a confirm sends " +
			"again; a message comes back after a crash. So give each message an id, and let " +
			"the consumer remember, together with its work, which ids it has handled.",
		run: runDuplicate,
	}
}

const paymentCents = 1000

func runDuplicate(ctx context.Context, s *stage) error {
	queue, err := s.queue("payments", nil)
	if err != nil {
		return err
	}
	p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	s.doing = "publishing payments"
	ids := []string{"pay-1", "pay-2", "pay-3", "pay-2", "pay-4"}
	for _, id := range ids {
		if err := p.publish(ctx, message{key: queue, id: id, body: fmt.Sprintf(`{"cents":%d}`, paymentCents), copies: 1}); err != nil {
			return err
		}
	}
	s.note("published", map[string]any{"ids": ids}, "4 payments of 10.00 are sent, pay-2 twice: its publisher thought the first was lost")
	c, err := s.consumer(ctx, queue, 10)
	if err != nil {
		return err
	}
	balanceCents := 0
	seen := map[string]int{}
	for range ids {
		d, err := s.next(ctx, c, "a payment")
		if err != nil {
			return err
		}
		seen[d.MessageId]++
		if seen[d.MessageId] > 1 && !s.sabotage.handleDuplicates {
			s.ledger.count(func(t *Tally) { t.Deduplicated++ })
			s.note("deduplicated", map[string]any{"id": d.MessageId}, "%s again: this id is handled already, acked without booking", d.MessageId)
			if err := c.ack(d); err != nil {
				return err
			}
			continue
		}
		balanceCents += paymentCents
		s.note("handled", map[string]any{"id": d.MessageId, "balanceCents": balanceCents},
			"%s: booked, the balance is %d.%02d", d.MessageId, balanceCents/100, balanceCents%100)
		if err := c.finish(d); err != nil {
			return err
		}
	}
	s.checkBookings(seen, balanceCents)
	return nil
}

// checkBookings compares the money with the payments, not with the messages.
func (s *stage) checkBookings(seen map[string]int, balanceCents int) {
	t := s.ledger.snapshot()
	want := len(seen) * paymentCents
	s.check(balanceCents == want && t.Handled == len(seen),
		"%d deliveries, %d different payments, %d booked, %d dropped: %d.%02d, as it should be %d.%02d",
		t.Delivered, len(seen), t.Handled, t.Deduplicated, balanceCents/100, balanceCents%100, want/100, want%100)
}
