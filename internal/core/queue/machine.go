package queue

// Machine is one queue. It is not safe for concurrent use: the host's queue
// lock guards it.
type Machine struct {
	// Resident, if set, tells whether a body is in memory. Only such are
	// delivered; for others Output.Fetch asks.
	Resident func(ref uint64) bool

	cfg       Config
	levels    []list // index is the priority
	consumers consumers

	ready       int
	unacked     int
	moving      int
	readyBytes  int64
	outBytes    int64 // bodies of the messages that are out
	movingBytes int64 // of those that are moving

	totals   Totals
	tries    map[Seq]Tries // of messages that came back
	parked   parking
	delayed  delays
	expiring bool // some message has had a deadline
	lastUsed Time // for ExpiresMs
}

// New returns an empty queue created at now.
func New(cfg Config, now Time) *Machine {
	m := &Machine{cfg: cfg, lastUsed: now}
	m.levels = make([]list, max(cfg.MaxPriority, 0)+1)
	m.consumers.single = cfg.SingleActive
	return m
}

// ReadyCount is the number of messages waiting to be delivered.
func (m *Machine) ReadyCount() int { return m.ready }

// ReadyBytes is the sum of the bodies of ready messages.
func (m *Machine) ReadyBytes() int64 { return m.readyBytes }

// UnackedCount is the number of messages out with consumers.
func (m *Machine) UnackedCount() int { return m.unacked }

// UnackedBytes is the sum of the bodies of the messages out with consumers.
func (m *Machine) UnackedBytes() int64 { return m.outBytes }

// MovingCount is the number of messages on their way to a dead-letter exchange.
func (m *Machine) MovingCount() int { return m.moving }

// MovingBytes is the sum of their bodies.
func (m *Machine) MovingBytes() int64 { return m.movingBytes }

// ConsumerCount is the number of consumers.
func (m *Machine) ConsumerCount() int { return len(m.consumers.all) }

// Consumers returns the consumers in order of subscription. The slice is the
// machine's own: read it under the queue lock and do not keep it.
func (m *Machine) Consumers() []*Consumer { return m.consumers.all }

// Verdict is what became of a message offered to Enqueue.
type Verdict uint8

const (
	// Accepted: the message is in the queue, or has been delivered, dropped or
	// expired by its rules.
	Accepted Verdict = iota
	// Refused: the queue is full and rejects publishes. The machine kept nothing.
	Refused
	// RefusedToDLX: as Refused, and the host dead-letters the message with
	// reason maxlen (x-overflow reject-publish-dlx).
	RefusedToDLX
)

// Enqueue offers one message. Deliveries that it makes possible, drops at the
// limit and messages that are already past their time are appended to out.
func (m *Machine) Enqueue(now Time, msg Message, out *Output) Verdict {
	if m.Refuses(msg.BodyBytes) {
		if m.cfg.Overflow == RejectPublishDLX && m.cfg.HasDLX {
			return RefusedToDLX
		}
		return Refused
	}
	level := 0
	if m.cfg.MaxPriority > 0 {
		level = min(int(msg.Priority), m.cfg.MaxPriority)
	}
	if !m.cfg.Durable {
		msg.Flags &^= Persistent
	}
	deadline := m.deadline(now, msg.TTLMillis)
	l := &m.levels[level]
	pos := l.push(msg.Entry, deadline)
	m.ready++
	m.readyBytes += int64(msg.BodyBytes)
	m.totals.Published++
	m.totals.Transient += uint64(1 - msg.Flags&Persistent)
	out.LastSeq = makeSeq(level, pos)
	if msg.Flags&Persistent != 0 && !out.NoEnqueued {
		out.Facts = append(out.Facts, Fact{Kind: Enqueued, Seq: out.LastSeq, Entry: msg.Entry})
	}
	if len(m.consumers.tiers) > 0 {
		m.Dispatch(now, out)
	}
	if deadline <= now {
		m.expireLevel(l, level, now, out)
	}
	m.dropOverflow(out)
	return Accepted
}

// Dispatch hands ready messages to consumers for as long as both last.
func (m *Machine) Dispatch(now Time, out *Output) {
	if len(m.consumers.all) == 0 {
		return // nobody to bring the head into memory for
	}
	for m.ready > 0 {
		l, level, p, pos := m.head(now, out)
		if l == nil {
			return
		}
		e := &p.entries[pos%pageLen]
		c := m.consumers.pick(int(e.BodyBytes))
		if c == nil {
			return
		}
		out.Deliveries = append(out.Deliveries, m.handOut(l, level, p, pos, c, c.NoAck, out))
	}
}

// head finds the next message to deliver: the first ready one of the highest
// level. What is past its deadline on the way expires.
func (m *Machine) head(now Time, out *Output) (*list, int, *page, uint64) {
	for level := len(m.levels) - 1; level >= 0; level-- {
		l := &m.levels[level]
		for l.ready > 0 {
			pos, p, ok := l.peek()
			if !ok {
				out.Warm = true
				return nil, 0, nil, 0
			}
			if m.expiring && p.deadline(pos) < now {
				m.kill(l, level, p, pos, Expired, out)
				continue
			}
			if ref := p.entries[pos%pageLen].Ref; m.Resident != nil && !m.Resident(ref) {
				out.Fetch = ref
				return nil, 0, nil, 0
			}
			return l, level, p, pos
		}
	}
	return nil, 0, nil, 0
}

func (m *Machine) handOut(l *list, level int, p *page, pos uint64, c *Consumer, noAck bool, out *Output) Delivery {
	e := p.entries[pos%pageLen]
	m.ready--
	m.readyBytes -= int64(e.BodyBytes)
	m.totals.handedOut(c != nil, noAck, e.Flags&Redelivered != 0)
	d := Delivery{Consumer: c, Seq: makeSeq(level, pos), Entry: e, Done: noAck}
	if len(m.tries) > 0 {
		d.Tries = m.tries[d.Seq]
	}
	if noAck {
		l.done(p, pos)
		m.forget(d.Seq, e, out)
		return d
	}
	l.take(p, pos, false)
	m.unacked++
	m.outBytes += int64(e.BodyBytes)
	if e.Flags&Persistent != 0 {
		out.Facts = extend(out.Facts, Delivered, d.Seq)
	}
	return d
}

// forget records that a message is done. The caller sees to its body reference.
func (m *Machine) forget(s Seq, e Entry, out *Output) {
	if len(m.tries) > 0 {
		delete(m.tries, s)
	}
	if e.Flags&Persistent != 0 {
		out.Facts = extend(out.Facts, Settled, s)
	}
}

// Settle ends a message that is out: acknowledged, or finished as a dead letter
// by FinishMove. It reports false for a Seq that is not out.
func (m *Machine) Settle(s Seq, out *Output) bool {
	l, p := m.locate(s)
	if p == nil || !l.isOut(p, s.pos()) || l.isMoving(p, s.pos()) {
		return false
	}
	e := p.entries[s.pos()%pageLen]
	l.done(p, s.pos())
	m.unacked--
	m.outBytes -= int64(e.BodyBytes)
	m.totals.Acked++
	m.forget(s, e, out)
	out.Released = append(out.Released, e)
	return true
}

// Requeued finishes a run of Returns: the limits hold again, what is past its
// time expires, and consumers with credit get the rest.
func (m *Machine) Requeued(now Time, out *Output) {
	m.startDelays(now)
	m.dropOverflow(out)
	m.Expire(now, out)
	m.Dispatch(now, out)
}

// Reject dead-letters a message that is out, or ends it where no dead-letter
// exchange is set.
func (m *Machine) Reject(s Seq, out *Output) bool {
	l, p := m.locate(s)
	if p == nil || !l.isOut(p, s.pos()) || l.isMoving(p, s.pos()) {
		return false
	}
	m.unacked--
	m.outBytes -= int64(p.entries[s.pos()%pageLen].BodyBytes)
	if m.cfg.HasDLX {
		m.die(l, s.level(), p, s.pos(), Rejected, out)
		return true
	}
	e := p.entries[s.pos()%pageLen]
	l.done(p, s.pos())
	m.forget(s, e, out)
	out.Released = append(out.Released, e)
	return true
}

func (m *Machine) locate(s Seq) (*list, *page) {
	if s.level() >= len(m.levels) {
		return nil, nil
	}
	l := &m.levels[s.level()]
	return l, l.pageOf(s.pos())
}

// Get takes one message by polling (basic.get). Without noAck the message is
// out until it is settled.
func (m *Machine) Get(now Time, noAck bool, out *Output) (Delivery, bool) {
	m.lastUsed = now
	l, level, p, pos := m.head(now, out)
	if l == nil {
		if out.Fetch == 0 {
			m.totals.GotEmpty++
		}
		return Delivery{}, false
	}
	d := m.handOut(l, level, p, pos, nil, noAck, out)
	m.Expire(now, out) // what has come to the head may be past its time
	return d, true
}

// Purge drops everything that is ready, parked or delayed and returns how much that
// was.
func (m *Machine) Purge(out *Output) int {
	n := m.ready + m.purgeParked(out) + m.purgeDelayed(out)
	if m.ready == 0 {
		return n
	}
	for level := range m.levels {
		l := &m.levels[level]
		for i := l.first; i < len(l.pages) && l.ready > 0; i++ {
			if c := l.pages[i].cold; c != nil && !c.Lost {
				m.purgeCold(l, level, i, out)
				continue
			}
			l.eachInPage(i, func(p *page, pos uint64) {
				if l.isOut(p, pos) {
					return
				}
				e := p.entries[pos%pageLen]
				l.done(p, pos)
				m.forget(makeSeq(level, pos), e, out)
				out.Released = append(out.Released, e)
			})
		}
		l.trim()
	}
	m.ready, m.readyBytes = 0, 0
	return n
}

// Close releases every message, in any state, because the queue is deleted, and
// detaches the consumers. It returns the number of ready messages.
func (m *Machine) Close(out *Output) int {
	n := m.ready
	for level := range m.levels {
		l := &m.levels[level]
		for i := l.first; i < len(l.pages); i++ {
			if c := l.pages[i].cold; c != nil {
				out.Cold = append(out.Cold, c)
			}
			l.eachInPage(i, func(p *page, pos uint64) {
				out.Released = append(out.Released, p.entries[pos%pageLen])
			})
		}
		m.levels[level] = list{}
	}
	for _, c := range m.consumers.all {
		c.attached, c.blocked = false, false
	}
	m.consumers = consumers{single: m.cfg.SingleActive}
	m.ready, m.unacked, m.moving, m.readyBytes, m.outBytes, m.movingBytes, m.tries = 0, 0, 0, 0, 0, 0, nil
	m.parked, m.delayed = parking{}, delays{}
	return n
}

// Touch marks the queue as used, for its expiry (x-expires): declared again.
func (m *Machine) Touch(now Time) { m.lastUsed = now }

// Subscribe adds a consumer. It reports false if the queue is, or would have to
// be, in exclusive use; a queue with a single active consumer admits no
// exclusive one. The caller dispatches.
func (m *Machine) Subscribe(now Time, c *Consumer) bool {
	if m.consumers.exclusive || c.Exclusive && (len(m.consumers.all) > 0 || m.cfg.SingleActive) {
		return false
	}
	m.consumers.add(c)
	m.lastUsed = now
	return true
}

// Unsubscribe removes a consumer; what it has out stays out. Output.Unused is
// set when an auto-delete queue loses its last one.
func (m *Machine) Unsubscribe(now Time, c *Consumer, out *Output) bool {
	if !m.consumers.remove(c) {
		return false
	}
	m.lastUsed = now
	if m.cfg.AutoDelete && len(m.consumers.all) == 0 {
		out.Unused = true
	}
	if m.cfg.SingleActive {
		m.Dispatch(now, out) // the next in line is active now
	}
	return true
}

// Unblock puts a consumer back in turn after its gate refused, because credit
// came back. The caller dispatches.
func (m *Machine) Unblock(c *Consumer) bool { return m.consumers.unblock(c) }
