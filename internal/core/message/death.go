package message

import "github.com/warrenmq/warren/internal/wire"

// Burial says why and where a message died.
type Burial struct {
	Queue  string
	Reason string // "rejected", "expired", "maxlen", "delivery_limit"
	// TimeSeconds is the Unix time of the death.
	TimeSeconds uint64
	// DLX is the dead-letter exchange; Key replaces the routing key if HasKey.
	DLX    string
	Key    string
	HasKey bool
	// Known says that the x-death header was written by this broker. One that a
	// client published is not believed (RabbitMQ 4.0 and newer).
	Known bool
	// OneKey says that an earlier death replaced the routing key: the CC header
	// is kept, but routes no more.
	OneKey bool
}

// Dead is a message on its way to a dead-letter exchange.
type Dead struct {
	Record Record
	// Keys are the routing keys to route with: the replacement, or the original
	// key with those of the CC and BCC headers.
	Keys   []string
	deaths wire.Array
}

// Bury rewrites a record for its dead-letter exchange: x-death and the first-
// and last-death headers, no expiration, no BCC, the new route.
//
// x-death has one entry for each queue and reason, the newest death first; a
// repeated death only raises the count and moves its entry to the front, all
// else keeps the values of the first time (RabbitMQ documentation, "Dead Letter
// Exchanges").
func (r Record) Bury(dst []byte, b Burial) (Dead, error) {
	p, err := r.Properties()
	if err != nil {
		return Dead{}, err
	}
	exchange, key := string(r.Exchange()), string(r.Key())
	var cc []string
	if !b.OneKey {
		cc = stringsOf(p.Headers, "CC")
	}
	keys := append([]string{key}, cc...)
	keys = append(keys, stringsOf(p.Headers, "BCC")...)
	p.Headers = p.Headers.Delete("BCC")

	var deaths wire.Array
	if b.Known {
		deaths = deathsOf(p.Headers)
	}
	deaths = recordDeath(deaths, b, exchange, key, cc, &p)
	p.Headers = p.Headers.Delete("x-death")
	h := p.Headers.Set("x-death", deaths)
	if _, ok := h.Get("x-first-death-reason"); !ok || !b.Known {
		h = h.Set("x-first-death-exchange", exchange).Set("x-first-death-queue", b.Queue).Set("x-first-death-reason", b.Reason)
	}
	h = h.Set("x-last-death-exchange", exchange).Set("x-last-death-queue", b.Queue).Set("x-last-death-reason", b.Reason)
	p.Headers = h
	p.Flags |= wire.FlagHeaders
	p.Flags &^= wire.FlagExpiration
	p.Expiration = ""
	if b.HasKey {
		key, keys = b.Key, []string{b.Key}
	}
	return Dead{Record: r.Rewrite(dst, b.DLX, key, &p), Keys: keys, deaths: deaths}, nil
}

func recordDeath(deaths wire.Array, b Burial, exchange, key string, cc []string, p *wire.Properties) wire.Array {
	for i, d := range deaths {
		t, _ := d.(wire.Table)
		if text(t, "queue") != b.Queue || text(t, "reason") != b.Reason {
			continue
		}
		n, _ := t.Get("count")
		count, _ := n.(int64)
		t = t.Set("count", count+1)
		copy(deaths[1:i+1], deaths[:i])
		deaths[0] = t
		return deaths
	}
	routed := wire.Array{key}
	for _, k := range cc {
		routed = append(routed, k)
	}
	t := wire.Table{
		{Key: "count", Value: int64(1)},
		{Key: "reason", Value: b.Reason},
		{Key: "queue", Value: b.Queue},
		{Key: "time", Value: wire.Timestamp(b.TimeSeconds)},
		{Key: "exchange", Value: exchange},
		{Key: "routing-keys", Value: routed},
	}
	if p.Flags&wire.FlagExpiration != 0 {
		t = append(t, wire.Field{Key: "original-expiration", Value: p.Expiration})
	}
	return append(wire.Array{t}, deaths...)
}

// Cycle tells whether delivering to the queue would close a cycle without
// anybody having rejected the message: the queue is among the deaths, and no
// death from the newest down to that one was a rejection (RabbitMQ drops the
// message for that queue then).
func (d *Dead) Cycle(queue string) bool {
	for _, x := range d.deaths {
		t, _ := x.(wire.Table)
		if text(t, "reason") == "rejected" {
			return false
		}
		if text(t, "queue") == queue {
			return true
		}
	}
	return false
}

func deathsOf(h wire.Table) wire.Array {
	v, _ := h.Get("x-death")
	a, _ := v.(wire.Array)
	return a
}

func stringsOf(h wire.Table, key string) []string {
	v, _ := h.Get(key)
	a, _ := v.(wire.Array)
	var out []string
	for _, x := range a {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func text(t wire.Table, key string) string {
	v, _ := t.Get(key)
	s, _ := v.(string)
	return s
}
