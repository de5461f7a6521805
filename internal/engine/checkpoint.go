package engine

import (
	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/seglog"
	"github.com/warrenmq/warren/internal/store"
)

// checkpoint writes the topology and the queues' indexes to a file, so that the
// next start reads the log only from here on. stop ends it early.
//
// It is fuzzy: work goes on meanwhile. The topology is taken at one instant,
// which is where the log will be read from; each page of a queue is taken later,
// under its lock, and so may hold more than that. Reading the log from the
// earlier point repeats what the page knows already, and every fact may be
// repeated: a message that is there stays, one that is settled is settled again.
func (e *Engine) checkpoint(stop func() bool) error {
	start := e.disk.Written()
	defs, queues, from := e.topologyNow()
	c, err := e.disk.BeginCheckpoint(from)
	if err != nil {
		return err
	}
	c.Define(defs)
	var img queue.Image
	for _, q := range queues {
		var at queue.Cursor
		for more := true; more; {
			q.mu.Lock()
			if at == (queue.Cursor{}) && !q.dead {
				c.Tails(q.id, q.m.Tails())
			}
			more = !q.dead && q.m.TakeImage(&at, &img)
			q.mu.Unlock()
			if more {
				c.Page(q.id, &img)
			}
			if stop() {
				c.Abandon()
				return nil
			}
		}
	}
	c.Blobs()
	// A page may hold what happened just now: that has to be on the disk before
	// a start relies on it.
	if err := e.disk.WaitDurable(e.disk.End()); err != nil {
		c.Abandon()
		return err
	}
	if err := c.Finish(); err != nil {
		return err
	}
	e.checkpointed.Store(start)
	return nil
}

// topologyNow is all durable definitions at one instant, the durable queues, and
// the position of that instant in the log.
func (e *Engine) topologyNow() (defs []store.Definition, queues []*Queue, from seglog.LSN) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, vh := range e.vhosts {
		// Definitions are logged under this lock: none comes in between.
		vh.mu.RLock()
		defer vh.mu.RUnlock()
		defs = append(defs, definitionsOf(vh)...)
		for _, def := range vh.top.Queues() {
			if def.Durable {
				queues = append(queues, def.Runtime.(*Queue))
			}
		}
	}
	defs = append(defs, store.Definition{Kind: store.Counters, ID: e.lastQueueID.Load()})
	return defs, queues, e.disk.End()
}
