package queue

// wouldOverflow tells whether one more ready message of that size is over a
// limit. As in RabbitMQ it asks before looking for a consumer, and what is delayed
// and dead letters that have to arrive count.
func (m *Machine) wouldOverflow(bodyBytes uint32) bool {
	messages, bytes := m.ready+m.delayed.count, m.readyBytes+m.delayed.bytes
	if m.cfg.AtLeastOnce {
		messages, bytes = messages+m.moving, bytes+m.movingBytes
	}
	return m.cfg.MaxLength >= 0 && int64(messages)+1 > m.cfg.MaxLength ||
		m.cfg.MaxLengthBytes >= 0 && bytes+int64(bodyBytes) > m.cfg.MaxLengthBytes
}

// Refuses tells whether Enqueue would refuse a message of that size.
func (m *Machine) Refuses(bodyBytes uint32) bool {
	return m.cfg.Overflow != DropHead && m.wouldOverflow(bodyBytes)
}

// dropOverflow drops from the head, highest priority first, until the ready
// messages are within the limits again.
func (m *Machine) dropOverflow(out *Output) {
	if m.cfg.Overflow != DropHead || m.cfg.MaxLength < 0 && m.cfg.MaxLengthBytes < 0 {
		return
	}
	for m.ready > 0 && (m.cfg.MaxLength >= 0 && int64(m.ready+m.delayed.count) > m.cfg.MaxLength ||
		m.cfg.MaxLengthBytes >= 0 && m.readyBytes+m.delayed.bytes > m.cfg.MaxLengthBytes) {
		level := len(m.levels) - 1
		for m.levels[level].ready == 0 {
			level--
		}
		l := &m.levels[level]
		pos, p, ok := l.peek()
		if !ok {
			out.Warm = true
			return
		}
		m.kill(l, level, p, pos, MaxLen, out)
	}
}

// kill ends a ready message: to the dead-letter exchange if there is one.
func (m *Machine) kill(l *list, level int, p *page, pos uint64, why Reason, out *Output) {
	e := p.entries[pos%pageLen]
	s := makeSeq(level, pos)
	m.ready--
	m.readyBytes -= int64(e.BodyBytes)
	if m.cfg.HasDLX {
		m.die(l, level, p, pos, why, out)
		return
	}
	l.done(p, pos)
	m.forget(s, e, out)
	out.Released = append(out.Released, e)
}
