package queue

// Cursor says how far a walk over a queue has come. The zero value starts.
type Cursor struct {
	level int
	page  uint64 // number of the next page of that level
}

// Relocate walks one page of entries and lets the host move bodies: f returns a
// body's new reference, or the old one. Messages that are on their way to a
// dead-letter exchange are left out, because the host holds their reference. It
// reports whether there is more to walk.
func (m *Machine) Relocate(c *Cursor, f func(Entry) uint64) (more bool) {
	for c.level < len(m.levels) {
		l := &m.levels[c.level]
		c.page = max(c.page, l.base)
		i := l.first + int(c.page-l.base)
		if i >= len(l.pages) {
			c.level, c.page = c.level+1, 0
			continue
		}
		l.eachInPage(i, func(p *page, pos uint64) {
			if !l.isMoving(p, pos) {
				e := &p.entries[pos%pageLen]
				e.Ref = f(*e)
			}
		})
		c.page++
		return true
	}
	return false
}
