package queue

import "slices"

// compareOutput compares what an input produced, keeps the ledger of references
// and replays the facts.
func (p *pair) compareOutput() {
	p.t.Helper()
	p.compareDeliveries()
	p.compareDead()
	p.unshelve()
	var released []uint64
	for _, e := range p.out.Released {
		released = append(released, e.Ref)
		p.release(e.Ref)
	}
	slices.Sort(released)
	slices.Sort(p.n.out.released)
	if !slices.Equal(released, p.n.out.released) {
		p.t.Fatalf("%s: released %v, want %v", p.lastOp, released, p.n.out.released)
	}
	if p.out.Unused != p.n.out.unused {
		p.t.Fatalf("%s: unused %t, want %t", p.lastOp, p.out.Unused, p.n.out.unused)
	}
	for _, f := range p.out.Facts {
		for _, one := range singles(f) {
			p.replay(one)
		}
	}
	p.n.out = naiveOutput{}
	p.out.Reset()
}

// unshelve counts what went with cold pages as released.
func (p *pair) unshelve() {
	if p.shelf != nil {
		p.out.Released = append(p.out.Released, p.shelf.release(p.out.Cold)...)
	}
}

func (p *pair) compareDeliveries() {
	p.t.Helper()
	var got []naiveDelivery
	for _, d := range p.out.Deliveries {
		x := naiveDelivery{consumer: -1, ref: d.Entry.Ref, redelivered: d.Entry.Flags&Redelivered != 0, tries: d.Tries, done: d.Done}
		if d.Consumer != nil {
			x.consumer = d.Consumer.Gate.(*shared).id
		}
		got = append(got, x)
		p.learn(d.Seq, d.Entry)
		if d.Done {
			p.release(d.Entry.Ref)
		}
	}
	if !slices.Equal(got, p.n.out.deliveries) {
		p.t.Fatalf("%s: delivered %+v, want %+v", p.lastOp, got, p.n.out.deliveries)
	}
}

func (p *pair) compareDead() {
	p.t.Helper()
	var got []naiveDead
	for _, d := range p.out.Dead {
		got = append(got, naiveDead{d.Entry.Ref, d.Reason})
		p.learn(d.Seq, d.Entry)
	}
	if !slices.Equal(got, p.n.out.dead) {
		p.t.Fatalf("%s: dead %+v, want %+v", p.lastOp, got, p.n.out.dead)
	}
}

// learn notes the name that the machine gives a message; it keeps it for ever.
func (p *pair) learn(s Seq, e Entry) {
	p.t.Helper()
	m := p.n.find(e.Ref)
	if m == nil {
		return // done with its delivery
	}
	if m.seen {
		if m.seq != s {
			p.t.Fatalf("message %d was %x and is now %x", e.Ref, m.seq, s)
		}
		return
	}
	if p.seqs[s] {
		p.t.Fatalf("%x names a second message", s)
	}
	p.seqs[s] = true
	m.seq, m.seen = s, true
}

func (p *pair) release(ref uint64) {
	p.t.Helper()
	if !p.refs[ref] {
		p.t.Fatalf("%s: reference %d is released twice", p.lastOp, ref)
	}
	delete(p.refs, ref)
}

// singles takes a fact about a range apart.
func singles(f Fact) (list []Fact) {
	if f.Kind != Settled && f.Kind != Delivered {
		return []Fact{f}
	}
	for s := f.Seq; s <= f.To; s++ {
		list = append(list, Fact{Kind: f.Kind, Seq: s, To: s})
	}
	return list
}

// replay applies a fact as a log's reader would.
func (p *pair) replay(f Fact) {
	p.t.Helper()
	r := p.log[f.Seq]
	if r == nil && f.Kind == Settled && p.coldPurge {
		return // a cold page goes whole: what was done before is done again
	}
	if (r == nil) != (f.Kind == Enqueued) {
		p.t.Fatalf("%s: fact %+v does not fit what the log knows: %+v", p.lastOp, f, r)
	}
	switch f.Kind {
	case Enqueued:
		p.log[f.Seq] = &replayed{ref: f.Entry.Ref}
	case Delivered:
		r.out = true
	case Returned:
		if !r.out {
			p.t.Fatalf("%s: %x is returned and was not out", p.lastOp, f.Seq)
		}
		r.out, r.tries = false, f.Tries
	case Died:
		r.died = f.Reason
	case Settled:
		delete(p.log, f.Seq)
	}
}

// check compares what both hold.
func (p *pair) check() {
	p.checkCounts()
	if len(p.refs) != len(p.n.list) {
		p.t.Fatalf("%s: %d references for %d messages", p.lastOp, len(p.refs), len(p.n.list))
	}
	next := Never
	if k := &p.n.parking; len(k.round) == 0 && k.waiting() > 0 {
		next = k.at
	}
	for _, m := range p.inState(naiveDelayed) {
		next = min(next, m.readyAt)
	}
	for level := 0; level <= max(p.n.cfg.MaxPriority, 0); level++ {
		if m := p.n.headOf(level); m != nil {
			next = min(next, m.deadline)
		}
	}
	if got := p.m.NextDeadline(); got != next || next != Never && !p.m.Timed() {
		p.t.Fatalf("%s: next deadline in %d, want %d", p.lastOp, got-p.now, next-p.now)
	}
	p.checkLog()
	p.checkPages()
}

// checkCounts compares what holds with cold pages too.
func (p *pair) checkCounts() {
	ready, bytes := p.n.count(naiveReady)
	out, _ := p.n.count(naiveOut)
	moving, _ := p.n.count(naiveMoving)
	parked, _ := p.n.count(naiveParked)
	moving += parked
	delayed, delayedBytes := p.n.count(naiveDelayed)
	if p.m.DelayedCount() != delayed || p.m.DelayedBytes() != delayedBytes {
		p.t.Fatalf("%s: %d delayed with %d bytes, want %d with %d", p.lastOp, p.m.DelayedCount(), p.m.DelayedBytes(), delayed, delayedBytes)
	}
	if p.m.ParkedCount() != parked {
		p.t.Fatalf("%s: %d parked, want %d", p.lastOp, p.m.ParkedCount(), parked)
	}
	if p.m.ReadyCount() != ready || p.m.ReadyBytes() != bytes || p.m.UnackedCount() != out || p.m.MovingCount() != moving {
		p.t.Fatalf("%s: %d ready (%d bytes), %d out, %d moving; want %d (%d), %d, %d", p.lastOp,
			p.m.ReadyCount(), p.m.ReadyBytes(), p.m.UnackedCount(), p.m.MovingCount(), ready, bytes, out, moving)
	}
	if p.m.ConsumerCount() != len(p.n.consumers) {
		p.t.Fatalf("%s: %d consumers, want %d", p.lastOp, p.m.ConsumerCount(), len(p.n.consumers))
	}
}

func (p *pair) checkLog() {
	byRef := map[uint64]*replayed{}
	for _, r := range p.log {
		byRef[r.ref] = r
	}
	persistent, counted := 0, 0
	for _, m := range p.n.list {
		if m.seen && p.m.Tries(m.seq) != m.tries {
			p.t.Fatalf("%s: message %d came back %+v times, want %+v", p.lastOp, m.ref, p.m.Tries(m.seq), m.tries)
		}
		if m.tries.Returned > 0 {
			counted++
		}
		if !m.persistent {
			continue
		}
		persistent++
		r := byRef[m.ref]
		if r == nil {
			p.t.Fatalf("%s: the log does not know message %d", p.lastOp, m.ref)
		}
		if r.tries != m.tries || m.state < naiveMoving && r.out != (m.state == naiveOut) ||
			p.n.cfg.AtLeastOnce && r.died != m.reason {
			p.t.Fatalf("%s: the log has message %d as %+v, but it is %+v", p.lastOp, m.ref, r, m)
		}
	}
	if len(p.log) != persistent {
		p.t.Fatalf("%s: %d messages in the log, want %d", p.lastOp, len(p.log), persistent)
	}
	if len(p.m.tries) != counted {
		p.t.Fatalf("%s: counts of %d messages are kept, want %d", p.lastOp, len(p.m.tries), counted)
	}
}

// checkPages looks inside: no page is kept that holds nothing, but for the one
// being written and one spare.
func (p *pair) checkPages() {
	for level := range p.m.levels {
		l := &p.m.levels[level]
		live := 0
		hot, cold := 0, 0
		for i, s := range l.pages {
			if s.empty() {
				continue
			}
			if i < l.first {
				p.t.Fatalf("%s: a page before the first", p.lastOp)
			}
			if s.cold != nil {
				live += int(s.cold.Messages)
				cold++
				continue
			}
			hot++
			pg := s.p
			live += pg.live
			if pg.live == 0 && (i != len(l.pages)-1 || len(pg.entries) == pageLen) {
				p.t.Fatalf("%s: page %d of %d holds nothing and is kept", p.lastOp, i, len(l.pages))
			}
			if len(pg.entries) > pageLen || cap(pg.entries) > pageLen {
				p.t.Fatalf("%s: a page of %d entries", p.lastOp, cap(pg.entries))
			}
		}
		if hot != l.hot || cold != l.cold {
			p.t.Fatalf("%s: %d pages in memory and %d cold, counted are %d and %d", p.lastOp, hot, cold, l.hot, l.cold)
		}
		want := 0
		for _, m := range p.n.list {
			if m.level == level {
				want++
			}
		}
		if live != want {
			p.t.Fatalf("%s: pages of level %d hold %d messages, want %d", p.lastOp, level, live, want)
		}
		if l.first < len(l.pages) && l.pages[l.first].empty() {
			p.t.Fatalf("%s: the first page is none", p.lastOp)
		}
	}
}
