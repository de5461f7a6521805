package queue

// Cursor says how far a walk over a queue has come. The zero value starts.
type Cursor struct {
	level int
	page  uint64 // number of the next page of that level
}

// Relocate walks one page of entries and lets the host move bodies: f returns a
// body's new reference, or the old one. Cold pages are passed over; messages that are on their way to a
// dead-letter exchange are left out, because the host holds their reference. It
// reports whether there is more to walk.
func (m *Machine) Relocate(c *Cursor, f func(Entry) uint64) (more bool) {
	return m.walkPage(c, func(_ *list, p *page, pos uint64) {
		e := &p.entries[pos%pageLen]
		if ref := f(*e); ref != e.Ref {
			e.Ref, p.changed = ref, true
		}
	})
}

func (m *Machine) walkPage(c *Cursor, f func(l *list, p *page, pos uint64)) (more bool) {
	l, i, ok := c.at(m)
	if !ok {
		return false
	}
	l.eachInPage(i, func(p *page, pos uint64) {
		if !l.isMoving(p, pos) || p.entries[pos%pageLen].Flags&parkedFlag != 0 {
			f(l, p, pos)
		}
	})
	c.page++
	return true
}

// at is the slot that the cursor has come to, the first of the next level where one
// ends; ok is false behind the last.
func (c *Cursor) at(m *Machine) (l *list, i int, ok bool) {
	for ; c.level < len(m.levels); c.level, c.page = c.level+1, 0 {
		l = &m.levels[c.level]
		c.page = max(c.page, l.base)
		if i = l.first + int(c.page-l.base); i < len(l.pages) {
			return l, i, true
		}
	}
	return nil, 0, false
}

// Held is one message as Walk shows it.
type Held struct {
	Seq      Seq
	Entry    Entry
	Deadline Time
	Tries    Tries
	Priority uint8
	Out      bool // with a consumer
	// Unsettled: it was out when the broker ended; while a queue is rebuilt.
	Unsettled bool
	// Died is why it is dead, if it is kept until every target has it.
	Died Reason
}

// Walk shows the messages of one page, unless it is cold, and except those on
// their way to a dead-letter exchange. It reports whether there is more to walk.
func (m *Machine) Walk(c *Cursor, f func(Held)) (more bool) {
	return m.walkPage(c, func(l *list, p *page, pos uint64) {
		s := makeSeq(c.level, pos)
		e := p.entries[pos%pageLen]
		f(Held{s, e, p.deadline(pos), m.tries[s], uint8(c.level), l.isOut(p, pos) && !l.isMoving(p, pos), e.Flags&unsettled != 0, e.Flags.death()})
	})
}

// Holds tells whether a message is still there, in a page that is not cold, with
// that reference, and not on its way to a dead-letter exchange.
func (m *Machine) Holds(s Seq, ref uint64) bool {
	l, p := m.locate(s)
	if p == nil || !l.isLive(p, s.pos()) {
		return false
	}
	e := p.entries[s.pos()%pageLen]
	return e.Ref == ref && (!l.isMoving(p, s.pos()) || e.Flags&parkedFlag != 0)
}

// Moved gives a message that Holds its new reference.
func (m *Machine) Moved(s Seq, ref uint64) {
	_, p := m.locate(s)
	p.entries[s.pos()%pageLen].Ref = ref
	p.changed = true
}

// SetAside takes the message at the head out of the way if its body has that
// reference: it is out with nobody from then on.
func (m *Machine) SetAside(ref uint64) bool {
	for level := len(m.levels) - 1; level >= 0; level-- {
		l := &m.levels[level]
		pos, p, ok := l.peek()
		if !ok || p.entries[pos%pageLen].Ref != ref {
			continue
		}
		m.ready--
		m.readyBytes -= int64(p.entries[pos%pageLen].BodyBytes)
		l.take(p, pos, false)
		m.unacked++
		m.outBytes += int64(p.entries[pos%pageLen].BodyBytes)
		return true
	}
	return false
}
