package engine

import (
	"container/heap"
	"sync"
	"time"

	"github.com/warrenmq/warren/internal/core/queue"
)

// timers calls queues back at their next deadline: the expiry of a queue's head
// or of the queue itself. A queue has at most one entry in the heap, and a
// deleted queue has none, however far its deadline was.
type timers struct {
	e       *Engine
	mu      sync.Mutex
	heap    timerHeap
	nextAt  queue.Time // when the running clock timer fires; Never if none runs
	stop    func() bool
	closed  bool
	fireMu  sync.Mutex // one firing at a time; it owns w
	w       worker
	pending []*Queue
}

// timerEntry is a queue's place in the heap; guarded by timers.mu.
type timerEntry struct {
	at    queue.Time
	place int // index in the heap plus one; 0: not there
}

type timerHeap []*Queue

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].timer.at < h[j].timer.at }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer.place, h[j].timer.place = i+1, j+1
}

func (h *timerHeap) Push(x any) {
	q := x.(*Queue)
	*h = append(*h, q)
	q.timer.place = len(*h)
}

func (h *timerHeap) Pop() any {
	old := *h
	q := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	q.timer.place = 0
	return q
}

func newTimers(e *Engine) *timers {
	return &timers{e: e, nextAt: queue.Never, w: newWorker(e)}
}

// arm asks for a call at the given time instead of a later one. Called with the
// queue's lock held.
func (t *timers) arm(q *Queue, at queue.Time) {
	q.armed = at
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	q.timer.at = at
	if q.timer.place > 0 {
		heap.Fix(&t.heap, q.timer.place-1)
	} else {
		heap.Push(&t.heap, q)
	}
	t.schedule(t.e.now())
}

// disarm forgets a queue that is deleted. Called with the queue's lock held.
func (t *timers) disarm(q *Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed && q.timer.place > 0 {
		heap.Remove(&t.heap, q.timer.place-1)
	}
}

// schedule sees to it that the clock calls fire when the first entry is due.
// Called with t.mu held.
func (t *timers) schedule(now queue.Time) {
	if len(t.heap) == 0 || t.heap[0].timer.at >= t.nextAt {
		return
	}
	if t.stop != nil {
		t.stop()
	}
	t.nextAt = t.heap[0].timer.at
	d := time.Duration(max(t.nextAt-now, 0))
	if d > 0 {
		d += time.Microsecond // a timer that fires a hair early would find nothing to expire
	}
	t.stop = t.e.clock.AfterFunc(d, t.fire)
}

// fire runs what is due.
func (t *timers) fire() {
	t.fireMu.Lock()
	defer t.fireMu.Unlock()
	now := t.e.now()
	t.mu.Lock()
	t.nextAt, t.stop = queue.Never, nil
	t.pending = t.pending[:0]
	for len(t.heap) > 0 && t.heap[0].timer.at <= now && !t.closed {
		t.pending = append(t.pending, heap.Pop(&t.heap).(*Queue))
	}
	t.mu.Unlock()
	for _, q := range t.pending {
		q.tick(&t.w, now)
	}
	clear(t.pending)
	t.mu.Lock()
	if !t.closed {
		t.schedule(now)
	}
	t.mu.Unlock()
}

// hold keeps every timer from firing until release: during recovery the queues
// are not what they will be, and nobody takes their locks.
func (t *timers) hold() { t.fireMu.Lock() }

// release ends hold. Without a disk to go on with nothing ever fires.
func (t *timers) release(recovered bool) {
	t.w = newWorker(t.e) // the engine has its disk only now
	t.mu.Lock()
	t.closed = !recovered
	t.mu.Unlock()
	t.fireMu.Unlock()
}

// close stops the clock and waits for a firing that is under way.
func (t *timers) close() {
	t.mu.Lock()
	t.closed = true
	if t.stop != nil {
		t.stop()
	}
	t.heap = nil
	t.mu.Unlock()
	t.fireMu.Lock()
	//lint:ignore SA2001 waiting for a firing to end is all this is for
	t.fireMu.Unlock()
}
