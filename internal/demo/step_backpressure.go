package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/warrenmq/warren/reliable"
)

const (
	jobs     = 60
	prefetch = 5
	// slowWork is what one job takes the slow consumer; the fast one needs no time.
	slowWork = 40 * time.Millisecond
	// aloneFor is how many jobs the slow consumer does before it gets help.
	aloneFor = 8
	// settleFor is how long an excess delivery gets to show itself.
	settleFor = 150 * time.Millisecond
)

func backpressureStep() step {
	return step{
		name:  "back-pressure",
		title: "Acks and prefetch: a slow consumer is not drowned",
		why: "The broker pushes messages, and each stays its responsibility until the consumer " +
			"acks it. Prefetch limits how many a consumer may hold unacked: the rest waits in " +
			"the queue, where the broker can keep it safe and give it to somebody faster.",
		run: runBackpressure,
	}
}

func runBackpressure(ctx context.Context, s *stage) error {
	p, err := s.connect(ctx)
	if err != nil {
		return err
	}
	queue, err := s.workQueue(p, "jobs")
	if err != nil {
		return err
	}
	if err := s.publishJobs(ctx, p, queue); err != nil {
		return err
	}
	limit := prefetch
	if s.sabotage.noPrefetch {
		limit = jobs
	}
	slow, err := s.worker(ctx, queue, limit)
	if err != nil {
		return err
	}
	if err := s.watchPressure(ctx, slow, queue.Name); err != nil {
		return err
	}
	fast, err := s.share(ctx, slow, queue)
	if err != nil {
		return err
	}
	_, slowMost, slowDone := slow.holding()
	_, fastMost, fastDone := fast.holding()
	s.note("shared", map[string]any{"slow": slowDone, "fast": fastDone}, "in the end: slow did %d, fast did %d", slowDone, fastDone)
	s.check(slowMost <= prefetch && fastMost <= prefetch,
		"neither ever held more than its prefetch, %d (slow at most %d, fast %d)", prefetch, slowMost, fastMost)
	s.check(fastDone > slowDone, "the fast consumer took the rest (%d of %d, the slow one %d)", fastDone, jobs, slowDone)
	return nil
}

// job is the body of this step's messages.
type job struct {
	Job int `json:"job"`
}

// worker is a program that consumes jobs. As many of its handlers wait for their turn
// as its prefetch lets it have messages, so that all that it holds is seen.
func (s *stage) worker(ctx context.Context, queue reliable.Queue, prefetch int) (*consumer[job], error) {
	p, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	return consume[job](ctx, s, p, queue, reliable.Prefetch(prefetch), reliable.Concurrency(prefetch))
}

func (s *stage) publishJobs(ctx context.Context, p *program, queue reliable.Queue) error {
	out, err := publish[job](ctx, s, p, reliable.ToQueue(queue))
	if err != nil {
		return err
	}
	s.doing = "publishing jobs"
	var receipts []*reliable.Receipt
	for i := range jobs {
		r, err := out.send(ctx, fmt.Sprintf("job-%d", i+1), job{i + 1}, 1)
		if err != nil {
			return err
		}
		receipts = append(receipts, r)
	}
	return out.await(ctx, receipts...)
}

// watchPressure lets the slow consumer hold still, so that what it holds and what
// waits are firm numbers and not moments.
func (s *stage) watchPressure(ctx context.Context, slow *consumer[job], queue string) error {
	s.doing = "waiting until the consumer holds its prefetch"
	if _, err := eventually(ctx, s.limits.patience, func() (bool, error) {
		now, _, _ := slow.holding()
		return now >= prefetch, nil
	}); err != nil {
		return err
	}
	if _, err := eventually(ctx, settleFor, func() (bool, error) {
		now, _, _ := slow.holding()
		return now > prefetch, nil
	}); err != nil {
		return err
	}
	held, _, _ := slow.holding()
	waiting, err := s.awaitDepth(ctx, queue, jobs-held)
	if err != nil {
		return err
	}
	s.note("held", map[string]any{"jobs": jobs, "prefetch": prefetch, "held": held, "waiting": waiting},
		"%d jobs, a slow consumer: it holds %s, %d wait", jobs, bar(held, waiting), waiting)
	s.check(held == prefetch && held+waiting == jobs,
		"with nothing acked, the consumer holds %d (prefetch %d) and %d wait: %d of %d", held, prefetch, waiting, held+waiting, jobs)
	return nil
}

// bar draws held messages and, shortened, waiting ones.
func bar(held, waiting int) string {
	const most = 20
	b := make([]byte, 0, most+8)
	for range min(held, most) {
		b = append(b, '#')
	}
	for range min(waiting/prefetch, most) {
		b = append(b, '.')
	}
	return fmt.Sprintf("%d [%s]", held, b)
}

// worked is a worker's word about one job.
type worked struct {
	err error
}

// share lets the slow consumer work alone for a while, then adds a fast one, and
// ends when all jobs are done or none has been for the patience.
func (s *stage) share(parent context.Context, slow *consumer[job], queue reliable.Queue) (*consumer[job], error) {
	ctx, cancel := context.WithCancel(parent)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	results := make(chan worked, jobs)
	work := func(c *consumer[job], pace time.Duration) {
		workers.Go(func() { workOff(ctx, c, pace, results) })
	}
	work(slow, slowWork)
	if err := s.awaitJobs(ctx, results, aloneFor); err != nil {
		return nil, err
	}
	if err := s.showPressure(ctx, slow, queue.Name); err != nil {
		return nil, err
	}
	fast, err := s.worker(ctx, queue, prefetch)
	if err != nil {
		return nil, err
	}
	pace := time.Duration(0)
	if s.sabotage.everyoneSlow {
		pace = slowWork
	}
	s.note("joined", nil, "a fast consumer joins, with the same prefetch")
	work(fast, pace)
	return fast, s.awaitJobs(ctx, results, jobs-aloneFor)
}

func (s *stage) showPressure(ctx context.Context, slow *consumer[job], queue string) error {
	s.doing = "waiting until the consumer holds its prefetch again"
	if _, err := eventually(ctx, slowWork/2, func() (bool, error) {
		now, _, _ := slow.holding()
		return now == prefetch, nil
	}); err != nil {
		return err
	}
	waiting, err := s.depth(queue)
	if err != nil {
		return err
	}
	held, _, done := slow.holding()
	s.note("held", map[string]any{"done": done, "held": held, "waiting": waiting},
		"it works: %d done, it holds %s, %d wait", done, bar(held, waiting), waiting)
	return nil
}

func (s *stage) awaitJobs(ctx context.Context, results <-chan worked, n int) error {
	s.doing = "waiting for the consumers to do the jobs"
	timer := time.NewTimer(s.limits.patience)
	defer timer.Stop()
	for i := range n {
		select {
		case r := <-results:
			if r.err != nil {
				return r.err
			}
			timer.Reset(s.limits.patience)
		case <-timer.C:
			s.fail("%d of %d jobs were not done within %v", n-i, jobs, s.limits.patience)
			return errMissing
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// workOff handles deliveries one after the other, each taking pace, until ctx ends.
func workOff(ctx context.Context, c *consumer[job], pace time.Duration, results chan<- worked) {
	for {
		a, ok, err := c.next(ctx, time.Hour) // ctx decides
		if ctx.Err() != nil {
			return
		}
		if err == nil && ok {
			select {
			case <-time.After(pace):
				c.finish(a)
			case <-ctx.Done():
				return
			}
		}
		select {
		case results <- worked{err: err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}
