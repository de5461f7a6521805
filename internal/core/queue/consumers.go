package queue

// Gate is a consumer's credit, asked once per delivery with the queue lock
// held. Take reserves consumer prefetch, channel prefetch and output budget for
// one message of that size, all or nothing. After a false the machine asks no
// more until the host calls Unblock.
type Gate interface {
	Take(bodyBytes int) bool
}

// Consumer is one subscription. The host keeps a pointer to it as its handle.
type Consumer struct {
	Gate      Gate
	NoAck     bool
	Exclusive bool
	// Priority is the x-priority argument; higher goes first.
	Priority int

	attached bool
	blocked  bool
}

// Blocked tells whether the consumer's gate refused and Unblock is awaited.
func (c *Consumer) Blocked() bool { return c.blocked }

// consumers holds the subscriptions of one queue: per priority a ring of those
// that may have credit.
type consumers struct {
	all       []*Consumer
	tiers     []tier // highest priority first
	exclusive bool
	single    bool // x-single-active-consumer: only the first in all gets deliveries
}

type tier struct {
	priority int
	ring     []*Consumer // not blocked
	next     int
}

func (s *consumers) tierOf(priority int) *tier {
	i := 0
	for i < len(s.tiers) && s.tiers[i].priority > priority {
		i++
	}
	if i == len(s.tiers) || s.tiers[i].priority != priority {
		s.tiers = append(s.tiers, tier{})
		copy(s.tiers[i+1:], s.tiers[i:])
		s.tiers[i] = tier{priority: priority}
	}
	return &s.tiers[i]
}

func (s *consumers) add(c *Consumer) {
	c.attached, c.blocked = true, false
	s.all = append(s.all, c)
	s.tierOf(c.Priority).join(c)
	s.exclusive = s.exclusive || c.Exclusive
}

func (s *consumers) remove(c *Consumer) bool {
	if !c.attached {
		return false
	}
	if !c.blocked {
		s.leaveRing(c)
	}
	c.attached, c.blocked = false, false
	s.all = without(s.all, c)
	if c.Exclusive {
		s.exclusive = false
	}
	for i := range s.tiers {
		if s.tiers[i].priority == c.Priority && !s.priorityInUse(c.Priority) {
			s.tiers = append(s.tiers[:i], s.tiers[i+1:]...)
			break
		}
	}
	return true
}

func (s *consumers) priorityInUse(priority int) bool {
	for _, c := range s.all {
		if c.Priority == priority {
			return true
		}
	}
	return false
}

func (s *consumers) leaveRing(c *Consumer) {
	t := s.tierOf(c.Priority)
	for i, x := range t.ring {
		if x == c {
			t.ring = append(t.ring[:i], t.ring[i+1:]...)
			if i < t.next {
				t.next--
			}
			return
		}
	}
}

func (s *consumers) block(c *Consumer) {
	s.leaveRing(c)
	c.blocked = true
}

func (s *consumers) unblock(c *Consumer) bool {
	if !c.attached || !c.blocked {
		return false
	}
	c.blocked = false
	s.tierOf(c.Priority).join(c)
	return true
}

// join makes c the last in turn: just before the one whose turn it is.
func (t *tier) join(c *Consumer) {
	t.ring = append(t.ring, nil)
	copy(t.ring[t.next+1:], t.ring[t.next:])
	t.ring[t.next] = c
	t.next++
}

// pick reserves credit with the next consumer in turn: round-robin within the
// highest priority that has any. It returns nil when nobody can take one more.
func (s *consumers) pick(bodyBytes int) *Consumer {
	if s.single {
		return s.pickActive(bodyBytes)
	}
	for i := range s.tiers {
		t := &s.tiers[i]
		for len(t.ring) > 0 {
			if t.next >= len(t.ring) {
				t.next = 0
			}
			c := t.ring[t.next]
			if c.Gate.Take(bodyBytes) {
				t.next++
				return c
			}
			s.block(c)
		}
	}
	return nil
}

// pickActive asks the one consumer that is active: the one that has been there
// longest. The others wait for it to go.
func (s *consumers) pickActive(bodyBytes int) *Consumer {
	if len(s.all) == 0 || s.all[0].blocked {
		return nil
	}
	if c := s.all[0]; c.Gate.Take(bodyBytes) {
		return c
	}
	s.block(s.all[0])
	return nil
}

func without(list []*Consumer, c *Consumer) []*Consumer {
	for i, x := range list {
		if x == c {
			return append(list[:i], list[i+1:]...)
		}
	}
	return list
}
