package claims

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/warrenmq/warren/reliable"
)

type order struct {
	ID int `json:"id"`
}

// TestClaims is every claim of the toolkit; see the package comment.
func TestClaims(t *testing.T) {
	p := newPeer(t)
	defer func() { t.Logf("what was shown at %v:\n%v", p.server(t), p.table) }()
	t.Run("confirmed is there", p.confirmedIsThere)
	t.Run("confirmed is there, in classic queues", p.confirmedIsThereClassic)
	t.Run("confirmed is there, cut after every byte", p.cutAfterEveryByte)
	t.Run("stale acknowledgements", p.staleAcknowledgements)
	t.Run("publish honours its context", p.publishHonoursItsContext)
	t.Run("retry neither loses nor forks", p.retryNeitherLosesNorForks)
	t.Run("delayed messages survive", p.delayedSurvive)
	t.Run("deleted queue stalls nobody", p.deletedQueueStallsNobody)
	t.Run("effectively once, bbolt", p.effectivelyOnceBolt)
	t.Run("effectively once, SQLite", p.effectivelyOnceSQLite)
	t.Run("redrive keeps identity", p.redriveKeepsIdentity)
	t.Run("drain costs no attempts", p.drainCostsNoAttempts)
	t.Run("50 scans", p.scans)
	t.Run("retries keep their schedule", p.retriesKeepTheirSchedule)
}

// typeOf is what queues of a kind are on the servers that are tested.
func typeOf(kind reliable.QueueType) string {
	if kind == reliable.Auto {
		return reliable.Quorum.String()
	}
	return kind.String()
}

// kinds runs a test with quorum queues, where the server has them, and with classic ones.
func (p *peer) kinds(t *testing.T, test func(*testing.T, reliable.QueueType)) {
	for _, kind := range []reliable.QueueType{reliable.Auto, reliable.Classic} {
		t.Run(typeOf(kind), func(t *testing.T) { test(t, kind) })
	}
}

// server is what the broker calls itself.
func (p *peer) server(t *testing.T) string {
	c, _ := p.open(t, reliable.Config{})
	return c.Health().Server
}

func publisher[T any](t testing.TB, c *reliable.Client, to reliable.Route, options ...reliable.PublisherOption) *reliable.Publisher[T] {
	t.Helper()
	p, err := reliable.NewPublisher[T](within(t, patience), c, to, options...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func consume[T any](t testing.TB, c *reliable.Client, q reliable.Queue, h reliable.Handler[T], options ...reliable.ConsumeOption) *reliable.Consumer {
	t.Helper()
	consumer, err := reliable.Consume(within(t, patience), c, q, h, options...)
	if err != nil {
		t.Fatal(err)
	}
	return consumer
}

func publishAll(t testing.TB, p *reliable.Publisher[order], n int) {
	t.Helper()
	err := p.PublishAll(within(t, patience), func(yield func(order) bool) {
		for i := range n {
			if !yield(order{i}) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// drain takes the messages of a short queue, in order.
func (p *peer) drain(t *testing.T, queue string) (got []amqp.Delivery) {
	t.Helper()
	p.look(t, func(ch *amqp.Channel) error {
		for {
			d, ok, err := ch.Get(queue, true)
			if err != nil || !ok {
				return err
			}
			got = append(got, d)
		}
	})
	return got
}

// connected waits until the client works.
func connected(t *testing.T, c *reliable.Client) {
	t.Helper()
	if err := c.WaitReady(within(t, patience)); err != nil {
		t.Fatal(err)
	}
}

// since is how long something took, for the table.
func since(begun time.Time) time.Duration { return time.Since(begun).Round(time.Millisecond) }
