package queue

import "slices"

// naive is a queue as one list of messages, with the rules written down as
// directly as can be and no thought of speed.
type naive struct {
	cfg       Config
	list      []*naiveMessage // everything that is not done, in order of arrival
	consumers []*naiveConsumer
	turns     map[int][]*naiveConsumer // by priority: who has not run out of credit, next one first
	out       naiveOutput

	parking naiveParking
}

type naiveState uint8

const (
	naiveReady naiveState = iota
	naiveOut
	naiveMoving
	naiveParked // among those moving
	naiveGone
	naiveDelayed
)

type naiveMessage struct {
	ref         uint64
	bytes       uint32
	level       int
	persistent  bool
	deadline    Time
	state       naiveState
	tries       Tries
	redelivered bool
	reason      Reason // of a dead one
	readyAt     Time   // of a delayed one; Never until it is known
	taker       *naiveConsumer
	seq         Seq // as the machine named it; 0 until seen
	seen        bool
}

type naiveConsumer struct {
	id        int
	credit    int
	priority  int
	noAck     bool
	exclusive bool
}

type naiveDelivery struct {
	consumer    int // -1 for a poll
	ref         uint64
	redelivered bool
	tries       Tries
	done        bool
}

type naiveDead struct {
	ref    uint64
	reason Reason
}

type naiveOutput struct {
	deliveries []naiveDelivery
	dead       []naiveDead
	released   []uint64
	unused     bool
}

func newNaive(cfg Config) *naive {
	return &naive{cfg: cfg, turns: map[int][]*naiveConsumer{}}
}

func (n *naive) count(state naiveState) (messages int, bytes int64) {
	for _, m := range n.list {
		if m.state == state {
			messages++
			bytes += int64(m.bytes)
		}
	}
	return messages, bytes
}

func (n *naive) find(ref uint64) *naiveMessage {
	for _, m := range n.list {
		if m.ref == ref {
			return m
		}
	}
	return nil
}

func (n *naive) end(m *naiveMessage, release bool) {
	n.list = slices.DeleteFunc(n.list, func(x *naiveMessage) bool { return x == m })
	m.state = naiveGone
	if release {
		n.out.released = append(n.out.released, m.ref)
	}
}

// head is the message to deliver next: of the highest level, the oldest.
func (n *naive) head() *naiveMessage {
	var best *naiveMessage
	for _, m := range n.list {
		if m.state == naiveReady && (best == nil || m.level > best.level) {
			best = m
		}
	}
	return best
}

// headOf is the oldest of a level.
func (n *naive) headOf(level int) *naiveMessage {
	for _, m := range n.list {
		if m.state == naiveReady && m.level == level {
			return m
		}
	}
	return nil
}

func (n *naive) die(m *naiveMessage, reason Reason) {
	if !n.cfg.HasDLX {
		n.end(m, true)
		return
	}
	m.state, m.reason = naiveMoving, reason
	n.out.dead = append(n.out.dead, naiveDead{m.ref, reason})
}

func (n *naive) over(extraMessages int, extraBytes int64) bool {
	messages, bytes := n.count(naiveReady)
	delayed, delayedBytes := n.count(naiveDelayed)
	messages, bytes = messages+delayed, bytes+delayedBytes
	if n.cfg.AtLeastOnce {
		for _, state := range []naiveState{naiveMoving, naiveParked} {
			more, moreBytes := n.count(state)
			messages, bytes = messages+more, bytes+moreBytes
		}
	}
	return n.cfg.MaxLength >= 0 && int64(messages+extraMessages) > n.cfg.MaxLength ||
		n.cfg.MaxLengthBytes >= 0 && bytes+extraBytes > n.cfg.MaxLengthBytes
}

func (n *naive) enqueue(now Time, m *naiveMessage, priority uint8, ttlMillis int64) Verdict {
	if n.cfg.Overflow != DropHead && n.over(1, int64(m.bytes)) {
		if n.cfg.Overflow == RejectPublishDLX && n.cfg.HasDLX {
			return RefusedToDLX
		}
		return Refused
	}
	m.level = min(int(priority), max(n.cfg.MaxPriority, 0))
	m.deadline = Never
	for _, ttl := range []int64{ttlMillis, n.cfg.MessageTTLMs} {
		if ttl >= 0 {
			m.deadline = min(m.deadline, now+Time(ttl)*1e6)
		}
	}
	n.list = append(n.list, m)
	if len(n.consumers) > 0 { // else what is past its time waits for the timer
		n.dispatch(now)
	}
	if m.deadline <= now {
		n.expire(now, m.level)
	}
	n.dropOverflow()
	return Accepted
}

func (n *naive) dropOverflow() {
	for n.cfg.Overflow == DropHead && n.over(0, 0) && n.head() != nil {
		n.die(n.head(), MaxLen)
	}
}

func (n *naive) expire(now Time, level int) {
	for m := n.headOf(level); m != nil && m.deadline <= now; m = n.headOf(level) {
		n.die(m, Expired)
	}
}

// naiveParking is the dead letters that wait for another attempt, in order, with
// those of the running round among them, and those that are gone.
type naiveParking struct {
	list   []*naiveMessage
	round  []*naiveMessage // not heard of yet
	cursor int             // where the last round ended
	resume int             // where the one before a probe did
	probe  bool
	moved  bool
	at     Time
	pause  Time
}

func (k *naiveParking) heard(m *naiveMessage, moved bool) bool {
	i := slices.Index(k.round, m)
	if i < 0 {
		return false
	}
	k.round = slices.Delete(k.round, i, i+1)
	k.moved = k.moved || moved
	if len(k.round) == 0 && (k.moved || k.probe) {
		k.at = 0
	}
	return true
}

// park keeps a dead letter that did not reach every target.
func (n *naive) park(now Time, m *naiveMessage) {
	k := &n.parking
	if k.heard(m, false) {
		m.state = naiveParked
		return
	}
	if len(k.round) == 0 && k.waiting() == 0 {
		*k = naiveParking{at: now + 1e9, pause: 2e9}
	}
	m.state = naiveParked
	k.list = append(k.list, m)
}

func (k *naiveParking) waiting() (count int) {
	for _, m := range k.list {
		if m.state == naiveParked {
			count++
		}
	}
	return count
}

// retry begins the next round, if it is time and the last one is over.
func (k *naiveParking) retry(now Time, out *naiveOutput) {
	waiting := k.waiting()
	if waiting == 0 || len(k.round) > 0 || now < k.at {
		return
	}
	if k.moved {
		k.pause = 1e9
	} else if k.probe {
		k.cursor = max(k.cursor, k.resume)
	}
	k.at = now + k.pause
	from, size, before := 0, 32, k.cursor
	oldestAlone := !k.moved && !k.probe && waiting > 32
	if k.moved || k.probe {
		from = k.cursor
	} else if oldestAlone {
		size = 1
	}
	for range k.list {
		if len(k.round) == size {
			break
		}
		m := k.list[from%len(k.list)]
		from = from%len(k.list) + 1
		if m.state == naiveParked {
			m.state = naiveMoving
			k.round = append(k.round, m)
			out.dead = append(out.dead, naiveDead{m.ref, m.reason})
		}
	}
	k.cursor, k.probe, k.moved = from, oldestAlone, false
	if oldestAlone {
		k.resume = before
	} else {
		k.pause = min(2*k.pause, 30e9)
	}
}

// moved ends a dead letter that did.
func (n *naive) moved(m *naiveMessage) {
	n.parking.heard(m, true)
	n.end(m, true)
}
func (n *naive) expireAll(now Time) {
	n.parking.retry(now, &n.out)
	back := n.endDelays(now)
	for level := 0; level <= max(n.cfg.MaxPriority, 0); level++ {
		n.expire(now, level)
	}
	if back && len(n.consumers) > 0 {
		n.dispatch(now)
	}
}

func (n *naive) liveHead(now Time) *naiveMessage {
	m := n.head()
	for m != nil && m.deadline < now {
		n.die(m, Expired)
		m = n.head()
	}
	return m
}

func (n *naive) dispatch(now Time) {
	if len(n.consumers) == 0 {
		return // what is past its time waits for the timer
	}
	for m := n.liveHead(now); m != nil; m = n.liveHead(now) {
		c := n.pick()
		if c == nil {
			return
		}
		n.handOut(m, c, c.noAck)
	}
}

func (n *naive) pick() *naiveConsumer {
	if n.cfg.SingleActive {
		if len(n.consumers) > 0 {
			c := n.consumers[0]
			if slices.Contains(n.turns[c.priority], c) {
				return n.ask(c)
			}
		}
		return nil
	}
	for priority := 10; priority >= -10; priority-- {
		for len(n.turns[priority]) > 0 {
			if c := n.ask(n.turns[priority][0]); c != nil {
				return c
			}
		}
	}
	return nil
}

// ask moves c to the end of its turn, or out of it if it has no credit.
func (n *naive) ask(c *naiveConsumer) *naiveConsumer {
	n.leaveTurn(c)
	if c.credit == 0 {
		return nil
	}
	c.credit--
	n.turns[c.priority] = append(n.turns[c.priority], c)
	return c
}

func (n *naive) leaveTurn(c *naiveConsumer) {
	n.turns[c.priority] = slices.DeleteFunc(n.turns[c.priority], func(x *naiveConsumer) bool { return x == c })
}

func (n *naive) unblock(c *naiveConsumer) {
	if slices.Contains(n.consumers, c) && !slices.Contains(n.turns[c.priority], c) {
		n.turns[c.priority] = append(n.turns[c.priority], c)
	}
}

func (n *naive) handOut(m *naiveMessage, c *naiveConsumer, noAck bool) {
	d := naiveDelivery{consumer: -1, ref: m.ref, redelivered: m.redelivered, tries: m.tries, done: noAck}
	if c != nil {
		d.consumer = c.id
	}
	n.out.deliveries = append(n.out.deliveries, d)
	if noAck {
		n.end(m, false)
		return
	}
	m.state, m.taker = naiveOut, c
}

func (n *naive) get(now Time, noAck bool) bool {
	m := n.liveHead(now)
	if m == nil {
		return false
	}
	n.handOut(m, nil, noAck)
	n.expireAll(now)
	return true
}

func (n *naive) giveBack(m *naiveMessage, how How) {
	m.state = naiveReady
	if how != Undelivered {
		m.tries.Returned++
		m.redelivered = true
	}
	if how == Failed {
		m.tries.Failed++
		if n.cfg.DeliveryLimit >= 0 && int64(m.tries.Failed) > n.cfg.DeliveryLimit {
			n.die(m, DeliveryLimit)
			return
		}
	}
	if r := n.cfg.Retry; r.Failed && how == Failed || r.GivenBack && how == GivenBack {
		m.state, m.readyAt = naiveDelayed, Never
	}
}

// endDelays makes ready what has been delayed long enough.
func (n *naive) endDelays(now Time) (any bool) {
	for _, m := range n.list {
		if m.state == naiveDelayed && m.readyAt <= now {
			m.state, any = naiveReady, true
		}
	}
	return any
}

func (n *naive) requeued(now Time) {
	for _, m := range n.list {
		if m.state == naiveDelayed && m.readyAt == Never {
			ms := n.cfg.Retry.MinMs * int64(max(m.tries.Failed, 1))
			m.readyAt = now + Time(min(ms, n.cfg.Retry.MaxMs))*1e6
		}
	}
	n.dropOverflow()
	n.expireAll(now)
	n.dispatch(now)
}

func (n *naive) purge() (purged int) {
	for m := n.head(); m != nil; m = n.head() {
		n.end(m, true)
		purged++
	}
	for _, m := range slices.Clone(n.list) {
		if m.state == naiveParked || m.state == naiveDelayed {
			n.end(m, true)
			purged++
		}
	}
	return purged
}

func (n *naive) subscribe(c *naiveConsumer) bool {
	for _, x := range n.consumers {
		if x.exclusive {
			return false
		}
	}
	if c.exclusive && (len(n.consumers) > 0 || n.cfg.SingleActive) {
		return false
	}
	n.consumers = append(n.consumers, c)
	n.turns[c.priority] = append(n.turns[c.priority], c)
	return true
}

func (n *naive) unsubscribe(now Time, c *naiveConsumer) {
	n.leaveTurn(c)
	n.consumers = slices.DeleteFunc(n.consumers, func(x *naiveConsumer) bool { return x == c })
	n.out.unused = n.cfg.AutoDelete && len(n.consumers) == 0
	if n.cfg.SingleActive {
		n.dispatch(now)
	}
}
