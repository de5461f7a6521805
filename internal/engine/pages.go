package engine

import (
	"cmp"
	"slices"

	"github.com/warrenmq/warren/internal/core/queue"
	"github.com/warrenmq/warren/internal/store"
)

// The index of a queue is 16 bytes a message. Beyond a budget, pages in the middle
// of long queues stand in page files; the janitor puts them there, and they are
// brought back when their turn comes.

const (
	// defaultIndexBytes is the budget: four million messages.
	defaultIndexBytes = 64 << 20
	// pageIndexBytes is what a page in memory takes.
	pageIndexBytes = queue.PageLen*16 + 128
	// spillRun is how many pages are copied under a queue's lock at a time.
	spillRun = 16
)

// bringPages brings the pages at the head of a queue into memory. It blocks on the
// disk. Called without locks; the caller lets the queue go on.
func (e *Engine) bringPages(q *Queue) {
	q.mu.Lock()
	var pages []queue.ColdPage
	if !q.dead {
		pages = q.m.ColdHead(nil)
	}
	q.mu.Unlock()
	e.warm(q, pages)
}

// warm brings pages of a queue into memory, or takes them out of the way where they
// cannot be read. It blocks on the disk. Called without locks.
func (e *Engine) warm(q *Queue, pages []queue.ColdPage) {
	var img queue.Image
	for _, at := range pages {
		err := e.disk.LoadPage(q.id, at, &img)
		q.mu.Lock()
		switch {
		case q.dead || !q.m.IsCold(at):
		case err == nil && q.m.Warm(at, &img):
			e.disk.FreePage(at.Cold)
		case e.disk.Err() != nil:
			// A log that has stopped says nothing about its messages.
		case q.m.Lose(at):
			e.logger.Error("a page of a queue's index cannot be read: its messages are set aside",
				"queue", q.def.Name, "vhost", q.vh.name, "messages", at.Cold.Messages, "error", err)
		}
		q.mu.Unlock()
	}
}

// spillIndex makes pages cold until the index is within its budget. Only the janitor
// calls it.
func (e *Engine) spillIndex(budgetBytes int64) {
	queues := e.allQueues()
	pages := make([]int, len(queues))
	total := int64(0)
	for i, q := range queues {
		q.mu.Lock()
		pages[i] = q.m.HotPages()
		q.mu.Unlock()
		total += int64(pages[i]) * pageIndexBytes
	}
	if total <= budgetBytes {
		return
	}
	hot := make(map[*Queue]int, len(queues))
	for i, q := range queues {
		hot[q] = pages[i]
	}
	slices.SortFunc(queues, func(a, b *Queue) int { return cmp.Compare(hot[b], hot[a]) })
	// Below the budget by a margin, so that this is not about single pages. What is
	// next to be consumed stays, unless the budget cannot be kept otherwise.
	goal := budgetBytes / 16 * 15
	for _, keep := range []int{queue.WarmAhead, 0} {
		for _, q := range queues {
			if total <= goal || hot[q] < 2 {
				break
			}
			n, err := e.spillQueue(q, keep, (total-goal)/pageIndexBytes+1)
			total -= n * pageIndexBytes
			hot[q] -= int(n)
			if err != nil {
				e.logger.Warn("the index of long queues stays in memory", "error", err)
				return
			}
		}
	}
}

// spillQueue makes up to most pages of a queue cold, and returns how many became so.
func (e *Engine) spillQueue(q *Queue, keep int, most int64) (spilled int64, err error) {
	imgs := make([]queue.Image, spillRun)
	var at queue.Cursor
	for more := true; more && spilled < most; {
		n := 0
		q.mu.Lock()
		if more = !q.dead; more {
			n, more = q.m.TakeSpill(&at, keep, imgs)
		}
		q.mu.Unlock()
		if n == 0 {
			continue
		}
		cold, err := e.disk.SpillPages(q.id, imgs[:n])
		if err != nil {
			return spilled, err
		}
		q.mu.Lock()
		for i, c := range cold {
			if !q.dead && q.m.Spill(&imgs[i], c) {
				spilled++
			} else {
				e.disk.FreePage(c)
			}
		}
		q.mu.Unlock()
	}
	return spilled, nil
}

// warmWhere brings back all cold pages that match.
func (j *janitor) warmWhere(match func(*queue.Cold) bool) {
	for _, q := range j.e.allQueues() {
		var at queue.Cursor
		for more := true; more && !j.ended(); {
			var pages []queue.ColdPage
			q.mu.Lock()
			if more = !q.dead; more {
				pages, more = q.m.ColdWhere(&at, match, nil)
			}
			q.mu.Unlock()
			j.e.warm(q, pages)
		}
	}
}

// tidyPages lets go of a page file of which little is needed: its pages come back
// into memory, from where the next spill writes them elsewhere.
func (j *janitor) tidyPages() {
	if number, ok := j.e.disk.SparsePages(); ok {
		j.warmWhere(func(c *queue.Cold) bool { return !c.Lost && store.InPageFile(c, number) })
	}
}
