package queue

import "math/bits"

// Cold is what stays in memory of a page whose entries the host keeps elsewhere:
// of a long queue, so that what waits in its middle costs a fraction of a byte a
// message. All its messages are ready and persistent. Place, Length and Homes are
// the host's own; the machine fills in the rest.
type Cold struct {
	Place     uint64
	Homes     []Home
	BodyBytes int64
	Length    uint32
	Messages  uint16
	Expiring  bool // some message has a deadline
	Lost      bool // the page cannot be read: its messages are out with nobody
}

// Home is a number of references that the host accounts together: into one file
// of its log.
type Home struct {
	File       uint32
	References uint16
}

// ColdPage names a cold page.
type ColdPage struct {
	Level  int
	Number uint64
	Cold   *Cold
}

const (
	// spillScan bounds the pages that one TakeSpill looks at, for the queue's lock
	// is held meanwhile.
	spillScan = 1024
	// WarmAhead is how many pages of a level ColdHead names at most.
	WarmAhead = 16
)

// HotPages is the number of pages in memory, ColdPages that of the others.
func (m *Machine) HotPages() (n int) {
	for i := range m.levels {
		n += m.levels[i].hot
	}
	return n
}

// ColdPages is the number of cold pages.
func (m *Machine) ColdPages() (n int) {
	for i := range m.levels {
		n += m.levels[i].cold
	}
	return n
}

// TakeSpill copies the next pages of a walk that may become cold into imgs, whose
// memory it reuses, and returns how many. Left out are the head's page of each
// level and keep pages behind it. more says that the walk goes on.
func (m *Machine) TakeSpill(c *Cursor, keep int, imgs []Image) (n int, more bool) {
	if !m.cfg.Durable {
		return 0, false
	}
	for scanned := 0; ; {
		l, i, ok := c.at(m)
		if !ok {
			return n, false
		}
		if from := l.head/pageLen + 1 + uint64(keep); c.page < from {
			c.page = from
			continue
		}
		if scanned == spillScan || n == len(imgs) {
			return n, true
		}
		scanned++
		if p := l.pages[i].p; p != nil && p.spillable() {
			m.image(&imgs[n], c.level, c.page, p)
			p.changed = false
			n++
		}
		c.page++
	}
}

// spillable tells whether a page may become cold: it is full, and all that it holds
// is ready and kept by a log.
func (p *page) spillable() bool {
	return len(p.entries) == pageLen && p.live > 0 && !p.unkept && p.out == [pageWords]uint64{}
}

// Spill makes a page cold that TakeSpill has copied, if nothing has happened to it
// since.
func (m *Machine) Spill(img *Image, cold *Cold) bool {
	if img.Level >= len(m.levels) {
		return false
	}
	l := &m.levels[img.Level]
	p := l.slotOf(img.Number).p
	if p == nil || p.changed {
		return false
	}
	cold.Messages = uint16(p.live)
	cold.BodyBytes = 0
	img.Each(func(i int) {
		cold.BodyBytes += int64(img.Entries[i].BodyBytes)
		cold.Expiring = cold.Expiring || i < len(img.Deadlines) && img.Deadlines[i] != Never
	})
	for _, t := range img.Tries {
		delete(m.tries, makeSeq(img.Level, img.Number*pageLen+uint64(t.Index)))
	}
	*l.slotFor(img.Number) = slot{cold: cold}
	l.hot--
	l.cold++
	l.keepSpare(p)
	return true
}

// coldHead is the cold page that holds the first ready message, nil if that is in
// memory. It is valid after a peek.
func (l *list) coldHead() *Cold {
	if s := l.slotOf(l.head / pageLen); l.ready > 0 && s.cold != nil && !s.cold.Lost {
		return s.cold
	}
	return nil
}

// ColdHead appends the cold pages at the head of each level, and those behind them
// that will be wanted next.
func (m *Machine) ColdHead(to []ColdPage) []ColdPage {
	for level := range m.levels {
		l := &m.levels[level]
		if _, _, ok := l.peek(); ok || l.coldHead() == nil {
			continue
		}
		for n, most := l.head/pageLen, len(to)+WarmAhead; len(to) < most && n*pageLen < l.tail; n++ {
			s := l.slotOf(n)
			if s.p != nil {
				break
			}
			if s.cold != nil && !s.cold.Lost {
				to = append(to, ColdPage{level, n, s.cold})
			}
		}
	}
	return to
}

// ColdIn appends the cold pages that a range of messages (inclusive, of one level)
// touches.
func (m *Machine) ColdIn(from, to Seq, pages []ColdPage) []ColdPage {
	if from.level() >= len(m.levels) || m.levels[from.level()].cold == 0 {
		return pages
	}
	l := &m.levels[from.level()]
	last := l.base + uint64(len(l.pages)-l.first) // one past
	for n := max(from.pos()/pageLen, l.base); n < last && n <= to.pos()/pageLen; n++ {
		if c := l.slotOf(n).cold; c != nil {
			pages = append(pages, ColdPage{from.level(), n, c})
		}
	}
	return pages
}

// ColdWhere appends the cold pages that match, of a stretch of the queue; more says
// that there is more to walk.
func (m *Machine) ColdWhere(c *Cursor, match func(*Cold) bool, pages []ColdPage) (_ []ColdPage, more bool) {
	for scanned := 0; ; scanned++ {
		l, i, ok := c.at(m)
		if !ok {
			return pages, false
		}
		if l.cold == 0 {
			c.level, c.page = c.level+1, 0
			continue
		}
		if scanned >= spillScan || len(pages) >= WarmAhead {
			return pages, true
		}
		if cold := l.pages[i].cold; cold != nil && match(cold) {
			pages = append(pages, ColdPage{c.level, c.page, cold})
		}
		c.page++
	}
}

// IsCold tells whether a page is still cold, and the same.
func (m *Machine) IsCold(at ColdPage) bool {
	return at.Level < len(m.levels) && at.Cold != nil && m.levels[at.Level].slotOf(at.Number).cold == at.Cold
}

// Warm brings a page back into memory. It reports false for a page that is not cold
// any more, and for an image that is not of it.
func (m *Machine) Warm(at ColdPage, img *Image) bool {
	if !m.IsCold(at) || img.Level != at.Level || img.Number != at.Number || len(img.Entries) != pageLen {
		return false
	}
	live := 0
	for _, w := range img.Live {
		live += bits.OnesCount64(w)
	}
	if live != int(at.Cold.Messages) {
		return false
	}
	if at.Cold.Lost {
		m.find(at, -1)
	}
	l := &m.levels[at.Level]
	p := l.takeSpare()
	p.entries = append(p.entries[:0], img.Entries...)
	p.deadlines = append(p.deadlines[:0], img.Deadlines...)
	p.ready, p.live, p.changed = img.Live, live, true
	*l.slotFor(at.Number) = slot{p: p}
	l.hot++
	l.cold--
	for _, t := range img.Tries {
		m.setTries(makeSeq(at.Level, at.Number*pageLen+uint64(t.Index)), t.Tries)
	}
	return true
}

// Lose takes a page that cannot be read out of the way of those behind it: its
// messages are out with nobody from then on.
func (m *Machine) Lose(at ColdPage) bool {
	if !m.IsCold(at) || at.Cold.Lost {
		return false
	}
	m.find(at, 1)
	return true
}

// find moves the messages of a page from ready to out (1), or back (-1).
func (m *Machine) find(at ColdPage, lost int) {
	n := lost * int(at.Cold.Messages)
	m.ready -= n
	m.unacked += n
	m.levels[at.Level].ready -= n
	m.readyBytes -= int64(lost) * at.Cold.BodyBytes
	m.outBytes += int64(lost) * at.Cold.BodyBytes
	at.Cold.Lost = lost > 0
	l := &m.levels[at.Level]
	l.head = min(l.head, at.Number*pageLen)
}

// RestoreCold puts a cold page back, into a queue that holds nothing of that page.
func (m *Machine) RestoreCold(at ColdPage) bool {
	if at.Level >= len(m.levels) {
		return false
	}
	l := &m.levels[at.Level]
	s := l.slotFor(at.Number)
	if !s.empty() {
		return false
	}
	s.cold = at.Cold
	l.cold++
	l.ready += int(at.Cold.Messages)
	l.tail = max(l.tail, (at.Number+1)*pageLen)
	l.head = min(l.head, at.Number*pageLen)
	m.ready += int(at.Cold.Messages)
	m.readyBytes += at.Cold.BodyBytes
	m.expiring = m.expiring || at.Cold.Expiring
	return true
}

// purgeCold drops a cold page whole.
func (m *Machine) purgeCold(l *list, level, i int, out *Output) {
	c := l.pages[i].cold
	first := (l.base + uint64(i-l.first)) * pageLen
	out.Facts = extendRange(out.Facts, Settled, makeSeq(level, first), makeSeq(level, first+pageLen-1))
	out.Cold = append(out.Cold, c)
	l.pages[i] = slot{}
	l.cold--
	l.ready -= int(c.Messages)
}
