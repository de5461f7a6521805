package loadgen

import "testing"

// TestStalls looks at counters that a test moves, second by second.
func TestStalls(t *testing.T) {
	type second struct {
		sent, settled, received []int64 // of each worker, in all
		blocked                 int64
		done                    bool // publishers have sent all they should
	}
	for name, c := range map[string]struct {
		cfg                  Config
		seconds              []second
		all, single, blocked int
	}{
		"everybody moves":                   {Config{}, []second{{sent: []int64{1, 1}, received: []int64{1, 1}}, {sent: []int64{2, 2}, received: []int64{2, 2}}}, 0, 0, 0},
		"nothing goes in":                   {Config{}, []second{{sent: []int64{5, 5}, received: []int64{1, 1}}, {sent: []int64{5, 5}, received: []int64{2, 2}}, {sent: []int64{6, 6}, received: []int64{3, 3}}}, 1, 2, 0},
		"one publisher of two stands still": {Config{}, []second{{sent: []int64{5, 5}, received: []int64{1, 1}}, {sent: []int64{5, 9}, received: []int64{2, 2}}}, 0, 1, 0},
		"one consumer of two stands still":  {Config{}, []second{{sent: []int64{5, 5}, received: []int64{1, 0}}, {sent: []int64{6, 6}, received: []int64{2, 0}}}, 0, 2, 0},
		"nothing comes out":                 {Config{}, []second{{sent: []int64{5, 5}, received: []int64{1, 1}}, {sent: []int64{6, 6}, received: []int64{1, 1}}}, 1, 2, 0},
		// What counts are confirms, not what could still be written.
		"sent and not confirmed": {Config{Confirm: 10}, []second{{sent: []int64{1, 1}, settled: []int64{1, 1}, received: []int64{1, 1}}, {sent: []int64{9, 9}, settled: []int64{1, 1}, received: []int64{2, 2}}}, 1, 2, 0},
		"rarely, on purpose":     {Config{Rate: 0.5}, []second{{sent: []int64{1, 1}, received: []int64{1, 1}}, {sent: []int64{1, 1}, received: []int64{1, 1}}}, 0, 0, 0},
		"consumers with a rate":  {Config{ConsumerRate: 0.1}, []second{{sent: []int64{1, 1}, received: []int64{1, 1}}, {sent: []int64{2, 2}, received: []int64{1, 1}}}, 0, 0, 0},
		"all is sent":            {Config{}, []second{{sent: []int64{9, 9}, received: []int64{9, 9}}, {sent: []int64{9, 9}, received: []int64{9, 9}, done: true}}, 0, 0, 0},
		"blocked":                {Config{}, []second{{sent: []int64{1, 1}, received: []int64{1, 1}, blocked: 2}, {sent: []int64{2, 2}, received: []int64{2, 2}}}, 0, 0, 1},
		"draining":               {Config{Prefill: 10}, []second{{received: []int64{5, 0}}, {received: []int64{5, 0}}}, 1, 0, 0},
	} {
		cfg := c.cfg
		r := &runner{cfg: &cfg}
		for range len(c.seconds[0].sent) {
			r.publishers = append(r.publishers, &publisher{window: int64(cfg.Confirm)})
		}
		for range len(c.seconds[0].received) {
			r.consumers = append(r.consumers, &consumer{})
		}
		s := stalls{seen: make([]int64, len(r.publishers)+len(r.consumers))}
		s.begin(r)
		for _, at := range c.seconds {
			for i, p := range r.publishers {
				p.sent.Store(at.sent[i])
				if at.settled != nil {
					p.settled.Store(at.settled[i])
				}
				p.done.Store(at.done)
			}
			for i, k := range r.consumers {
				k.received.Store(at.received[i])
			}
			r.blocked.Store(at.blocked)
			s.look(r)
		}
		if s.all != c.all || s.single != c.single || s.blocked != c.blocked {
			t.Errorf("%s: %d of all, %d of single ones, %d blocked, want %d, %d, %d", name, s.all, s.single, s.blocked, c.all, c.single, c.blocked)
		}
		// The warm-up does not count.
		s.begin(r)
		if s.all+s.single+s.blocked != 0 {
			t.Errorf("%s: begin left %+v", name, s)
		}
	}
}
