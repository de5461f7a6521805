package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const (
	parcels        = 8
	victimPrefetch = 4
)

func crashStep() step {
	return step{
		name:  "crash",
		title: "A consumer dies: its unacked messages come back",
		why: "Until a message is acked it is only lent. If the consumer's connection breaks, " +
			"the broker takes back what was not acked and marks it redelivered: it may have " +
			"been worked on already. At least once: nothing is lost, something may come twice.",
		run: runCrash,
	}
}

func runCrash(ctx context.Context, s *stage) error {
	queue, err := s.queue("parcels", nil)
	if err != nil {
		return err
	}
	p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	s.doing = "publishing parcels"
	for i := range parcels {
		if err := p.publish(ctx, message{key: queue, id: fmt.Sprintf("parcel-%d", i+1), body: fmt.Sprintf(`{"parcel":%d}`, i+1), copies: 1}); err != nil {
			return err
		}
	}
	lost, err := s.killConsumer(ctx, queue)
	if err != nil {
		return err
	}
	// The broker must notice first, or the survivor would get the others before.
	s.doing = "waiting for the dead consumer's messages to be ready again"
	ready, err := s.awaitDepth(ctx, queue, parcels-1)
	if err != nil {
		return err
	}
	s.note("returned-to-queue", map[string]any{"ready": ready}, "the broker took them back: %d are ready again", ready)
	return s.survive(ctx, queue, lost, ready)
}

// killConsumer lets a consumer handle one message, then cuts its connection, and
// returns the ids it held.
func (s *stage) killConsumer(ctx context.Context, queue string) ([]string, error) {
	l, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	victim, err := l.consumer(s.ledger, queue, victimPrefetch)
	if err != nil {
		return nil, err
	}
	first, err := s.next(ctx, victim, "the first parcel")
	if err != nil {
		return nil, err
	}
	if err := victim.finish(first); err != nil {
		return nil, err
	}
	// A full prefetch again proves that the ack has been processed: cutting cannot
	// overtake it.
	got := 1
	for range victimPrefetch {
		d, err := s.next(ctx, victim, "the next parcel")
		if err != nil {
			return nil, err
		}
		got++
		if s.sabotage.ackBeforeCrash {
			if err := victim.ack(d); err != nil {
				return nil, err
			}
		}
	}
	l.cut()
	<-victim.ended
	lost := victim.heldIDs()
	slices.Sort(lost)
	s.ledger.count(func(t *Tally) { t.CutOff += len(lost) })
	s.note("died", map[string]any{"received": got, "acked": 1, "held": lost},
		"a consumer took %d parcels and acked 1; then its connection is cut", got)
	s.note("held", map[string]any{"ids": lost}, "in its hands were %s", strings.Join(lost, ", "))
	s.check(len(lost) == victimPrefetch, "it died holding %d unacked messages (prefetch %d)", len(lost), victimPrefetch)
	return lost, nil
}

// survive consumes what is ready on a new connection and compares the redelivered
// flag of each message with what the dead consumer held.
func (s *stage) survive(ctx context.Context, queue string, lost []string, ready int) error {
	survivor, err := s.consumer(ctx, queue, victimPrefetch)
	if err != nil {
		return err
	}
	var again []string
	for i := range ready {
		d, err := s.next(ctx, survivor, "a parcel for the survivor")
		if err != nil {
			return err
		}
		mark := ""
		if d.Redelivered {
			again = append(again, d.MessageId)
			mark = "   redelivered=true"
		}
		s.note("delivered", map[string]any{"id": d.MessageId, "redelivered": d.Redelivered}, "  %s%s", d.MessageId, mark)
		survivor.done()
		if s.sabotage.loseAck && i == ready-1 {
			continue
		}
		if err := survivor.ack(d); err != nil {
			return err
		}
	}
	slices.Sort(again)
	s.check(slices.Equal(again, lost), "redelivered are just those it held: %s", strings.Join(again, ", "))
	return nil
}
