package claims

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/warrenmq/warren/internal/claimtest"
	"github.com/warrenmq/warren/reliable"
)

// TestCluster is the claims about publishing, acknowledgements and retries at a
// cluster of three, of which the node that the client is connected to is killed and
// comes back, and then the one that leads the queue.
func TestCluster(t *testing.T) {
	p := newPeer(t)
	if len(p.urls) < 3 || p.script == "" {
		t.Skip("WARREN_CLAIMS_URL names no cluster, or WARREN_CLAIMS_PEER no script")
	}
	defer func() { t.Logf("what was shown at a cluster of three %v:\n%v", p.server(t), p.table) }()
	t.Run("confirmed is there", p.confirmedIsThere)
	t.Run("stale acknowledgements", p.staleAcknowledgements)
	t.Run("acknowledgements of a new leader", p.newLeader)
	t.Run("retry neither loses nor forks", p.retryNeitherLosesNorForks)
}

// newLeader holds deliveries while the node that leads their queue is killed, and
// acknowledges them then. The client need not notice.
func (p *peer) newLeader(t *testing.T) {
	c, _ := p.open(t, reliable.Config{})
	q := p.queue(t, "leader")
	p.declare(t, c, q)
	const n = 200
	var seen claimtest.Log[string]
	var begun atomic.Int32
	release := make(chan struct{})
	consumer := consume(t, c, q, func(ctx context.Context, m *reliable.Message[order]) error {
		begun.Add(1)
		<-release
		seen.Add(m.ID)
		return nil
	}, reliable.Concurrency(n), reliable.Prefetch(n))
	pub := publisher[order](t, c, reliable.ToQueue(q))
	publishAll(t, pub, n)
	until(t, "all are held", func() bool { return begun.Load() == n })
	leader, err := p.leader(q)
	if err == nil {
		err = p.crash(leader)
	}
	if err != nil {
		t.Fatal(err)
	}
	connected(t, c)
	publishAll(t, pub, n)
	close(release)
	distinct := map[string]bool{}
	until(t, "all are handled", func() bool {
		for _, id := range seen.All() {
			distinct[id] = true
		}
		return len(distinct) == 2*n && p.count(t, q.Name) == 0
	})
	if err := consumer.Stop(within(t, patience)); err != nil {
		t.Error(err)
	}
	until(t, "nothing comes back", func() bool { return p.count(t, q.Name) == 0 })
	p.table.row("a stale ack settles no other message", "%d deliveries acknowledged after the queue's leader is killed: each message handled, %d copies besides", n, seen.Len()-2*n)
}
