package queue

// Foresee appends the fact that ending (Settled) or giving back (Returned, and
// counted) a message would record, if it is out and its facts are kept. A host
// that has to know how much it is going to log before anything changes asks here;
// the answer holds until the message's next input.
func (m *Machine) Foresee(facts []Fact, kind FactKind, s Seq) []Fact {
	l, p := m.locate(s)
	if p == nil || !l.isOut(p, s.pos()) || l.isMoving(p, s.pos()) || p.entries[s.pos()%pageLen].Flags&Persistent == 0 {
		return facts
	}
	if kind == Returned {
		return append(facts, Fact{Kind: Returned, Seq: s, Count: m.counts[s] + 1})
	}
	return extend(facts, kind, s)
}
