package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	letters        = 60  // published and confirmed before the stream
	readerAcks     = 10  // of them are acked before the kill
	readerPrefetch = 20  // are in a consumer's hands at the kill
	streamWindow   = 200 // publishes of the stream that are not confirmed at the kill
	streamConfirms = 300 // of the stream before the kill
)

func killStep() step {
	return step{
		name:  "kill",
		title: "The broker is killed: what was confirmed is still there",
		why: "A confirm of a persistent message in a durable queue means that it is on the disk. " +
			"So the broker may be killed in the middle of everything: after its restart each " +
			"confirmed message is there. What was not confirmed may be there or not; its " +
			"publisher sends it again, under the same id.",
		run: runKill,
	}
}

// letter is what the step knows of one message, under its id.
type letter struct {
	acked     bool // before the kill
	held      bool // by the consumer that dies with the broker
	confirmed bool // before the kill
	resent    bool
	arrivals  int // after the restart
}

// killing is the state of the step.
type killing struct {
	s       *stage
	queue   string
	letters map[string]*letter
}

func runKill(ctx context.Context, s *stage) error {
	queue, err := s.queue("letters", nil)
	if err != nil {
		return err
	}
	k := &killing{s: s, queue: queue, letters: map[string]*letter{}}
	p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	s.doing = "publishing letters"
	for i := range letters {
		if err := k.publish(ctx, p, fmt.Sprintf("letter-%d", i+1)); err != nil {
			return err
		}
	}
	reader, err := k.read(ctx)
	if err != nil {
		return err
	}
	// Everything in the queue's history before a confirmed message is on the disk
	// with it: the acks, and that the others are out with a consumer.
	s.doing = "publishing one letter more"
	if err := k.publish(ctx, p, "letter-last"); err != nil {
		return err
	}
	unconfirmed, err := k.killInStream(ctx, p)
	if err != nil {
		return err
	}
	<-reader.ended
	s.ledger.count(func(t *Tally) { t.CutOff += readerPrefetch })
	return k.recover(ctx, unconfirmed)
}

func (k *killing) message(id string) message {
	return message{key: k.queue, id: id, body: fmt.Sprintf(`{"letter":%q}`, id), copies: 1}
}

// publish sends a letter and waits for its confirm.
func (k *killing) publish(ctx context.Context, p *publisher, id string) error {
	if err := p.publish(ctx, k.message(id)); err != nil {
		return err
	}
	k.letters[id] = &letter{confirmed: true}
	return nil
}

// read acks some letters and keeps as many as the prefetch allows.
func (k *killing) read(ctx context.Context) (*consumer, error) {
	reader, err := k.s.consumer(ctx, k.queue, readerPrefetch)
	if err != nil {
		return nil, err
	}
	for i := range readerAcks + readerPrefetch {
		d, err := k.s.next(ctx, reader, "a letter")
		if err != nil {
			return nil, err
		}
		l := k.letters[d.MessageId]
		if l.held = i >= readerAcks; l.held {
			continue
		}
		l.acked = true
		if err := reader.finish(d); err != nil {
			return nil, err
		}
	}
	return reader, nil
}

// sent is one publish of the stream.
type sent struct {
	id      string
	confirm *amqp.DeferredConfirmation
}

// killInStream publishes letters and kills the broker before all of them are
// confirmed. It returns the ids that were not.
func (k *killing) killInStream(ctx context.Context, p *publisher) (unconfirmed []string, err error) {
	s := k.s
	s.doing = "publishing a stream of letters"
	kill := make(chan struct{})
	type outcome struct {
		stream []sent
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		stream, err := k.stream(ctx, p, kill)
		ended <- outcome{stream, err}
	}()
	var o outcome
	select {
	case <-kill:
		s.doing = "killing the broker and starting it again"
		err = s.restart(ctx)
		o = <-ended
	case o = <-ended:
	}
	if err != nil {
		return nil, fmt.Errorf("start the broker again: %w", err)
	}
	if o.err != nil && !errors.Is(o.err, errBrokerGone) {
		return nil, o.err
	}
	for _, m := range o.stream {
		confirmed := m.confirm.Acked()
		k.letters[m.id] = &letter{confirmed: confirmed}
		if !confirmed {
			unconfirmed = append(unconfirmed, m.id)
		}
	}
	n := len(unconfirmed)
	s.ledger.count(func(t *Tally) {
		t.Confirmed += len(o.stream) - n
		t.Unconfirmed += n
		t.Routed -= n // nobody has promised them
	})
	s.note("killed", map[string]any{"streamed": len(o.stream), "unconfirmed": n, "unacked": readerPrefetch},
		"the broker is killed with %d publishes unconfirmed and %d deliveries unacked, and started again on the same directory", n, readerPrefetch)
	s.check(n == streamWindow && len(o.stream)-n == streamConfirms, "it was in the middle: of a stream of %d letters %d were confirmed", len(o.stream), len(o.stream)-n)
	return unconfirmed, nil
}

// errBrokerGone ends the stream.
var errBrokerGone = errors.New("the broker is gone")

// stream publishes until it is time to kill, says so, and waits for the end. The
// last window of it is published while confirms are held, so that the kill falls
// in the middle however fast the broker is.
func (k *killing) stream(ctx context.Context, p *publisher, kill chan<- struct{}) (stream []sent, err error) {
	for i := range streamConfirms + streamWindow {
		m := k.message(fmt.Sprintf("stream-%d", i+1))
		confirm, err := p.send(ctx, m)
		if err != nil {
			return stream, errBrokerGone
		}
		stream = append(stream, sent{m.id, confirm})
		if i+1 < streamConfirms {
			continue
		}
		if i+1 == streamConfirms {
			if err := allAcked(ctx, p, stream); err != nil {
				return stream, err
			}
			k.s.hold()
		}
	}
	close(kill)
	if acked, err := stream[len(stream)-1].confirm.WaitContext(ctx); err != nil || acked {
		return stream, errors.Join(err, errors.New("the broker has outlived the stream"))
	}
	return stream, errBrokerGone
}

// allAcked waits for the confirms of a stream.
func allAcked(ctx context.Context, p *publisher, stream []sent) error {
	for _, m := range stream {
		acked, err := m.confirm.WaitContext(ctx)
		switch {
		case err != nil:
			return err
		case !acked && p.ch.IsClosed():
			return errBrokerGone
		case !acked:
			return errRefused
		}
	}
	return nil
}

// recover sends again what was not confirmed, takes everything, and compares.
func (k *killing) recover(ctx context.Context, unconfirmed []string) error {
	s := k.s
	if err := s.reconnect(ctx); err != nil {
		return err
	}
	if s.sabotage.loseConfirmed {
		if _, _, err := s.control.ch.Get(k.queue, true); err != nil {
			return err
		}
	}
	ready, err := s.depth(k.queue)
	if err != nil {
		return err
	}
	due := 0
	for _, l := range k.letters {
		if l.confirmed && !l.acked {
			due++
		}
	}
	s.check(ready >= due && ready <= due+len(unconfirmed),
		"the queue has %d letters: the %d that were confirmed and not acked, and %d of the %d that were not confirmed",
		ready, due, ready-due, len(unconfirmed))
	p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	s.doing = "publishing again what was not confirmed"
	var confirms []*amqp.DeferredConfirmation
	for _, id := range unconfirmed {
		confirm, err := p.send(ctx, k.message(id))
		if err != nil {
			return err
		}
		confirms = append(confirms, confirm)
		k.letters[id].resent = true
	}
	if err := p.await(ctx, confirms...); err != nil {
		return err
	}
	s.note("resent", map[string]any{"letters": len(unconfirmed)}, "the publisher sends those %d again", len(unconfirmed))
	if err := k.takeAll(ctx, ready+len(unconfirmed)); err != nil {
		return err
	}
	k.judge()
	return nil
}

// takeAll handles what comes; an id that has come before is dropped.
func (k *killing) takeAll(ctx context.Context, deliveries int) error {
	c, err := k.s.consumer(ctx, k.queue, readerPrefetch)
	if err != nil {
		return err
	}
	heldBack := 0
	for range deliveries {
		d, err := k.s.next(ctx, c, "a letter after the restart")
		if err != nil {
			return err
		}
		l := k.letters[d.MessageId]
		if l == nil {
			k.s.fail("%s came, which nobody has sent", d.MessageId)
			l = &letter{}
			k.letters[d.MessageId] = l
		}
		if l.arrivals++; l.arrivals > 1 {
			k.s.ledger.count(func(t *Tally) { t.Deduplicated++ })
			err = c.ack(d)
		} else {
			err = c.finish(d)
		}
		if err != nil {
			return err
		}
		if l.held && d.Redelivered {
			heldBack++
		}
	}
	k.s.check(heldBack == readerPrefetch, "the %d letters that its consumer held came back, marked redelivered: %d", readerPrefetch, heldBack)
	return nil
}

// judge compares what came with what had to.
func (k *killing) judge() {
	var confirmed, lost, again, survived int
	for _, l := range k.letters {
		switch {
		case l.acked && l.arrivals > 0:
			again++
		case l.acked:
		case l.confirmed:
			confirmed++
			if l.arrivals == 0 {
				lost++
			}
		case l.resent && l.arrivals > 1:
			survived++
		}
	}
	k.s.ledger.count(func(t *Tally) { t.Survived += survived })
	k.s.check(lost == 0, "of %d confirmed letters %d were lost", confirmed, lost)
	k.s.check(again == 0, "of %d acked letters %d came again", readerAcks, again)
}

// reconnect replaces the control connection, which has died with the broker.
func (s *stage) reconnect(ctx context.Context) error {
	s.doing = "connecting to the broker again"
	fresh, err := s.connect(ctx)
	if err != nil {
		return err
	}
	s.control = fresh
	return nil
}

// restartWithin bounds the kill and the restart.
const restartWithin = 10 * time.Second

func (l *lesson) restart(parent context.Context) error {
	ctx, cancel := context.WithTimeout(parent, restartWithin)
	defer cancel()
	return l.kill(ctx)
}
