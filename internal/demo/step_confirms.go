package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

// confirmedBatch is how many messages are published before the first confirm is
// waited for.
const confirmedBatch = 50

func confirmsStep() step {
	return step{
		name:  "confirms",
		title: "Confirmed publishing: know what the broker has",
		why: "A publish without confirms is a letter dropped in the dark: if the line breaks, " +
			"nobody knows. With confirms the broker answers each message once it has taken " +
			"responsibility for it. Send many, then collect the answers: safe and fast.",
		run: runConfirms,
	}
}

func runConfirms(ctx context.Context, s *stage) error {
	p, err := s.connect(ctx)
	if err != nil {
		return err
	}
	queue, err := s.workQueue(p, "ledger")
	if err != nil {
		return err
	}
	if err := s.confirmBatch(ctx, p, queue); err != nil {
		return err
	}
	if err := s.returnUnroutable(ctx, p); err != nil {
		return err
	}
	c, err := consume[entry](ctx, s, p, queue, reliable.Prefetch(confirmedBatch))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for range confirmedBatch {
		a, err := c.await(ctx, s, "a confirmed message")
		if err != nil {
			return err
		}
		seen[a.ID] = true
		c.finish(a)
	}
	s.check(len(seen) == confirmedBatch, "of %d confirmed messages a consumer found %d in the queue", confirmedBatch, len(seen))
	return nil
}

// entry is the body of this step's messages.
type entry struct {
	Entry int `json:"entry"`
}

func (s *stage) confirmBatch(ctx context.Context, p *program, queue reliable.Queue) error {
	out, err := publish[entry](ctx, s, p, reliable.ToQueue(queue))
	if err != nil {
		return err
	}
	started := time.Now()
	s.doing = "waiting for publisher confirms"
	receipts := make([]*reliable.Receipt, 0, confirmedBatch)
	for i := range confirmedBatch {
		r, err := out.send(ctx, fmt.Sprintf("entry-%d", i+1), entry{i + 1}, 1)
		if err != nil {
			return err
		}
		receipts = append(receipts, r)
	}
	if s.sabotage.ignoreConfirm {
		receipts = receipts[1:]
	}
	if err := out.await(ctx, receipts...); err != nil {
		return err
	}
	took := time.Since(started)
	confirmed := s.ledger.snapshot().Confirmed
	s.note("confirmed", map[string]any{"published": confirmedBatch, "confirmed": confirmed, "ms": milliseconds(took)},
		"%d published, %d confirmed, in %.1f ms", confirmedBatch, confirmed, milliseconds(took))
	return nil
}

// returnUnroutable shows that a confirm alone does not mean that a queue has the
// message, and what does.
func (s *stage) returnUnroutable(ctx context.Context, p *program) error {
	nowhere := reliable.Queue{Name: s.names.prefix + "ledgre", Existing: true}
	if s.sabotage.fixSlip {
		if _, err := s.queue("ledgre"); err != nil {
			return err
		}
	}
	out, err := publish[entry](ctx, s, p, reliable.ToQueue(nowhere))
	if err != nil {
		return err
	}
	s.note("unroutable", map[string]any{"queue": nowhere.Name}, `now one for queue "...ledgre", a slip of the pen:`)
	s.doing = "waiting for the return of a message"
	err = out.publish(ctx, "entry-lost", entry{0}, 0)
	var refused *reliable.PublishError
	var returned *amqp.Error
	switch {
	case err == nil:
		s.fail("the unroutable message was not returned before its confirm")
		return nil
	case !errors.Is(err, reliable.ErrUnroutable) || !errors.As(err, &refused) || !errors.As(err, &returned):
		return err
	}
	s.note("returned", map[string]any{"code": returned.Code, "reason": returned.Reason, "id": refused.ID},
		"  returned: %d %s, then confirmed: dealt with, but in no queue", returned.Code, returned.Reason)
	s.check(refused.ID == "entry-lost" && returned.Code == amqp.NoRoute,
		"the publisher is told so: %s came back with code %d (%d is NO_ROUTE)", refused.ID, returned.Code, amqp.NoRoute)
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
