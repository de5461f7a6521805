package claims

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

// parcel is a message that must come back as it was.
type parcel struct {
	body, trace, correlation string
}

func parcels(n int) map[string]parcel {
	random := rand.New(rand.NewPCG(1, 2))
	list := map[string]parcel{}
	for i := range n {
		body := make([]byte, i%3000)
		for j := range body {
			body[j] = byte(random.Uint32())
		}
		list[fmt.Sprintf("parcel-%d", i)] = parcel{string(body), fmt.Sprintf("t-%d", i), fmt.Sprintf("c-%d", i)}
	}
	return list
}

// Claim: a redrive keeps body, key, exchange and headers. The broker is killed in the
// middle of it, and it is begun again until no dead letter is left.
func (p *peer) redriveKeepsIdentity(t *testing.T) {
	c, s := p.open(t, reliable.Config{})
	q := p.queue(t, "redrive")
	p.declare(t, c, q)
	sent := parcels(max(p.size/50, 100))
	var mu sync.Mutex
	came := map[string]int{}
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[[]byte]) error {
		if m.Generation == 0 {
			return reliable.Permanent(errors.New("not now"))
		}
		mu.Lock()
		defer mu.Unlock()
		came[m.ID]++
		want, known := sent[m.ID]
		if !known || !bytes.Equal(m.Body, []byte(want.body)) || m.Headers["trace"] != want.trace || m.CorrelationID != want.correlation ||
			m.Key != q.Name || m.Exchange != "" || m.Attempt != 1 {
			t.Errorf("%+v %q, expected %+v", m.Delivery, m.Body, want)
		}
		return nil
	})
	defer consumer.Stop(within(t, patience))
	pub := publisher[[]byte](t, c, reliable.ToQueue(q))
	ctx := within(t, patience)
	for id, m := range sent {
		if _, err := pub.PublishAsync(ctx, []byte(m.body), reliable.ID(id), reliable.Header("trace", m.trace), reliable.CorrelationID(m.correlation)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all are dead letters", func() bool { return p.count(t, q.DeadLetterQueue()) >= len(sent) })
	crashes := p.crashes(t, s, q, 1)
	crashed := make(chan struct{})
	rounds := 0
	_, err := c.DeadLetters(q).Redrive(ctx, reliable.Filter{}, reliable.RedriveOptions{Edit: func(d *reliable.DeadLetter) {
		if rounds++; rounds == len(sent)/2 {
			s.Again(2000)
			crashes.reached(1)
			close(crashed)
		}
	}})
	broke := err != nil
	<-crashed
	kills := crashes.all()
	s.Off()
	again := 0
	until(t, "nothing is left", func() bool {
		r, err := c.DeadLetters(q).Redrive(ctx, reliable.Filter{}, reliable.RedriveOptions{})
		again += r.Done
		return err == nil && r.Scanned == 0
	})
	until(t, "all came back", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(came) == len(sent)
	})
	mu.Lock()
	defer mu.Unlock()
	copies := 0
	for _, n := range came {
		copies += n - 1
	}
	p.table.row("redrive keeps identity", "%d messages, %d cuts, %d crashes (it broke off: %v; %d in the next rounds): all came back byte for byte, %d copies besides",
		len(sent), s.Count(), kills, broke, again, copies)
}

// 50 scans of the dead letters: same ids, same order, none lost.
func (p *peer) scans(t *testing.T) { p.kinds(t, p.scansIn) }

func (p *peer) scansIn(t *testing.T, kind reliable.QueueType) {
	c, _ := p.open(t, reliable.Config{Queues: kind})
	q := p.queue(t, "scans")
	const letters, times = 200, 50
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		return reliable.Permanent(errors.New("to be scanned"))
	})
	publishAll(t, publisher[order](t, c, reliable.ToQueue(q)), letters)
	until(t, "all are dead letters", func() bool { return p.count(t, q.DeadLetterQueue()) == letters })
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	ids := func() (ids []string) {
		list, err := claimtest.Scan(c.DeadLetters(q), reliable.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			ids = append(ids, l.ID)
		}
		return ids
	}
	begun := time.Now()
	first := ids()
	if len(first) != letters {
		t.Fatalf("the first scan found %d of %d", len(first), letters)
	}
	for i := range times - 1 {
		if again := ids(); !slices.Equal(first, again) {
			t.Fatalf("scan %d found %d, the first one %d, or another order:\n%v\n%v", i+2, len(again), len(first), again, first)
		}
	}
	if n := p.count(t, q.DeadLetterQueue()); n != letters {
		t.Errorf("%d dead letters are there, %d were", n, letters)
	}
	p.table.row("50 scans", "%d dead letters in %s queues, %d scans: same ids, same order, none lost; in %v", letters, typeOf(kind), times, since(begun))
}
