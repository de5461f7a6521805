package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/warrenmq/warren/reliable"
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

// parcel is the body of this step's messages.
type parcel struct {
	Parcel int `json:"parcel"`
}

func runCrash(ctx context.Context, s *stage) error {
	p, err := s.connect(ctx)
	if err != nil {
		return err
	}
	queue, err := s.workQueue(p, "parcels")
	if err != nil {
		return err
	}
	out, err := publish[parcel](ctx, s, p, reliable.ToQueue(queue))
	if err != nil {
		return err
	}
	s.doing = "publishing parcels"
	for i := range parcels {
		if err := out.publish(ctx, fmt.Sprintf("parcel-%d", i+1), parcel{i + 1}, 1); err != nil {
			return err
		}
	}
	lost, err := s.killConsumer(ctx, queue)
	if err != nil {
		return err
	}
	// The broker must notice first, or the survivor would get the others before.
	s.doing = "waiting for the dead consumer's messages to be ready again"
	ready, err := s.awaitDepth(ctx, queue.Name, parcels-1)
	if err != nil {
		return err
	}
	s.note("returned-to-queue", map[string]any{"ready": ready}, "the broker took them back: %d are ready again", ready)
	return s.survive(ctx, p, queue, lost, ready)
}

// killConsumer lets a consumer handle one message, then cuts off its program, and
// returns the ids it held.
func (s *stage) killConsumer(ctx context.Context, queue reliable.Queue) ([]string, error) {
	p, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	victim, err := consume[parcel](ctx, s, p, queue, reliable.Prefetch(victimPrefetch), reliable.Concurrency(victimPrefetch))
	if err != nil {
		return nil, err
	}
	first, err := victim.await(ctx, s, "the first parcel")
	if err != nil {
		return nil, err
	}
	victim.finish(first)
	// A full prefetch again proves that the ack has been processed: cutting cannot
	// overtake it.
	got := 1
	for range victimPrefetch {
		a, err := victim.await(ctx, s, "the next parcel")
		if err != nil {
			return nil, err
		}
		got++
		if s.sabotage.ackBeforeCrash {
			victim.decide(a, nil)
		}
	}
	p.die()
	lost := victim.heldIDs()
	slices.Sort(lost)
	if err := s.bringDown(ctx, p, func() { victim.abandon(errDead) }); err != nil {
		return nil, err
	}
	s.note("died", map[string]any{"received": got, "acked": 1, "held": lost},
		"a consumer took %d parcels and acked 1; then its connection is cut", got)
	s.note("held", map[string]any{"ids": lost}, "in its hands were %s", strings.Join(lost, ", "))
	s.check(len(lost) == victimPrefetch, "it died holding %d unacked messages (prefetch %d)", len(lost), victimPrefetch)
	return lost, nil
}

// bringDown waits until a program has noticed that its connection is gone, and only
// then lets its handlers return: what they return must not reach the broker.
func (s *stage) bringDown(ctx context.Context, p *program, release func()) error {
	s.doing = "waiting for a program to notice that its connection is gone"
	defer release()
	_, err := eventually(ctx, s.limits.patience, func() (bool, error) {
		for _, c := range p.client.Health().Consumers {
			if c.Err == nil {
				return false, nil
			}
		}
		return true, nil
	})
	return err
}

// survive consumes what is ready in another program and compares the redelivered
// flag of each message with what the dead consumer held.
func (s *stage) survive(ctx context.Context, p *program, queue reliable.Queue, lost []string, ready int) error {
	survivor, err := consume[parcel](ctx, s, p, queue)
	if err != nil {
		return err
	}
	var again []string
	for i := range ready {
		a, err := survivor.await(ctx, s, "a parcel for the survivor")
		if err != nil {
			return err
		}
		mark := ""
		if a.Redelivered {
			again = append(again, a.ID)
			mark = "   redelivered=true"
		}
		s.note("delivered", map[string]any{"id": a.ID, "redelivered": a.Redelivered}, "  %s%s", a.ID, mark)
		survivor.done()
		if s.sabotage.loseAck && i == ready-1 {
			continue
		}
		survivor.decide(a, nil)
	}
	slices.Sort(again)
	s.check(slices.Equal(again, lost), "redelivered are just those it held: %s", strings.Join(again, ", "))
	return nil
}
