package topology

import (
	"github.com/warrenmq/warren/internal/core/exchange"
	"github.com/warrenmq/warren/internal/wire"
)

// RouteScratch is memory that Route reuses, so that it allocates nothing once
// warm. The zero value is ready. One scratch serves one goroutine at a time and
// one vhost after the other as it comes.
type RouteScratch struct {
	// UsedHeaders tells whether the last Route went through a headers exchange,
	// so that its result holds for messages with these headers only.
	UsedHeaders bool

	queues []*Queue
	dests  []exchange.Dest
	work   []*Exchange // exchanges to route through, in order of discovery
	seen   seenSet     // queue ids in queues
	seenX  seenSet     // exchange ids in work
}

// CheckPublish returns the exchange a basic.publish names, or why it may not:
// 404 if there is none, 403 if it is internal.
func (v *VHost) CheckPublish(name string) (*Exchange, *wire.Error) {
	x, err := v.FindExchange(name)
	if err != nil {
		return nil, err
	}
	if x.Internal {
		return nil, wire.ChannelError(wire.AccessRefused, "cannot publish to internal %s", v.describeExchange(x.Name))
	}
	return x, nil
}

// Route finds the queues a message published to an exchange goes to, each once,
// in no particular order. keys are the routing key followed by those in CC and
// BCC; headers is the raw header table without its length, nil if none. It
// follows exchange-to-exchange bindings, visiting each exchange once, and takes
// an exchange's alternate exchange when its own bindings match nothing.
//
// The result lives in s until the next Route with it. The only error is 404.
// Route reads only; it does not mind whether the exchange is internal.
func (v *VHost) Route(exchangeName string, keys []string, headers []byte, s *RouteScratch) ([]*Queue, *wire.Error) {
	s.queues = s.queues[:0]
	s.UsedHeaders = false
	x := v.exchanges[exchangeName]
	if x == nil {
		return nil, v.NoExchange(exchangeName)
	}
	if x.Name == "" {
		return v.routeDefault(keys, s), nil
	}
	s.seen.reset(len(v.queues))
	s.seenX.reset(len(v.exchanges))
	s.seenX.add(x.ID)
	s.work = append(s.work[:0], x)
	for i := 0; i < len(s.work); i++ {
		v.routeThrough(s.work[i], keys, headers, s)
	}
	return s.queues, nil
}

// routeDefault delivers to the queues named by the keys.
func (v *VHost) routeDefault(keys []string, s *RouteScratch) []*Queue {
	if len(keys) == 1 {
		if q := v.queues[keys[0]]; q != nil {
			s.queues = append(s.queues, q)
		}
		return s.queues
	}
	s.seen.reset(len(v.queues))
	for _, key := range keys {
		if q := v.queues[key]; q != nil && s.seen.add(q.ID) {
			s.queues = append(s.queues, q)
		}
	}
	return s.queues
}

// routeThrough collects x's own destinations: queues into the result, exchanges
// onto the worklist.
func (v *VHost) routeThrough(x *Exchange, keys []string, headers []byte, s *RouteScratch) {
	s.dests = s.dests[:0]
	s.UsedHeaders = s.UsedHeaders || x.Type == exchange.Headers
	switch x.Type {
	case exchange.Fanout, exchange.Headers:
		s.dests = x.table.Route(s.dests, "", headers) // the key does not matter
	default:
		for _, key := range keys {
			s.dests = x.table.Route(s.dests, key, headers)
		}
	}
	if len(s.dests) == 0 && x.hasAlternate {
		if alt := v.exchanges[x.alternate]; alt != nil && s.seenX.add(alt.ID) {
			s.work = append(s.work, alt)
		}
		return
	}
	for _, d := range s.dests {
		if d.Kind == exchange.Exchange {
			if to := v.exchangesByID[d.ID]; to != nil && s.seenX.add(d.ID) {
				s.work = append(s.work, to)
			}
		} else if q := v.queuesByID[d.ID]; q != nil && s.seen.add(d.ID) {
			s.queues = append(s.queues, q)
		}
	}
}

// seenSet is a set of ids that empties in O(1): an id is in it if it is marked
// with the current round. While small it is a list, which is faster.
type seenSet struct {
	few   [16]uint64
	n     int
	many  map[uint64]uint64 // id -> round it was last added in
	round uint64
}

// reset empties the set. live bounds how many ids exist: marks of ids long gone
// are thrown away once they outnumber that.
func (s *seenSet) reset(live int) {
	s.n = 0
	s.round++
	if len(s.many) > 2*live+1024 {
		s.many = nil
	}
}

// add reports whether id was not in the set, and puts it in.
func (s *seenSet) add(id uint64) bool {
	if s.n <= len(s.few) {
		for _, x := range s.few[:s.n] {
			if x == id {
				return false
			}
		}
		if s.n < len(s.few) {
			s.few[s.n] = id
			s.n++
			return true
		}
		if s.many == nil {
			s.many = make(map[uint64]uint64)
		}
		for _, x := range s.few {
			s.many[x] = s.round
		}
		s.n++ // from here on the map holds them all
	}
	if s.many[id] == s.round {
		return false
	}
	s.many[id] = s.round
	return true
}
