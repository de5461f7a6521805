package queue

// Tries is how often a message has come back from a consumer.
type Tries struct {
	Returned uint32 // in any way
	Failed   uint32 // of these, as failed deliveries; the delivery limit looks at them
}

// How says in which way a message comes back.
type How uint8

const (
	// Undelivered: it never reached a consumer. Nothing is counted.
	Undelivered How = iota
	// GivenBack: its consumer did not want it now (basic.nack, basic.recover).
	GivenBack
	// Failed: its consumer tried and failed (basic.reject), or went away with it.
	Failed
)

// Return puts a message that is out back to its place, ready, and marked
// redelivered unless it is Undelivered. One that has failed more often than the
// delivery limit allows dies instead. The caller calls Requeued when it has
// returned everything it wants to.
func (m *Machine) Return(s Seq, how How, out *Output) bool {
	l, p := m.locate(s)
	if p == nil || !l.isOut(p, s.pos()) || l.isMoving(p, s.pos()) {
		return false
	}
	e := &p.entries[s.pos()%pageLen]
	l.giveBack(p, s.pos())
	m.unacked--
	m.outBytes -= int64(e.BodyBytes)
	m.ready++
	m.readyBytes += int64(e.BodyBytes)
	if how != Undelivered {
		e.Flags |= Redelivered
		m.setTries(s, m.tries[s].after(how))
	}
	// Undelivered too: else a replay takes it for delivered, which it was not, unless
	// it had been before.
	if e.Flags&Persistent != 0 && (e.Flags&Redelivered == 0 || m.tries[s].Returned > 0) {
		out.Facts = append(out.Facts, Fact{Kind: Returned, Seq: s, Tries: m.tries[s]})
	}
	if how == Failed && m.over(m.tries[s]) {
		m.kill(l, s.level(), p, s.pos(), DeliveryLimit, out)
	}
	return true
}

// after is t once a message has come back again.
func (t Tries) after(how How) Tries {
	t.Returned++
	if how == Failed {
		t.Failed++
	}
	return t
}

func (m *Machine) setTries(s Seq, t Tries) {
	if m.tries == nil {
		m.tries = make(map[Seq]Tries)
	}
	m.tries[s] = t
}

// over tells whether a message has failed more often than it may.
func (m *Machine) over(t Tries) bool {
	return m.cfg.DeliveryLimit >= 0 && int64(t.Failed) > m.cfg.DeliveryLimit
}

// Tries is how often a message has come back.
func (m *Machine) Tries(s Seq) Tries { return m.tries[s] }

// countCrashes has everything that was out when the broker ended come back as
// failed. What is over the limit by that is owed: it dies at the first Expire.
func (m *Machine) countCrashes(out *Output) {
	for level := range m.levels {
		l := &m.levels[level]
		count := func(p *page, pos uint64) {
			e, s := &p.entries[pos%pageLen], makeSeq(level, pos)
			if e.Flags&unsettled != 0 {
				p.changed = true
				e.Flags = e.Flags&^unsettled | Redelivered
				m.setTries(s, m.tries[s].after(Failed))
				out.Facts = append(out.Facts, Fact{Kind: Returned, Seq: s, Tries: m.tries[s]})
			}
			if m.over(m.tries[s]) {
				m.ready--
				m.readyBytes -= int64(e.BodyBytes)
				l.take(p, pos, true)
				m.moving++
				m.owed = append(m.owed, s)
			}
		}
		for i := l.first; i < len(l.pages); i++ {
			l.eachInPage(i, count)
		}
	}
}

// settleOwed lets die what was over its limit when the queue was rebuilt.
func (m *Machine) settleOwed(out *Output) {
	for _, s := range m.owed {
		if _, p := m.locate(s); m.cfg.HasDLX {
			out.Dead = append(out.Dead, Dead{Seq: s, Entry: p.entries[s.pos()%pageLen], Reason: DeliveryLimit})
		} else {
			m.FinishMove(s, out)
		}
	}
	m.owed = nil
}
