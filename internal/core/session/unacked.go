package session

import "sort"

// Unacked holds what a channel has delivered and not yet seen acknowledged,
// by delivery tag. Tags count up from 1 and are handed out by Add and Skip.
//
// It is a ring indexed by tag, so that acknowledging in order, one by one or
// many at once, is an index and no search. A delivery that stays unacknowledged
// while many later ones are settled moves to a small sorted list, so that the
// ring stays under eight times the most deliveries that were out at once. It
// does not shrink.
type Unacked[T any] struct {
	old  []straggler[T] // sorted by tag; all below base
	ring []slot[T]      // length is a power of two; index is tag & (len-1)
	base uint64         // lowest tag that may be in the ring
	next uint64         // tag of the next Add, less one: the last tag handed out
	live int            // in ring
}

type slot[T any] struct {
	v    T
	live bool
}

type straggler[T any] struct {
	tag uint64
	v   T
}

const minRing = 16

// Len is the number of unacknowledged deliveries.
func (u *Unacked[T]) Len() int { return len(u.old) + u.live }

// LastTag is the last delivery tag handed out.
func (u *Unacked[T]) LastTag() uint64 { return u.next }

// Skip hands out a tag for a delivery that needs no acknowledgement.
func (u *Unacked[T]) Skip() uint64 {
	u.next++
	if u.live == 0 {
		u.base = u.next + 1
	} else {
		u.makeRoom()
	}
	return u.next
}

// Add records a delivery and returns its tag.
func (u *Unacked[T]) Add(v T) uint64 {
	u.next++
	if u.live == 0 {
		u.base = u.next
	}
	u.makeRoom()
	if u.live == 0 {
		u.base = u.next // makeRoom has retired all there was
	}
	u.ring[u.next&uint64(len(u.ring)-1)] = slot[T]{v, true}
	u.live++
	return u.next
}

// makeRoom sees to it that tag u.next has a place in the ring.
func (u *Unacked[T]) makeRoom() {
	n := uint64(len(u.ring))
	if n == 0 {
		u.ring = make([]slot[T], minRing)
		return
	}
	if u.next-u.base < n {
		return
	}
	if u.live*4 <= len(u.ring) {
		u.retire()
		return
	}
	bigger := make([]slot[T], 2*n)
	for tag := u.base; tag < u.next; tag++ {
		bigger[tag&(2*n-1)] = u.ring[tag&(n-1)]
	}
	u.ring = bigger
}

// retire moves the oldest half of the ring's tags to the sorted list.
func (u *Unacked[T]) retire() {
	n := uint64(len(u.ring))
	for end := u.base + n/2; u.base < end; u.base++ {
		s := &u.ring[u.base&(n-1)]
		if s.live {
			u.old = append(u.old, straggler[T]{u.base, s.v})
			*s = slot[T]{}
			u.live--
		}
	}
	u.trim()
}

// trim moves base past what is settled.
func (u *Unacked[T]) trim() {
	if u.live == 0 {
		u.base = u.next + 1
		return
	}
	mask := uint64(len(u.ring) - 1)
	for !u.ring[u.base&mask].live {
		u.base++
	}
}

// Settle takes the delivery with that tag, or with multiple all up to and
// including it (tag 0: all), and appends them to dst in order of tag. It
// reports false, and takes nothing, if the delivery with that very tag is not
// there, with multiple too, as RabbitMQ does.
func (u *Unacked[T]) Settle(dst []T, tag uint64, multiple bool) ([]T, bool) {
	if !multiple {
		v, ok := u.takeOne(tag)
		if !ok {
			return dst, false
		}
		return append(dst, v), true
	}
	if tag == 0 {
		return u.TakeAll(dst), true
	}
	if !u.has(tag) {
		return dst, false
	}
	k := 0
	for k < len(u.old) && u.old[k].tag <= tag {
		dst = append(dst, u.old[k].v)
		k++
	}
	if k > 0 {
		m := copy(u.old, u.old[k:])
		clear(u.old[m:])
		u.old = u.old[:m]
	}
	if u.live > 0 {
		mask := uint64(len(u.ring) - 1)
		for u.base <= tag && u.live > 0 {
			s := &u.ring[u.base&mask]
			if s.live {
				dst = append(dst, s.v)
				*s = slot[T]{}
				u.live--
			}
			u.base++
		}
		u.trim()
	}
	return dst, true
}

func (u *Unacked[T]) has(tag uint64) bool {
	if u.live > 0 && tag >= u.base && tag <= u.next {
		return u.ring[tag&uint64(len(u.ring)-1)].live
	}
	i := sort.Search(len(u.old), func(i int) bool { return u.old[i].tag >= tag })
	return i < len(u.old) && u.old[i].tag == tag
}

func (u *Unacked[T]) takeOne(tag uint64) (v T, ok bool) {
	if tag >= u.base && tag <= u.next && u.live > 0 {
		s := &u.ring[tag&uint64(len(u.ring)-1)]
		if !s.live {
			return v, false
		}
		v = s.v
		*s = slot[T]{}
		u.live--
		u.trim()
		return v, true
	}
	i := sort.Search(len(u.old), func(i int) bool { return u.old[i].tag >= tag })
	if i == len(u.old) || u.old[i].tag != tag {
		return v, false
	}
	v = u.old[i].v
	u.old = append(u.old[:i], u.old[i+1:]...)
	return v, true
}

// TakeAll appends every unacknowledged delivery to dst, in order of tag, and
// forgets them. Tags go on counting.
func (u *Unacked[T]) TakeAll(dst []T) []T {
	for _, s := range u.old {
		dst = append(dst, s.v)
	}
	u.old = nil
	if u.live > 0 {
		mask := uint64(len(u.ring) - 1)
		for tag := u.base; tag <= u.next; tag++ {
			if s := &u.ring[tag&mask]; s.live {
				dst = append(dst, s.v)
				*s = slot[T]{}
			}
		}
	}
	u.live = 0
	u.base = u.next + 1
	return dst
}

// Restore puts back a delivery that Settle took (tx.rollback). The tag must
// have been handed out and must not be there.
func (u *Unacked[T]) Restore(tag uint64, v T) {
	if u.live > 0 && tag >= u.base {
		u.ring[tag&uint64(len(u.ring)-1)] = slot[T]{v, true}
		u.live++
		return
	}
	i := sort.Search(len(u.old), func(i int) bool { return u.old[i].tag >= tag })
	u.old = append(u.old, straggler[T]{})
	copy(u.old[i+1:], u.old[i:])
	u.old[i] = straggler[T]{tag, v}
}
