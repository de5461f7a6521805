package queue

import "math/bits"

// pageLen is the number of entries of a full page: 4 KiB of entries, so that
// ten thousand nearly empty queues stay small and a long queue costs 16.4 bytes
// a message. The first page of a list starts smaller and doubles.
const (
	pageLen      = 256
	pageWords    = pageLen / 64
	firstPageLen = 8
)

// page holds pageLen consecutive positions. Two bits say a position's state:
//
//	ready out
//	  0    0   done, or not yet written
//	  1    0   ready
//	  0    1   out with a consumer
//	  1    1   moving: being dead-lettered
type page struct {
	entries   []Entry // grows up to pageLen
	deadlines []Time  // nil unless a message of this page expires
	ready     [pageWords]uint64
	out       [pageWords]uint64
	live      int // positions that are not done
	// unkept is set once the page has held a message that a cold page may not: one
	// that is not persistent, or Pinned.
	unkept bool
	// changed is set by whatever happens to a message here, so that an image is
	// known to be outdated.
	changed bool
}

func (p *page) reset() {
	p.unkept = false
	p.entries = p.entries[:0]
	p.deadlines = p.deadlines[:0]
	p.ready = [pageWords]uint64{}
	p.out = [pageWords]uint64{}
	p.live = 0
}

// slot is the place of one page in the deque: in memory (p), cold, or neither
// where nothing is live.
type slot struct {
	p    *page
	cold *Cold
}

func (s slot) empty() bool { return s.p == nil && s.cold == nil }

// list is the messages of one priority level: a deque of pages. A page in the
// middle that holds nothing live is given back at once (an empty slot).
type list struct {
	pages []slot
	first int    // index in pages of the page that holds position base*pageLen
	base  uint64 // page number of pages[first]
	tail  uint64 // position of the next push
	head  uint64 // no position below it is ready
	ready int
	hot   int   // pages in memory, besides spare
	cold  int   // cold pages
	spare *page // one page kept for the next push, so that a steady flow does not allocate
}

// pageOf is the page of a position, nil if that is not in memory.
func (l *list) pageOf(pos uint64) *page { return l.slotOf(pos / pageLen).p }

// slotOf is the slot of a page number, an empty one outside the deque.
func (l *list) slotOf(n uint64) slot {
	if n < l.base {
		return slot{}
	}
	i := l.first + int(n-l.base)
	if i >= len(l.pages) {
		return slot{}
	}
	return l.pages[i]
}

// push appends e and returns its position.
func (l *list) push(e Entry, deadline Time) uint64 {
	pos := l.tail
	i := pos % pageLen
	var p *page
	if i == 0 || l.first == len(l.pages) {
		p = l.addPage(pos)
	} else {
		p = l.pages[len(l.pages)-1].p // never nil: dropPage keeps the page being written
	}
	p.entries = append(p.entries, e)
	if e.Flags.unkept() {
		p.unkept = true
	}
	if deadline != Never || len(p.deadlines) > 0 {
		for uint64(len(p.deadlines)) < i {
			p.deadlines = append(p.deadlines, Never)
		}
		p.deadlines = append(p.deadlines, deadline)
	}
	p.ready[i/64] |= 1 << (i % 64)
	p.live++
	l.ready++
	l.tail++
	return pos
}

func (l *list) takeSpare() *page {
	if p := l.spare; p != nil {
		l.spare = nil
		return p
	}
	n := pageLen
	if l.tail < pageLen {
		n = firstPageLen
	}
	return &page{entries: make([]Entry, 0, n)}
}

func (l *list) addPage(pos uint64) *page {
	if l.first == len(l.pages) {
		l.pages, l.first, l.base = l.pages[:0], 0, pos/pageLen
	} else if l.first > 16 && l.first*2 > len(l.pages) {
		n := copy(l.pages, l.pages[l.first:])
		clear(l.pages[n:])
		l.pages, l.first = l.pages[:n], 0
	}
	p := l.takeSpare()
	l.pages = append(l.pages, slot{p: p})
	l.hot++
	return p
}

// peek returns the first ready position; ok is false if there is none, or if it
// is in a cold page.
func (l *list) peek() (pos uint64, p *page, ok bool) {
	if l.ready == 0 {
		return 0, nil, false
	}
	for pos := l.head; pos < l.tail; {
		s := l.slotOf(pos / pageLen)
		p := s.p
		if s.cold != nil && !s.cold.Lost {
			l.head = pos
			return 0, nil, false
		}
		if p == nil {
			pos = (pos/pageLen + 1) * pageLen
			continue
		}
		i := pos % pageLen
		w := i / 64
		word := (p.ready[w] &^ p.out[w]) >> (i % 64) << (i % 64)
		for word == 0 {
			w++
			if w == pageWords {
				break
			}
			word = p.ready[w] &^ p.out[w]
		}
		if w == pageWords {
			pos = (pos/pageLen + 1) * pageLen
			continue
		}
		pos = pos/pageLen*pageLen + w*64 + uint64(bits.TrailingZeros64(word))
		l.head = pos
		return pos, p, true
	}
	return 0, nil, false
}

// take moves a ready position to out, or to moving.
func (l *list) take(p *page, pos uint64, moving bool) {
	i := pos % pageLen
	bit := uint64(1) << (i % 64)
	p.changed = true
	p.out[i/64] |= bit
	if !moving {
		p.ready[i/64] &^= bit
	}
	l.ready--
}

// giveBack moves an out position to ready again.
func (l *list) giveBack(p *page, pos uint64) {
	i := pos % pageLen
	bit := uint64(1) << (i % 64)
	p.changed = true
	p.out[i/64] &^= bit
	p.ready[i/64] |= bit
	l.ready++
	if pos < l.head {
		l.head = pos
	}
}

// done ends a position in any state and gives its page back once that holds
// nothing live.
func (l *list) done(p *page, pos uint64) {
	i := pos % pageLen
	bit := uint64(1) << (i % 64)
	p.changed = true
	if p.ready[i/64]&bit != 0 && p.out[i/64]&bit == 0 {
		l.ready--
	}
	p.ready[i/64] &^= bit
	p.out[i/64] &^= bit
	p.live--
	if p.live == 0 {
		l.dropPage(pos / pageLen)
	}
}

func (l *list) dropPage(n uint64) {
	i := l.first + int(n-l.base)
	p := l.pages[i].p
	if i == len(l.pages)-1 && len(p.entries) < pageLen {
		// The page being written: keep it. A queue that is empty most of the
		// time fills one page over and over.
		return
	}
	l.pages[i] = slot{}
	l.hot--
	l.keepSpare(p)
	l.trim()
}

// keepSpare keeps a page that is out of use for the next that is needed.
func (l *list) keepSpare(p *page) {
	if l.spare == nil && cap(p.entries) == pageLen {
		p.reset()
		l.spare = p
	}
}

// trim drops empty slots from the front.
func (l *list) trim() {
	for l.first < len(l.pages) && l.pages[l.first].empty() {
		l.first++
		l.base++
	}
}

// isOut tells whether pos is out or moving.
func (l *list) isOut(p *page, pos uint64) bool {
	i := pos % pageLen
	return p.out[i/64]>>(i%64)&1 != 0
}

func (l *list) isMoving(p *page, pos uint64) bool {
	i := pos % pageLen
	return p.out[i/64]>>(i%64)&1 != 0 && p.ready[i/64]>>(i%64)&1 != 0
}

func (p *page) deadline(pos uint64) Time {
	i := pos % pageLen
	if i < uint64(len(p.deadlines)) {
		return p.deadlines[i]
	}
	return Never
}

// eachInPage calls f for every position of the i-th page of the deque that is not
// done, in order; none if that is cold.
func (l *list) eachInPage(i int, f func(p *page, pos uint64)) {
	p := l.pages[i].p
	if p == nil {
		return
	}
	start := (l.base + uint64(i-l.first)) * pageLen
	for w := range p.ready {
		for word := p.ready[w] | p.out[w]; word != 0; word &= word - 1 {
			f(p, start+uint64(w*64+bits.TrailingZeros64(word)))
		}
	}
}
