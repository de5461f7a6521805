package queue

const millisecond = 1_000_000

// deadline is when a message offered now expires: the smaller of its own time
// to live and the queue's.
func (m *Machine) deadline(now Time, ttlMillis int64) Time {
	ttl := ttlMillis
	if q := m.cfg.MessageTTLMs; q >= 0 && (ttl < 0 || q < ttl) {
		ttl = q
	}
	if ttl < 0 {
		return Never
	}
	m.expiring = true
	return now + Time(ttl)*millisecond
}

// Expire ends what is past its time at the head of each level (RabbitMQ's rule:
// a message behind one that lives longer waits for it, but is never delivered).
func (m *Machine) Expire(now Time, out *Output) {
	m.retryParked(now, out)
	back := m.endDelays(now)
	if m.expiring {
		for level := range m.levels {
			m.expireLevel(&m.levels[level], level, now, out)
		}
	}
	if back {
		m.Dispatch(now, out)
	}
}

func (m *Machine) expireLevel(l *list, level int, now Time, out *Output) {
	for {
		pos, p, ok := l.peek()
		if !ok && l.coldHead() != nil && l.coldHead().Expiring {
			out.Warm = true
		}
		if !ok || p.deadline(pos) > now {
			return
		}
		m.kill(l, level, p, pos, Expired, out)
	}
}

// Idle tells whether the queue has been out of use for its x-expires: the host
// then deletes it, without dead-lettering its messages.
func (m *Machine) Idle(now Time) bool {
	return m.cfg.ExpiresMs >= 0 && len(m.consumers.all) == 0 && now >= m.lastUsed+Time(m.cfg.ExpiresMs)*millisecond
}

// Timed tells whether NextDeadline can be anything but Never.
func (m *Machine) Timed() bool {
	return m.expiring || m.cfg.ExpiresMs >= 0 || m.parked.count > 0 || len(m.delayed.due) > 0
}

// NextDeadline is when the host has to call Expire and Idle next.
func (m *Machine) NextDeadline() Time {
	next := Never
	if m.parked.count > 0 && m.parked.left == 0 {
		next = m.parked.at
	}
	if len(m.delayed.due) > 0 {
		next = min(next, m.delayed.due[0].at)
	}
	if m.expiring {
		for level := range m.levels {
			l := &m.levels[level]
			if pos, p, ok := l.peek(); ok {
				next = min(next, p.deadline(pos))
			} else if c := l.coldHead(); c != nil && c.Expiring {
				return 0 // Expire asks for the page
			}
		}
	}
	if m.cfg.ExpiresMs >= 0 && len(m.consumers.all) == 0 {
		next = min(next, m.lastUsed+Time(m.cfg.ExpiresMs)*millisecond)
	}
	return next
}
