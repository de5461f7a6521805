package engine

import (
	"sync"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/core/topology"
	"github.com/warrenmq/warren/internal/wire"
)

// Queue is a queue machine with its lock.
type Queue struct {
	id  queue.ID
	def *topology.Queue
	vh  *VHost

	mu sync.Mutex
	m  *queue.Machine
	// arrived are the targets that have a dead letter already that others do not.
	arrived  map[queue.Seq][]queue.ID
	marks    bool          // what it hands out is in the log before it is sent; see Outbox.mark
	counted  bool          // a quorum queue: it keeps everything, and receivers see how often a message has come back
	dead     bool          // deleted: publishers route again, everybody else gives up
	fetching bool          // a goroutine brings the head into memory
	dying    []deadItem    // dead letters in order, to be moved
	burying  bool          // a worker moves them, and nobody else may
	armed    queue.Time    // when the timers will call; Never if they will not
	timer    timerEntry    // the timers' own
	meter    *status.Meter // of those that somebody looks at
}

// Flags that the engine keeps in queue entries.
const (
	// flagBCC: the stored record has a BCC header that receivers must not see.
	flagBCC = queue.HostFlag << iota
	// flagDead: the record's x-death header was written by this broker.
	flagDead
	// flagOneKey: a death replaced the routing key, so that CC routes no more.
	flagOneKey
)

func (e *Engine) newQueue(vh *VHost, def *topology.Queue, now queue.Time) *Queue {
	c := def.Config
	q := &Queue{id: queue.ID(def.ID), def: def, vh: vh, armed: queue.Never, counted: c.Type == topology.Quorum}
	q.m = queue.New(queue.Config{
		Durable:        def.Durable,
		AutoDelete:     def.AutoDelete,
		MessageTTLMs:   c.MessageTTLMs,
		ExpiresMs:      c.ExpiresMs,
		MaxLength:      c.MaxLength,
		MaxLengthBytes: c.MaxLengthBytes,
		Overflow:       overflowOf(c.Overflow),
		HasDLX:         c.HasDLX,
		MaxPriority:    c.MaxPriority,
		SingleActive:   c.SingleActiveConsumer,
		DeliveryLimit:  int64(c.DeliveryLimit),
		Retry:          queue.RetryDelay{Failed: c.RetryFailed, GivenBack: c.RetryReturned, MinMs: c.RetryMinMs, MaxMs: c.RetryMaxMs},
		CountCrashes:   q.counted,
		AtLeastOnce:    c.AtLeastOnce(),
	}, now)
	q.marks = def.Durable && c.DeliveryLimit >= 0
	if e.disk != nil {
		q.m.Resident = e.resident
	}
	if !e.recovering {
		q.mu.Lock()
		q.rearm(e)
		q.mu.Unlock()
	}
	return q
}

func overflowOf(o topology.Overflow) queue.Overflow {
	switch o {
	case topology.RejectPublish:
		return queue.RejectPublish
	case topology.RejectPublishDLX:
		return queue.RejectPublishDLX
	}
	return queue.DropHead
}

// rearm sees to it that the timers call when the machine next wants it. Called
// with q.mu held.
func (q *Queue) rearm(e *Engine) {
	if !q.m.Timed() || q.dead || q.fetching {
		return // what fetches comes back here
	}
	if at := q.m.NextDeadline(); at < q.armed {
		e.timers.arm(q, at)
	}
}

// tick is called by the timers.
func (q *Queue) tick(w *worker, now queue.Time) {
	w.begin(now)
	q.mu.Lock()
	if q.dead {
		q.mu.Unlock()
		return
	}
	q.armed = queue.Never
	q.m.Expire(now, &w.out)
	w.carry(q)
	idle := q.m.Idle(now)
	q.mu.Unlock()
	if idle {
		w.unused = append(w.unused, unusedQueue{q, true})
	}
	w.finish()
}

// counts returns ready messages and consumers.
func (q *Queue) counts() (messages, consumers uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return uint32(q.m.ReadyCount()), uint32(q.m.ConsumerCount())
}

// cancelConsumers tells the clients of a deleted queue that their consumers are
// gone (basic.cancel, if they understand it). Called without locks.
func cancelConsumers(gone []*queue.Consumer) {
	for _, qc := range gone {
		c := qc.Gate.(*Consumer)
		o := c.ch.conn.Out
		o.mu.Lock()
		if c.ch.consumers[c.tag] == c {
			delete(c.ch.consumers, c.tag)
			if c.ch.conn.info.CancelNotify {
				o.sendLocked(c.ch.target.Channel, &wire.BasicCancel{ConsumerTag: c.tag, NoWait: true})
			}
		}
		o.mu.Unlock()
	}
}
