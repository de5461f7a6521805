package loadgen

import (
	"context"
	"time"
)

const (
	watchEvery = 5 * time.Millisecond // between looks at whether a load has reached its counts
	stallEvery = time.Second          // between looks at who stood still
	quietEnd   = 2 * time.Second      // after the last publish, when nothing more comes out
)

// watch samples a load and decides when it is over. All of it runs in the
// goroutine that called Run.
type watch struct {
	r    *runner
	base mark // begin of the measured time
	last mark // of the last sample
	now  mark

	baseConfirm, baseDelivery counts
	lastLatency               counts
	measured                  bool // the warm-up is over

	samples     []Sample
	stalls      stalls
	rssMax      int64
	interrupted bool
	quietSince  int64
	quietCount  int64
}

// mark is the counters at one time.
type mark struct {
	at                             int64 // nanoseconds of the run's clock
	published, confirmed, received int64
	refused, returned, empty       int64
	ownCPU, brokerCPU              time.Duration
	rss                            int64
}

func newWatch(r *runner) *watch {
	w := &watch{r: r, stalls: stalls{seen: make([]int64, len(r.publishers)+len(r.consumers))}}
	w.begin()
	return w
}

// begin starts the measured time (again).
func (w *watch) begin() {
	w.r.confirmTime.snapshot(&w.baseConfirm)
	w.r.deliveryTime.snapshot(&w.baseDelivery)
	w.base = w.mark(true)
	if w.last.at == 0 {
		w.last = w.base
	}
	w.stalls.begin(w.r)
	w.rssMax = w.base.rss
}

// mark reads the counters; with process also what the processes have used.
func (w *watch) mark(process bool) mark {
	r := w.r
	m := mark{at: r.since(), refused: r.refused.Load(), returned: r.returned.Load(), empty: r.empty.Load()}
	for _, p := range r.publishers {
		m.published += p.sent.Load()
		m.confirmed += p.settled.Load()
	}
	for _, k := range r.consumers {
		m.received += k.received.Load()
	}
	if pid := r.broker.PID; pid != 0 {
		m.rss, _ = ResidentBytes(pid) // 0 where it is not known
		if process {
			m.brokerCPU, _ = ProcessCPU(pid)
		}
	}
	if process {
		m.ownCPU = OwnCPU()
	}
	return m
}

// run watches until the load is over.
func (w *watch) run(ctx context.Context) error {
	cfg := w.r.cfg
	interval := cfg.Interval
	if interval <= 0 {
		interval = time.Second
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	start := w.base.at
	second := int64(stallEvery)
	if cfg.stallEvery > 0 {
		second = int64(cfg.stallEvery)
	}
	next, nextStall := start+int64(interval), start+second
	w.measured = cfg.Warmup == 0
	for {
		select {
		case <-ctx.Done():
			w.interrupted = true
			w.now = w.mark(true)
			return nil
		case err := <-w.r.failed:
			w.now = w.mark(true)
			return err
		case <-tick.C:
		}
		now := w.r.since()
		if !w.measured && now-start >= int64(cfg.Warmup) {
			w.measured = true
			w.begin()
			nextStall = w.base.at + second
		}
		if now >= nextStall {
			w.stalls.look(w.r)
			if nextStall += second; nextStall < now+second*9/10 {
				nextStall = now + second // this look came late, and the next is not to be of an instant
			}
		}
		if now >= next {
			w.sample(start)
			next += int64(interval)
		}
		if w.measured && (cfg.Duration > 0 && now-w.base.at >= int64(cfg.Duration) || w.complete(now)) {
			w.now = w.mark(true)
			return nil
		}
	}
}

// complete says whether the counts are reached.
func (w *watch) complete(now int64) bool {
	cfg, r := w.r.cfg, w.r
	if cfg.PublishCount == 0 && cfg.ConsumeCount == 0 && cfg.Producers > 0 {
		return false
	}
	var published, received int64
	for _, p := range r.publishers {
		if !p.finished() {
			if cfg.PublishCount > 0 {
				return false
			}
		}
		published += p.sent.Load()
	}
	full := len(r.consumers) > 0 && cfg.ConsumeCount > 0
	for _, k := range r.consumers {
		n := k.received.Load()
		received += n
		full = full && n >= cfg.ConsumeCount
	}
	if full {
		return true
	}
	if cfg.PublishCount == 0 && cfg.Producers > 0 || len(r.consumers) > 0 && cfg.ConsumeCount > 0 {
		return false // consumers still want something, or publishers have no end
	}
	if cfg.Producers == 0 && cfg.Prefill == 0 {
		return false // consumers of what others publish
	}
	if len(r.consumers) == 0 || received >= published*cfg.copies()+int64(cfg.Prefill) {
		return true
	}
	// Messages may expire, or go to queues that are somebody else's.
	if received != w.quietCount || w.quietSince == 0 {
		w.quietCount, w.quietSince = received, now
	}
	return now-w.quietSince >= int64(quietEnd)
}

// sample ends an interval.
func (w *watch) sample(start int64) {
	r := w.r
	m := w.mark(false)
	seconds := float64(m.at-w.last.at) / 1e9
	s := Sample{
		At: time.Duration(m.at - start), Blocked: r.blocked.Load() > 0, RSS: m.rss, Warmup: !w.measured,
		Published: m.published - w.last.published, Confirmed: m.confirmed - w.last.confirmed, Received: m.received - w.last.received,
	}
	s.PublishRate, s.ConfirmRate, s.ReceiveRate = float64(s.Published)/seconds, float64(s.Confirmed)/seconds, float64(s.Received)/seconds
	s.Latency = w.intervalLatency()
	w.rssMax = max(w.rssMax, m.rss)
	w.last = m
	w.samples = append(w.samples, s)
	if len(w.samples) > maxSamples {
		w.samples = w.samples[1:]
	}
	if r.cfg.Progress != nil {
		r.cfg.Progress(s)
	}
}

// maxSamples bounds what a run without an end remembers.
const maxSamples = 86_400

// intervalLatency is the distribution since the last sample.
func (w *watch) intervalLatency() *Latency {
	h := &w.r.deliveryTime
	if len(w.r.consumers) == 0 {
		h = &w.r.confirmTime
	}
	var all, diff counts
	h.snapshot(&all)
	diff = all
	diff.minus(&w.lastLatency)
	w.lastLatency = all
	return diff.latency()
}

// report sums up the measured time. If the end came during the warm-up it is
// what there was of that.
func (w *watch) report() *Report {
	a, b := &w.base, &w.now
	cfg := w.r.cfg
	rep := &Report{
		Seconds:   float64(b.at-a.at) / 1e9,
		Published: b.published - a.published, Confirmed: b.confirmed - a.confirmed, Received: b.received - a.received,
		Refused: b.refused - a.refused, Returned: b.returned - a.returned, Empty: b.empty - a.empty,
		StalledSeconds: w.stalls.all, StalledWorkerSeconds: w.stalls.single, BlockedSeconds: w.stalls.blocked,
		ClientCPU: (b.ownCPU - a.ownCPU).Seconds(), Interrupted: w.interrupted, Samples: w.samples,
	}
	if w.r.broker.PID != 0 {
		rep.Broker = &Usage{CPUSeconds: (b.brokerCPU - a.brokerCPU).Seconds(), RSSBefore: a.rss, RSSAfter: b.rss, RSSMax: max(w.rssMax, b.rss), RSSSettled: b.rss}
	}
	var c counts
	w.r.confirmTime.snapshot(&c)
	c.minus(&w.baseConfirm)
	rep.ConfirmLatency = c.latency()
	w.r.deliveryTime.snapshot(&c)
	c.minus(&w.baseDelivery)
	rep.DeliveryLatency = c.latency()
	rep.finish(cfg.Confirm > 0 || cfg.TxSize > 0)
	return rep
}
