package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/warrenmq/warren/reliable"
	"github.com/warrenmq/warren/reliable/dedup"
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
	held      bool // by the consumer whose connection dies with the broker
	confirmed bool // before the kill
	arrivals  int  // after the restart
}

// post is the body of this step's messages.
type post struct {
	Letter string `json:"letter"`
}

// killing is the state of the step: a program that writes, one that reads, and what
// is known of each message.
type killing struct {
	s       *stage
	queue   reliable.Queue
	out     *publisher[post]
	reader  *consumer[post]
	writing *program
	reading *program
	letters map[string]*letter
}

func runKill(ctx context.Context, s *stage) error {
	k := &killing{s: s, letters: map[string]*letter{}}
	var err error
	if k.writing, err = s.connect(ctx); err != nil {
		return err
	}
	if k.queue, err = s.workQueue(k.writing, "letters"); err != nil {
		return err
	}
	if k.out, err = publish[post](ctx, s, k.writing, reliable.ToQueue(k.queue)); err != nil {
		return err
	}
	s.doing = "publishing letters"
	for i := range letters {
		if err := k.publish(ctx, fmt.Sprintf("letter-%d", i+1)); err != nil {
			return err
		}
	}
	if err := k.read(ctx); err != nil {
		return err
	}
	// Everything in the queue's history before a confirmed message is on the disk
	// with it: the acks, and that the others are out with a consumer.
	s.doing = "publishing one letter more"
	if err := k.publish(ctx, "letter-last"); err != nil {
		return err
	}
	unconfirmed, err := k.stream(ctx)
	if err != nil {
		return err
	}
	return k.restart(ctx, unconfirmed)
}

// publish sends a letter and waits for its confirm.
func (k *killing) publish(ctx context.Context, id string) error {
	if err := k.out.publish(ctx, id, post{id}, 1); err != nil {
		return err
	}
	k.letters[id] = &letter{confirmed: true}
	return nil
}

// read acks some letters and keeps as many as the prefetch allows. That so many come
// shows that the acks have arrived.
func (k *killing) read(ctx context.Context) (err error) {
	if k.reading, err = k.s.connect(ctx); err != nil {
		return err
	}
	k.reader, err = consume[post](ctx, k.s, k.reading, k.queue, reliable.Prefetch(readerPrefetch), reliable.Concurrency(readerPrefetch),
		reliable.Idempotent("reader", dedup.NewMemory(0, nil)))
	if err != nil {
		return err
	}
	for i := range readerAcks + readerPrefetch {
		a, err := k.reader.await(ctx, k.s, "a letter")
		if err != nil {
			return err
		}
		l := k.letters[a.ID]
		if l.held = i >= readerAcks; l.held {
			continue
		}
		l.acked = true
		k.reader.finish(a)
	}
	return nil
}

// stream publishes letters. The last window of it is published while confirms are
// held, so that the kill falls in the middle however fast the broker is. It returns
// the receipts of those.
func (k *killing) stream(ctx context.Context) (unconfirmed []*reliable.Receipt, err error) {
	k.s.doing = "publishing a stream of letters"
	send := func(from, n int) (sent []*reliable.Receipt, err error) {
		for i := range n {
			id := fmt.Sprintf("stream-%d", from+i+1)
			r, err := k.out.send(ctx, id, post{id}, 1)
			if err != nil {
				return nil, err
			}
			k.letters[id] = &letter{}
			sent = append(sent, r)
		}
		return sent, nil
	}
	first, err := send(0, streamConfirms)
	if err != nil {
		return nil, err
	}
	if err := k.out.await(ctx, first...); err != nil {
		return nil, err
	}
	for _, r := range first {
		k.letters[r.ID()].confirmed = true
	}
	k.s.hold()
	if unconfirmed, err = send(streamConfirms, streamWindow); err != nil {
		return nil, err
	}
	// The broker is to have them, so that it has something to lose or to keep.
	_, err = k.s.awaitDepth(ctx, k.queue.Name, letters-readerAcks-readerPrefetch+1+streamConfirms+streamWindow)
	return unconfirmed, err
}

// restart kills the broker, and starts it again. The programs connect again by
// themselves, but not before it was counted what the broker has.
func (k *killing) restart(ctx context.Context, unconfirmed []*reliable.Receipt) error {
	s := k.s
	letWrite, letRead := k.writing.shut(), k.reading.shut()
	defer letWrite()
	defer letRead()
	s.doing = "killing the broker and starting it again"
	if err := s.restart(ctx); err != nil {
		return fmt.Errorf("start the broker again: %w", err)
	}
	open := 0
	for _, r := range unconfirmed {
		select {
		case <-r.Done():
			k.letters[r.ID()].confirmed = r.Err() == nil
		default:
			open++
		}
	}
	if err := s.bringDown(ctx, k.reading, func() { k.reader.abandon(errBrokerGone) }); err != nil {
		return err
	}
	if err := k.awaitCutOff(ctx); err != nil {
		return err
	}
	s.ledger.count(func(t *Tally) { t.Unconfirmed += open })
	s.note("killed", map[string]any{"streamed": streamConfirms + streamWindow, "unconfirmed": open, "unacked": readerPrefetch},
		"the broker is killed with %d publishes unconfirmed and %d deliveries unacked, and started again on the same directory", open, readerPrefetch)
	s.check(open == streamWindow, "it was in the middle: of a stream of %d letters %d were confirmed", streamConfirms+streamWindow, streamConfirms+streamWindow-open)
	ready, err := k.count(ctx, open)
	if err != nil {
		return err
	}
	letWrite()
	s.doing = "waiting for confirms of what is published again"
	if err := k.out.await(ctx, unconfirmed...); err != nil {
		return err
	}
	s.note("resent", map[string]any{"letters": open}, "the publisher connects again by itself, and sends those %d again", open)
	letRead()
	if err := k.takeAll(ctx, ready+open); err != nil {
		return err
	}
	k.judge()
	return nil
}

// errBrokerGone is what handlers return whose broker was killed.
var errBrokerGone = errors.New("the broker is gone")

// awaitCutOff waits until the reader has given up what it held: then its record of
// handled messages is free for their next delivery.
func (k *killing) awaitCutOff(ctx context.Context) error {
	k.s.doing = "waiting for the reader to give up what it held"
	_, err := eventually(ctx, k.s.limits.patience, func() (bool, error) {
		return k.s.ledger.snapshot().CutOff >= readerPrefetch, nil
	})
	return err
}

// count compares what the queue has after the restart with what it has to have.
func (k *killing) count(ctx context.Context, unconfirmed int) (ready int, err error) {
	s := k.s
	if err := s.reconnect(ctx); err != nil {
		return 0, err
	}
	if s.sabotage.loseConfirmed {
		if _, _, err := s.control.ch.Get(k.queue.Name, true); err != nil {
			return 0, err
		}
	}
	if ready, err = s.depth(k.queue.Name); err != nil {
		return 0, err
	}
	due := 0
	for _, l := range k.letters {
		if l.confirmed && !l.acked {
			due++
		}
	}
	s.check(ready >= due && ready <= due+unconfirmed,
		"the queue has %d letters: the %d that were confirmed and not acked, and %d of the %d that were not confirmed",
		ready, due, ready-due, unconfirmed)
	return ready, nil
}

// takeAll handles what comes; the reader itself drops an id that has come before.
func (k *killing) takeAll(ctx context.Context, deliveries int) error {
	heldBack := 0
	for range deliveries {
		a, err := k.reader.await(ctx, k.s, "a letter after the restart")
		if err != nil {
			return err
		}
		l := k.letters[a.ID]
		if l == nil {
			k.s.fail("%s came, which nobody has sent", a.ID)
			l = &letter{}
			k.letters[a.ID] = l
		}
		l.arrivals++
		if !a.duplicate {
			k.reader.finish(a)
		}
		if l.held && a.Redelivered {
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
		case l.arrivals > 1:
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
	fresh, err := s.dial.open(ctx)
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
