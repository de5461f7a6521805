package queue

import "container/heap"

// RetryDelay keeps a message that comes back from its consumers for a while
// (x-delayed-retry-type, RabbitMQ 4.3): MinMs times the failed deliveries, at
// least once MinMs and at most MaxMs. The zero value keeps nothing.
type RetryDelay struct {
	Failed, GivenBack bool // which returns it applies to
	MinMs, MaxMs      int64
}

func (r *RetryDelay) applies(how How) bool {
	return r.Failed && how == Failed || r.GivenBack && how == GivenBack
}

// after is the delay of a message that has failed that often.
func (r *RetryDelay) after(failed uint32) Time {
	n := int64(max(failed, 1))
	if n > r.MaxMs/r.MinMs {
		return Time(r.MaxMs) * millisecond
	}
	return Time(n*r.MinMs) * millisecond
}

// delays are the messages that are delayed: neither ready nor out, and marked as
// parked without being dead.
type delays struct {
	count int
	bytes int64
	due   delayHeap
	fresh []Seq // whose delay begins with the next Requeued
}

type delay struct {
	at  Time
	seq Seq
}

// delayHeap has the earliest first; those that are due together in their order.
type delayHeap []delay

func (h delayHeap) Len() int { return len(h) }
func (h delayHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h delayHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *delayHeap) Push(x any)   { *h = append(*h, x.(delay)) }
func (h *delayHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// DelayedCount is the number of messages that wait to be ready again, DelayedBytes
// the sum of their bodies.
func (m *Machine) DelayedCount() int   { return m.delayed.count }
func (m *Machine) DelayedBytes() int64 { return m.delayed.bytes }

// delay takes a ready message out of everybody's reach.
func (m *Machine) delay(l *list, p *page, s Seq) {
	e := &p.entries[s.pos()%pageLen]
	m.ready--
	m.readyBytes -= int64(e.BodyBytes)
	l.take(p, s.pos(), true)
	e.Flags |= parkedFlag
	m.delayed.count++
	m.delayed.bytes += int64(e.BodyBytes)
	m.delayed.fresh = append(m.delayed.fresh, s)
}

// startDelays begins the delays of what has come back since.
func (m *Machine) startDelays(now Time) {
	for _, s := range m.delayed.fresh {
		heap.Push(&m.delayed.due, delay{now + m.cfg.Retry.after(m.tries[s].Failed), s})
	}
	m.delayed.fresh = m.delayed.fresh[:0]
}

// endDelays makes messages ready again whose time has come, and reports whether
// there were any.
func (m *Machine) endDelays(now Time) (any bool) {
	for len(m.delayed.due) > 0 && m.delayed.due[0].at <= now {
		s := heap.Pop(&m.delayed.due).(delay).seq
		l, p := m.locate(s)
		e := m.leaveDelay(p, s)
		l.giveBack(p, s.pos())
		m.ready++
		m.readyBytes += int64(e.BodyBytes)
		any = true
	}
	return any
}

func (m *Machine) leaveDelay(p *page, s Seq) Entry {
	e := &p.entries[s.pos()%pageLen]
	e.Flags &^= parkedFlag
	m.delayed.count--
	m.delayed.bytes -= int64(e.BodyBytes)
	return *e
}

// purgeDelayed drops what is delayed and returns how many that was.
func (m *Machine) purgeDelayed(out *Output) int {
	n := len(m.delayed.due)
	for _, d := range m.delayed.due {
		l, p := m.locate(d.seq)
		e := m.leaveDelay(p, d.seq)
		l.done(p, d.seq.pos())
		m.forget(d.seq, e, out)
		out.Released = append(out.Released, e)
	}
	m.delayed.due = nil
	return n
}
