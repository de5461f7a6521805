package loadgen

// stalls counts seconds in which something stood still. It looks once a second,
// whatever the interval of the progress is. It is a part of watch.
type stalls struct {
	seen []int64 // what each publisher, and then each consumer, had done at the last look

	all     int // nothing went in, or nothing came out
	single  int // summed up over single publishers and consumers
	blocked int // connection.blocked was in force
}

// begin starts counting (again).
func (s *stalls) begin(r *runner) {
	s.look(r)
	s.all, s.single, s.blocked = 0, 0, 0
}

// look ends a second. A publisher that has sent all it should, or has a schedule
// slower than two a second, may stand still; a consumer may that has a schedule, or
// for which nothing is published.
func (s *stalls) look(r *runner) {
	cfg := r.cfg
	publishing, in := false, false
	for i, p := range r.publishers {
		n := p.sent.Load()
		if p.window > 0 {
			n = p.settled.Load()
		}
		moved := n != s.seen[i]
		s.seen[i] = n
		in = in || moved
		if !p.finished() && (cfg.Rate == 0 || cfg.Rate >= 2) {
			publishing = true
			if !moved {
				s.single++
			}
		}
	}
	// Without publishers consumers take what lies there; which of them gets how much of
	// that is chance.
	taking := len(r.consumers) > 0 && cfg.ConsumerRate == 0
	draining := taking && len(r.publishers) == 0 && cfg.Prefill > 0
	consuming := taking && publishing
	out := false
	for i, k := range r.consumers {
		n, at := k.received.Load(), len(r.publishers)+i
		moved := n != s.seen[at]
		s.seen[at] = n
		out = out || moved
		if consuming && !moved {
			s.single++
		}
	}
	if publishing && !in || (consuming || draining) && !out {
		s.all++
	}
	if r.blocked.Load() > 0 {
		s.blocked++
	}
}
