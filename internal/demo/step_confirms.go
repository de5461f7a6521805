package demo

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
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
	queue, err := s.queue("ledger", nil)
	if err != nil {
		return err
	}
	p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	if err := s.confirmBatch(ctx, p, queue); err != nil {
		return err
	}
	if err := s.returnUnroutable(ctx, p); err != nil {
		return err
	}
	c, err := s.consumer(ctx, queue, confirmedBatch)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for range confirmedBatch {
		d, err := s.next(ctx, c, "a confirmed message")
		if err != nil {
			return err
		}
		seen[d.MessageId] = true
		if err := c.finish(d); err != nil {
			return err
		}
	}
	s.check(len(seen) == confirmedBatch, "of %d confirmed messages a consumer found %d in the queue", confirmedBatch, len(seen))
	return nil
}

func (s *stage) confirmBatch(ctx context.Context, p *publisher, queue string) error {
	started := time.Now()
	s.doing = "waiting for publisher confirms"
	confirms := make([]*amqp.DeferredConfirmation, 0, confirmedBatch)
	for i := range confirmedBatch {
		c, err := p.send(ctx, message{key: queue, id: fmt.Sprintf("entry-%d", i+1),
			body: fmt.Sprintf(`{"entry":%d}`, i+1), copies: 1})
		if err != nil {
			return err
		}
		confirms = append(confirms, c)
	}
	if s.sabotage.ignoreConfirm {
		confirms = confirms[1:]
	}
	if err := p.await(ctx, confirms...); err != nil {
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
func (s *stage) returnUnroutable(ctx context.Context, p *publisher) error {
	nowhere := s.names.prefix + "ledgre"
	s.note("unroutable", map[string]any{"queue": nowhere}, `now one for queue "...ledgre", a slip of the pen, marked mandatory:`)
	err := p.publish(ctx, message{key: nowhere, id: "entry-lost", body: `{"entry":"lost"}`,
		mandatory: !s.sabotage.forgetMandatory})
	if err != nil {
		return err
	}
	r, ok := p.returned()
	if !ok {
		s.fail("the unroutable message was not returned before its confirm")
		return nil
	}
	s.note("returned", map[string]any{"code": r.ReplyCode, "reason": r.ReplyText, "id": r.MessageId},
		"  returned: %d %s, then confirmed: dealt with, but in no queue", r.ReplyCode, r.ReplyText)
	s.check(r.MessageId == "entry-lost" && r.ReplyCode == amqp.NoRoute,
		"mandatory gave back %s with code %d (%d is NO_ROUTE)", r.MessageId, r.ReplyCode, amqp.NoRoute)
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
