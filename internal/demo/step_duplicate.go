package demo

import (
	"context"

	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
)

func duplicateStep() step {
	return step{
		name:  "duplicates",
		title: "A duplicate: delivered twice, handled once",
		why: "At least once means: sometimes twice. A publisher that missed a confirm sends " +
			"again; a message comes back after a crash. So give each message an id, and let " +
			"the consumer remember which ids it has handled, best together with its work.",
		run: runDuplicate,
	}
}

const paymentCents = 1000

// payment is the body of this step's messages.
type payment struct {
	Cents int `json:"cents"`
}

func runDuplicate(ctx context.Context, s *stage) error {
	p, err := s.connect(ctx)
	if err != nil {
		return err
	}
	queue, err := s.workQueue(p, "payments")
	if err != nil {
		return err
	}
	out, err := publish[payment](ctx, s, p, reliable.ToQueue(queue))
	if err != nil {
		return err
	}
	s.doing = "publishing payments"
	ids := []string{"pay-1", "pay-2", "pay-3", "pay-2", "pay-4"}
	for _, id := range ids {
		if err := out.publish(ctx, id, payment{paymentCents}, 1); err != nil {
			return err
		}
	}
	s.note("published", map[string]any{"ids": ids}, "4 payments of 10.00 are sent, pay-2 twice: its publisher thought the first was lost")
	var remember []reliable.ConsumeOption
	if !s.sabotage.handleDuplicates {
		remember = append(remember, reliable.Idempotent("bookkeeping", dedup.NewMemory(0, nil)))
	}
	c, err := consume[payment](ctx, s, p, queue, remember...)
	if err != nil {
		return err
	}
	balanceCents := 0
	seen := map[string]int{}
	for range ids {
		a, err := c.await(ctx, s, "a payment")
		if err != nil {
			return err
		}
		seen[a.ID]++
		if a.duplicate {
			s.note("deduplicated", map[string]any{"id": a.ID}, "%s again: this id is handled already, acked without booking", a.ID)
			continue
		}
		balanceCents += a.Body.Cents
		s.note("handled", map[string]any{"id": a.ID, "balanceCents": balanceCents},
			"%s: booked, the balance is %d.%02d", a.ID, balanceCents/100, balanceCents%100)
		c.finish(a)
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
