package queue

// Restore puts a message back that the log knows of, when a queue is rebuilt.
// Seqs may come in any order, also ones below those restored before. Nothing is
// delivered or dropped; the host calls Restored when all are there. This and the
// methods below do nothing for messages in a cold page: the host warms what ColdIn
// names before.
func (m *Machine) Restore(s Seq, e Entry, enqueued Time, ttlMillis int64, count uint32) bool {
	if s.level() >= len(m.levels) {
		return false
	}
	l := &m.levels[s.level()]
	if at := l.slotOf(s.pos() / pageLen); at.cold != nil || at.p != nil && l.isLive(at.p, s.pos()) {
		return false // the log may hold a message twice: copied before a crash
	}
	l.place(s.pos(), e, m.deadline(enqueued, ttlMillis))
	m.ready++
	m.readyBytes += int64(e.BodyBytes)
	if count > 0 {
		m.setTries(s, Tries{Returned: count})
	}
	return true
}

// RestoreMoved tells that a message stands elsewhere now. It returns the old
// reference; ok is false if the message is not there.
func (m *Machine) RestoreMoved(s Seq, ref uint64) (old uint64, ok bool) {
	_, p := m.locate(s)
	if p == nil || !m.levels[s.level()].isLive(p, s.pos()) {
		return 0, false
	}
	e := &p.entries[s.pos()%pageLen]
	old, e.Ref = e.Ref, ref
	p.changed = true
	return old, true
}

// RestoreSettled ends a range of messages (inclusive, of one level); free gets
// each reference that this frees.
func (m *Machine) RestoreSettled(from, to Seq, free func(Entry)) {
	m.eachLive(from, to, func(l *list, p *page, pos uint64) {
		e := p.entries[pos%pageLen]
		l.done(p, pos)
		m.ready--
		m.readyBytes -= int64(e.BodyBytes)
		if len(m.tries) > 0 {
			delete(m.tries, makeSeq(from.level(), pos))
		}
		free(e)
	})
	if from.level() < len(m.levels) {
		l := &m.levels[from.level()]
		l.tail = max(l.tail, to.pos()+1)
	}
}

// RestoreDelivered marks a range of messages as handed out before.
func (m *Machine) RestoreDelivered(from, to Seq) {
	m.eachLive(from, to, func(_ *list, p *page, pos uint64) {
		p.entries[pos%pageLen].Flags |= Redelivered | unsettled
	})
}

// RestoreReturned sets how often a message has come back. With 0 it has been
// taken back before it reached anybody.
func (m *Machine) RestoreReturned(s Seq, t Tries) {
	m.eachLive(s, s, func(_ *list, p *page, pos uint64) {
		e := &p.entries[pos%pageLen]
		e.Flags &^= Redelivered | unsettled
		if t.Returned > 0 {
			e.Flags |= Redelivered
			m.setTries(s, t)
		}
	})
}

// RestoreDied marks a message as dead.
func (m *Machine) RestoreDied(s Seq, why Reason) {
	m.eachLive(s, s, func(_ *list, p *page, pos uint64) {
		e := &p.entries[pos%pageLen]
		e.Flags = e.Flags&^deathMask | Flags(why)<<deathShift&deathMask
	})
}

// Restored ends a rebuild: the queue takes messages from now on. The facts it
// appends say what the crash has counted; until they are logged, another crash
// is the same one.
func (m *Machine) Restored(now Time, out *Output) {
	if m.cfg.CountCrashes {
		m.countCrashes(out)
		m.startDelays(now)
	}
	for level := range m.levels {
		m.levels[level].seal()
	}
	m.lastUsed = now
}

func (m *Machine) eachLive(from, to Seq, f func(l *list, p *page, pos uint64)) {
	if from.level() >= len(m.levels) {
		return
	}
	l := &m.levels[from.level()]
	for pos, end := max(from.pos(), l.base*pageLen), min(to.pos()+1, l.tail); pos < end; pos++ {
		p := l.pageOf(pos)
		if p == nil {
			pos = pos/pageLen*pageLen + pageLen - 1
			continue
		}
		if l.isLive(p, pos) {
			p.changed = true
			f(l, p, pos)
		}
	}
}

func (l *list) isLive(p *page, pos uint64) bool {
	i := pos % pageLen
	return (p.ready[i/64]|p.out[i/64])>>(i%64)&1 != 0
}

// slotFor makes the deque reach a page number, and returns its slot.
func (l *list) slotFor(n uint64) *slot {
	if l.first == len(l.pages) {
		l.pages, l.first, l.base = l.pages[:0], 0, n
	}
	if n < l.base { // rare: moved by a compaction
		grown := make([]slot, l.base-n, l.base-n+uint64(len(l.pages)-l.first))
		l.pages, l.first, l.base = append(grown, l.pages[l.first:]...), 0, n
	}
	for l.first+int(n-l.base) >= len(l.pages) {
		l.pages = append(l.pages, slot{})
	}
	return &l.pages[l.first+int(n-l.base)]
}

// place puts an entry at a position, wherever that is. Its page is not cold.
func (l *list) place(pos uint64, e Entry, deadline Time) {
	n, i := pos/pageLen, pos%pageLen
	s := l.slotFor(n)
	if s.p == nil {
		s.p = l.takeSpare()
		l.hot++
	}
	p := s.p
	p.fill(i + 1)
	p.entries[i] = e
	p.changed = true
	if e.Flags.unkept() {
		p.unkept = true
	}
	if deadline != Never || len(p.deadlines) > 0 {
		for uint64(len(p.deadlines)) < uint64(len(p.entries)) {
			p.deadlines = append(p.deadlines, Never)
		}
		p.deadlines[i] = deadline
	}
	p.ready[i/64] |= 1 << (i % 64)
	p.live++
	l.ready++
	l.tail = max(l.tail, pos+1)
	l.head = min(l.head, pos)
}

// fill makes a page n entries long; the new ones are done.
func (p *page) fill(n uint64) {
	for uint64(len(p.entries)) < n {
		p.entries = append(p.entries, Entry{})
	}
}

// seal gives the list the shape that push relies on: the deque ends with the page
// before that of the next position, or with that one, filled up to it; and what
// holds nothing is given back.
func (l *list) seal() {
	for at := l.first; at < len(l.pages); at++ {
		if p := l.pages[at].p; p != nil && p.live == 0 {
			l.pages[at] = slot{}
			l.hot--
		}
	}
	l.trim()
	n, i := l.tail/pageLen, l.tail%pageLen
	if i == 0 {
		for l.first < len(l.pages) && l.first+int(n-l.base) > len(l.pages) {
			l.pages = append(l.pages, slot{})
		}
		return
	}
	if l.first == len(l.pages) {
		l.pages, l.first, l.base = append(l.pages[:0], slot{}), 0, n
	}
	for l.first+int(n-l.base) >= len(l.pages) {
		l.pages = append(l.pages, slot{})
	}
	at := l.first + int(n-l.base)
	if l.pages[at].p == nil {
		l.pages[at].p = l.takeSpare()
		l.hot++
	}
	l.pages[at].p.fill(i)
	if p := l.pages[at].p; len(p.deadlines) > 0 {
		for uint64(len(p.deadlines)) < i {
			p.deadlines = append(p.deadlines, Never)
		}
	}
}
