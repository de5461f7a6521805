package queue

import "slices"

// A queue that dead-letters at least once (RabbitMQ documentation, "Quorum
// Queues", "Dead Lettering") keeps a message until every target has it. Its host
// parks what a target refuses or nobody wants: the message stays dead, counts
// against the limits on length, and Expire hands it out again later.
const (
	// retryRound is how many parked messages are tried at a time.
	retryRound = 32
	// The pause after rounds that have moved nothing: it doubles, from the first
	// to the second of these. A round that has moved something is followed by the
	// next at once.
	retryFirst Time = 1_000 * millisecond
	retryMost  Time = 30_000 * millisecond
)

// parking is the dead letters of a queue that wait for another attempt. A few are
// tried all together. Of many the oldest is tried first, so that order is kept
// where all of them wait for the same; if it moves, those behind it follow, and if
// not, another stretch has its turn, so that what nobody wants holds up nobody.
type parking struct {
	seqs   []Seq // in the order in which they were parked; some may be gone
	count  int   // of those that are parked now
	cursor int   // in seqs: where the last round ended
	resume int   // where the one before a probe did
	round  []Seq // handed out by the last round
	left   int   // of them, not heard of yet
	probe  bool  // the last round was the oldest alone
	moved  bool  // something of the last round has moved
	at     Time  // of the next round
	pause  Time  // after it, if it moves nothing
}

// heard notes that one message of the last round has moved, or has not.
func (k *parking) heard(s Seq, moved bool) (inRound bool) {
	if !slices.Contains(k.round, s) {
		return false
	}
	k.left--
	k.moved = k.moved || moved
	if k.left == 0 && (k.moved || k.probe) {
		k.at = 0
	}
	return true
}

// Flags of a dead letter: why it died, and whether it is parked.
const (
	deathShift       = 5
	deathMask  Flags = 7 << deathShift
)

func (f Flags) death() Reason { return Reason(f & deathMask >> deathShift) }

// die puts a message that is ready or out on its way to the dead-letter
// exchange. The caller keeps the count of the state that it leaves.
func (m *Machine) die(l *list, level int, p *page, pos uint64, why Reason, out *Output) {
	i := pos % pageLen
	if l.isOut(p, pos) {
		p.ready[i/64] |= 1 << (i % 64) // out and ready together: moving
		p.changed = true
	} else {
		l.take(p, pos, true)
	}
	e, s := &p.entries[i], makeSeq(level, pos)
	m.moving++
	m.movingBytes += int64(e.BodyBytes)
	if m.cfg.AtLeastOnce {
		e.Flags = e.Flags&^deathMask | Flags(why)<<deathShift
		if e.Flags&Persistent != 0 {
			out.Facts = append(out.Facts, Fact{Kind: Died, Seq: s, Reason: why})
		}
	}
	out.Dead = append(out.Dead, Dead{Seq: s, Entry: *e, Reason: why})
}

// FinishMove ends a message that Output.Dead named, once it stands in its
// targets or nobody wants it.
func (m *Machine) FinishMove(s Seq, out *Output) bool {
	l, p := m.locate(s)
	if p == nil || !l.isMoving(p, s.pos()) || p.entries[s.pos()%pageLen].Flags&parkedFlag != 0 {
		return false
	}
	e := p.entries[s.pos()%pageLen]
	m.endMove(l, p, s, out)
	m.parked.heard(s, true)
	out.Released = append(out.Released, e)
	return true
}

func (m *Machine) endMove(l *list, p *page, s Seq, out *Output) {
	e := p.entries[s.pos()%pageLen]
	l.done(p, s.pos())
	m.moving--
	m.movingBytes -= int64(e.BodyBytes)
	m.forget(s, e, out)
}

// Park keeps a message that Output.Dead named, because not every target has it.
// From then on the host holds no reference to it. It is named again later.
func (m *Machine) Park(now Time, s Seq) bool {
	l, p := m.locate(s)
	if p == nil || !l.isMoving(p, s.pos()) || p.entries[s.pos()%pageLen].Flags&parkedFlag != 0 {
		return false
	}
	p.entries[s.pos()%pageLen].Flags |= parkedFlag
	p.changed = true
	k := &m.parked
	k.count++
	if k.heard(s, false) {
		return true // its place is kept
	}
	if k.count == 1 && k.left == 0 {
		*k = parking{count: 1, at: now + retryFirst, pause: 2 * retryFirst, seqs: k.seqs[:0], round: k.round[:0]}
	}
	k.seqs = append(k.seqs, s)
	return true
}

// parkRestored does the same while a queue is rebuilt, for a message that is ready.
func (m *Machine) parkRestored(l *list, p *page, s Seq, why Reason) {
	e := &p.entries[s.pos()%pageLen]
	m.ready--
	m.readyBytes -= int64(e.BodyBytes)
	l.take(p, s.pos(), true)
	m.moving++
	m.movingBytes += int64(e.BodyBytes)
	e.Flags = e.Flags&^deathMask | Flags(why)<<deathShift | parkedFlag
	m.parked.seqs = append(m.parked.seqs, s)
	m.parked.count++
	m.parked.pause = retryFirst // they are due, as at is zero
}

// ParkedCount is the number of dead letters that wait for another attempt. They
// are among MovingCount.
func (m *Machine) ParkedCount() int { return m.parked.count }

// retryParked hands out the next round, if it is time and the last one is over.
func (m *Machine) retryParked(now Time, out *Output) {
	k := &m.parked
	if k.count == 0 || k.left > 0 || now < k.at {
		return
	}
	moved, probed := k.moved, k.probe
	if probed && !moved {
		k.cursor = max(k.cursor, k.resume)
	}
	k.compact(m)
	k.round, k.moved, k.probe = k.round[:0], false, false
	if moved {
		k.pause = retryFirst
	}
	k.at = now + k.pause
	switch {
	case moved || probed:
		m.handOutParked(k.cursor, retryRound, out)
	case k.count > retryRound:
		k.probe, k.resume = true, k.cursor
		m.handOutParked(0, 1, out)
		return
	default:
		m.handOutParked(0, retryRound, out)
	}
	k.pause = min(2*k.pause, retryMost)
}

// handOutParked names up to n parked messages, from an index on and around the end.
func (m *Machine) handOutParked(from, n int, out *Output) {
	k := &m.parked
	for range k.seqs {
		if len(k.round) == n {
			break
		}
		if from >= len(k.seqs) {
			from = 0
		}
		s := k.seqs[from]
		from++
		if l, p := m.locate(s); p != nil && l.isMoving(p, s.pos()) {
			e := &p.entries[s.pos()%pageLen]
			e.Flags &^= parkedFlag
			p.changed = true
			k.round = append(k.round, s)
			out.Dead = append(out.Dead, Dead{Seq: s, Entry: *e, Reason: e.Flags.death()})
		}
	}
	k.cursor = from
	k.left = len(k.round)
	k.count -= len(k.round)
}

// compact forgets those that are gone once they are half of the list.
func (k *parking) compact(m *Machine) {
	if len(k.seqs) < 2*k.count {
		return
	}
	n, cursor := 0, 0
	for i, s := range k.seqs {
		if l, p := m.locate(s); p != nil && l.isMoving(p, s.pos()) {
			k.seqs[n] = s
			n++
			if i < k.cursor {
				cursor = n
			}
		}
	}
	k.seqs, k.cursor = k.seqs[:n], cursor
	if n < cap(k.seqs)/4 {
		k.seqs = slices.Clone(k.seqs) // a long list does not stay for a short one
	}
}

// purgeParked drops the parked dead letters and returns how many that was.
func (m *Machine) purgeParked(out *Output) (n int) {
	for _, s := range m.parked.seqs {
		l, p := m.locate(s)
		if p == nil || !l.isMoving(p, s.pos()) || p.entries[s.pos()%pageLen].Flags&parkedFlag == 0 {
			continue // gone, or in the round: it is being tried
		}
		e := p.entries[s.pos()%pageLen]
		m.endMove(l, p, s, out)
		out.Released = append(out.Released, e)
		n++
	}
	k := &m.parked
	k.count = 0
	k.compact(m)
	return n
}
