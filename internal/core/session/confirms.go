package session

// Position is a place in the log; the durable position only grows.
type Position uint64

// Confirms tracks a channel's publishes until they may be confirmed.
//
// Publishes are numbered from 1 in the order they were received. Each run of
// publishes waits for one position; positions never fall from run to run, so
// confirms leave in order, and an ack with multiple covers exactly the publishes
// that are still open and whose position is durable.
type Confirms struct {
	last     uint64 // number of the last publish received
	open     []run  // ring would be overkill: runs leave from the front in bulk
	first    int
	acked    uint64 // everything up to here is settled with the client
	lastWait Position
}

type run struct {
	to    uint64 // last publish of the run
	pos   Position
	nacks []uint64 // refused ones, ascending
}

// Next numbers one more publish.
func (c *Confirms) Next() uint64 {
	c.last++
	return c.last
}

// Last is the number of the last publish received.
func (c *Confirms) Last() uint64 { return c.last }

// Open is the number of publishes that await their confirm.
func (c *Confirms) Open() uint64 { return c.last - c.acked }

// Settled is the number of publishes that have left the waiting list, and
// Awaiting that of those which wait for a position. Unlike Open they do not look
// at what is being received.
func (c *Confirms) Settled() uint64 { return c.acked }

// Awaiting is explained at Settled.
func (c *Confirms) Awaiting() uint64 {
	if !c.Waiting() {
		return 0
	}
	return c.open[len(c.open)-1].to - c.acked
}

// Wait closes a run: everything numbered since the last Wait is to be confirmed
// once pos is durable, but for nacks (ascending), which are refused then. A pos
// of zero means that nothing had to be written: the run then takes the highest
// position that is still open, so that it neither forces a sync nor overtakes.
func (c *Confirms) Wait(pos Position, nacks []uint64) {
	if pos < c.lastWait {
		pos = c.lastWait
	}
	c.lastWait = pos
	if n := len(c.open); n > c.first && c.open[n-1].pos == pos && len(nacks) == 0 {
		c.open[n-1].to = c.last
		return
	}
	if c.first > 0 && c.first*2 >= len(c.open) {
		n := copy(c.open, c.open[c.first:])
		clear(c.open[n:])
		c.open, c.first = c.open[:n], 0
	}
	r := run{to: c.last, pos: pos}
	if len(nacks) > 0 {
		r.nacks = append([]uint64(nil), nacks...)
	}
	c.open = append(c.open, r)
}

// Waiting tells whether anything awaits a position.
func (c *Confirms) Waiting() bool { return c.first < len(c.open) }

// Outcome is one basic.ack or basic.nack to send.
type Outcome struct {
	Seq      uint64
	Multiple bool
	Nack     bool
}

// Release appends to dst what may be sent now that durable is on disk.
func (c *Confirms) Release(dst []Outcome, durable Position) []Outcome {
	ackTo := c.acked // highest publish known good, not yet in dst
	flush := func() {
		if ackTo > c.acked {
			dst = append(dst, Outcome{Seq: ackTo, Multiple: ackTo > c.acked+1})
			c.acked = ackTo
		}
	}
	for c.first < len(c.open) && c.open[c.first].pos <= durable {
		r := &c.open[c.first]
		for _, n := range r.nacks {
			ackTo = n - 1
			flush()
			dst = append(dst, Outcome{Seq: n, Nack: true})
			c.acked, ackTo = n, n
		}
		ackTo = r.to
		r.nacks = nil
		c.first++
	}
	flush()
	if c.first == len(c.open) {
		c.open, c.first = c.open[:0], 0
	}
	return dst
}
