package engine

import (
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/store"
)

// sweepFloorBytes is the memory in bodies below which nothing is evacuated. With
// scratch files it is their budget if that is less: what is sparse does not spill.
const sweepFloorBytes = 64 << 20

// sweepIfSparse starts an evacuation if at least a quarter of the memory in
// bodies stands in chunks of which little is left. One runs at a time.
func (e *Engine) sweepIfSparse() {
	if e.sweeping.Swap(true) {
		return
	}
	e.background.Go(func() {
		defer e.sweeping.Store(false)
		if e.arena.SparseBytes()*4 >= e.arena.Used() {
			e.sweep()
		}
		e.alarm.sweepAbove.Store(max(e.alarm.sweepFloor, e.arena.Used()/2*3))
		e.alarm.check()
	})
}

// sweep moves the survivors of sparse chunks together, a page of a queue at a
// time, so that one message that nobody takes does not pin a chunk.
func (e *Engine) sweep() {
	move := func(x queue.Entry) uint64 {
		if r := store.Ref(x.Ref); !r.OnDisk() && e.arena.Sparse(r) {
			return uint64(e.arena.Evacuate(r, 1))
		}
		return x.Ref
	}
	for _, q := range e.allQueues() {
		var at queue.Cursor
		for more := true; more; {
			q.mu.Lock()
			more = !q.dead && q.m.Relocate(&at, move)
			q.mu.Unlock()
		}
	}
}

func (e *Engine) allQueues() (qs []*Queue) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, vh := range e.vhosts {
		vh.mu.RLock()
		for _, def := range vh.top.Queues() {
			qs = append(qs, def.Runtime.(*Queue))
		}
		vh.mu.RUnlock()
	}
	return qs
}
