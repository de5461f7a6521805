package queue

// Foresee appends the facts that Settle would record for a message, if it is out and its facts are kept. A host that
// has to know how much it is going to log before anything changes asks here; the
// answer holds until the message's next input.
func (m *Machine) Foresee(facts []Fact, s Seq) []Fact {
	if !m.outAndKept(s) {
		return facts
	}
	return extend(facts, Settled, s)
}

// ForeseeReturn does the same for Return as GivenBack or Failed.
func (m *Machine) ForeseeReturn(facts []Fact, s Seq, how How) []Fact {
	if !m.outAndKept(s) {
		return facts
	}
	t := m.tries[s].after(how)
	facts = append(facts, Fact{Kind: Returned, Seq: s, Tries: t})
	if how == Failed && m.over(t) {
		return m.foreseeDeath(facts, s, DeliveryLimit)
	}
	return facts
}

// ForeseeReject does the same for Reject.
func (m *Machine) ForeseeReject(facts []Fact, s Seq) []Fact {
	if !m.outAndKept(s) {
		return facts
	}
	return m.foreseeDeath(facts, s, Rejected)
}

func (m *Machine) foreseeDeath(facts []Fact, s Seq, why Reason) []Fact {
	switch {
	case !m.cfg.HasDLX:
		return extend(facts, Settled, s)
	case m.cfg.AtLeastOnce:
		return append(facts, Fact{Kind: Died, Seq: s, Reason: why})
	}
	return facts // it is settled where it goes
}

func (m *Machine) outAndKept(s Seq) bool {
	l, p := m.locate(s)
	return p != nil && l.isOut(p, s.pos()) && !l.isMoving(p, s.pos()) && p.entries[s.pos()%pageLen].Flags&Persistent != 0
}
