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

// Return puts a message that is out back to its place, ready or delayed, and marked
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
	switch {
	case how == Failed && m.over(m.tries[s]):
		m.kill(l, s.level(), p, s.pos(), DeliveryLimit, out)
	case m.cfg.Retry.applies(how):
		m.delay(l, p, s)
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
// failed. What is over the limit by that, or died before, is parked, or ends
// without a dead-letter exchange.
func (m *Machine) countCrashes(out *Output) {
	for level := range m.levels {
		l := &m.levels[level]
		for i := l.first; i < len(l.pages); i++ {
			l.eachInPage(i, func(p *page, pos uint64) { m.countCrash(l, p, makeSeq(level, pos), out) })
		}
	}
}

func (m *Machine) countCrash(l *list, p *page, s Seq, out *Output) {
	e := &p.entries[s.pos()%pageLen]
	died := e.Flags.death()
	crashed := e.Flags&unsettled != 0 && died == 0
	if e.Flags&(unsettled|parkedFlag) != 0 {
		e.Flags &^= unsettled | parkedFlag
		p.changed = true
	}
	if crashed {
		e.Flags |= Redelivered
		m.setTries(s, m.tries[s].after(Failed))
		out.Facts = append(out.Facts, Fact{Kind: Returned, Seq: s, Tries: m.tries[s]})
	}
	switch {
	case died != 0:
		m.parkRestored(l, p, s, died)
	case !m.over(m.tries[s]):
		t, r := m.tries[s], &m.cfg.Retry
		if r.Failed && t.Failed > 0 || r.GivenBack && t.Returned > t.Failed {
			m.delay(l, p, s) // when its delay began is not known: it begins anew
		}
	case m.cfg.HasDLX:
		m.parkRestored(l, p, s, DeliveryLimit)
		if m.cfg.AtLeastOnce {
			out.Facts = append(out.Facts, Fact{Kind: Died, Seq: s, Reason: DeliveryLimit})
		}
	default:
		m.kill(l, s.level(), p, s.pos(), DeliveryLimit, out)
	}
}
