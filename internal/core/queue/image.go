package queue

import "math/bits"

// Image is one page of a queue as a checkpoint keeps it: its persistent messages
// that are not done. Those that are out or moving count as ready, because that
// is what they are after a restart.
type Image struct {
	Level  int
	Number uint64 // of the page: positions from Number*PageLen on
	// Cold is set for a page that is cold: what follows is empty then.
	Cold *Cold
	Live [pageWords]uint64
	// Entries and Deadlines are indexed by position in the page; only the live
	// ones count. Deadlines is empty if nothing here expires.
	Entries   []Entry
	Deadlines []Time
	Tries     []ImageTries
}

// ImageTries is how often the message at an index of the page has come back.
type ImageTries struct {
	Index uint8
	Tries Tries
}

// PageLen is the number of positions in a page, and so in an Image.
const PageLen = pageLen

// Each calls f for the index of every live entry.
func (m *Image) Each(f func(i int)) {
	for w, word := range m.Live {
		for ; word != 0; word &= word - 1 {
			f(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// Tails are the positions that the next message of each level will get.
func (m *Machine) Tails() []uint64 {
	tails := make([]uint64, len(m.levels))
	for i := range m.levels {
		tails[i] = m.levels[i].tail
	}
	return tails
}

// TakeImage copies the next page of a walk that holds anything persistent into
// img, whose memory it reuses. It reports whether it found one.
func (m *Machine) TakeImage(c *Cursor, img *Image) bool {
	for {
		l, i, ok := c.at(m)
		if !ok {
			return false
		}
		p, number := l.pages[i].p, c.page
		c.page++
		if cold := l.pages[i].cold; cold != nil {
			*img = Image{Level: c.level, Number: number, Cold: cold, Entries: img.Entries[:0], Deadlines: img.Deadlines[:0], Tries: img.Tries[:0]}
			return true
		}
		if p != nil && p.live > 0 && m.image(img, c.level, number, p) {
			return true
		}
	}
}

func (m *Machine) image(img *Image, level int, number uint64, p *page) bool {
	img.Level, img.Number, img.Cold = level, number, nil
	img.Entries = append(img.Entries[:0], p.entries...)
	img.Deadlines = append(img.Deadlines[:0], p.deadlines...)
	img.Tries = img.Tries[:0]
	any := false
	for w := range p.ready {
		img.Live[w] = p.ready[w] | p.out[w]
	}
	img.Each(func(i int) {
		bit := uint64(1) << (i % 64)
		e := &img.Entries[i]
		if e.Flags&Persistent == 0 {
			img.Live[i/64] &^= bit
			return
		}
		any = true
		if p.out[i/64]&bit != 0 && p.ready[i/64]&bit == 0 {
			e.Flags |= Redelivered | unsettled // it is with a consumer
		}
		if t := m.tries[makeSeq(level, number*pageLen+uint64(i))]; t != (Tries{}) {
			img.Tries = append(img.Tries, ImageTries{uint8(i), t})
		}
	})
	return any
}

// RestoreImage puts a page of messages back, into a queue that holds nothing of
// that page. It reports false for a level that the queue does not have. A cold page
// is for RestoreCold.
func (m *Machine) RestoreImage(img *Image) bool {
	if img.Level >= len(m.levels) {
		return false
	}
	l := &m.levels[img.Level]
	img.Each(func(i int) {
		deadline := Never
		if i < len(img.Deadlines) {
			deadline = img.Deadlines[i]
		}
		if deadline != Never {
			m.expiring = true
		}
		l.place(img.Number*pageLen+uint64(i), img.Entries[i], deadline)
		m.ready++
		m.readyBytes += int64(img.Entries[i].BodyBytes)
	})
	for _, t := range img.Tries {
		m.setTries(makeSeq(img.Level, img.Number*pageLen+uint64(t.Index)), t.Tries)
	}
	return true
}

// RestoreTails sets the positions that the next messages get.
func (m *Machine) RestoreTails(tails []uint64) {
	for i, t := range tails {
		if i < len(m.levels) {
			m.levels[i].tail = max(m.levels[i].tail, t)
		}
	}
}
