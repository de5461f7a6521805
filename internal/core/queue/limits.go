package queue

// wouldOverflow tells whether one more ready message of that size is over a
// limit. As in RabbitMQ it asks before looking for a consumer.
func (m *Machine) wouldOverflow(bodyBytes uint32) bool {
	return m.cfg.MaxLength >= 0 && int64(m.ready)+1 > m.cfg.MaxLength ||
		m.cfg.MaxLengthBytes >= 0 && m.readyBytes+int64(bodyBytes) > m.cfg.MaxLengthBytes
}

// dropOverflow drops from the head, highest priority first, until the ready
// messages are within the limits again.
func (m *Machine) dropOverflow(out *Output) {
	if m.cfg.Overflow != DropHead || m.cfg.MaxLength < 0 && m.cfg.MaxLengthBytes < 0 {
		return
	}
	for m.ready > 0 && (m.cfg.MaxLength >= 0 && int64(m.ready) > m.cfg.MaxLength ||
		m.cfg.MaxLengthBytes >= 0 && m.readyBytes > m.cfg.MaxLengthBytes) {
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
		l.take(p, pos, true)
		m.moving++
		out.Dead = append(out.Dead, Dead{Seq: s, Entry: e, Reason: why})
		return
	}
	l.done(p, pos)
	m.forget(s, e, out)
	out.Released = append(out.Released, e)
}
