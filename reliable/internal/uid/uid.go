// Package uid makes message ids: UUIDs of version 7 (RFC 9562, section 5.7).
//
// They sort by the time at which they were made, also within a millisecond, which
// keeps an index of an inbox table compact. They are unique and not secret.
//
// A Generator may be called from any goroutine.
package uid

import (
	"encoding/hex"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// counterBits is the part of rand_a and rand_b that counts, so that ids of one
// Generator ascend although many are made in a millisecond.
const counterBits = 12

// Generator makes ids that ascend. The zero value is ready.
type Generator struct {
	last atomic.Uint64 // milliseconds << counterBits | counter
}

// New returns the id of something that happens at now. Its form is that of RFC
// 9562: 36 characters in lower case.
//
// Ids ascend strictly. If more than 4096 are made in a millisecond, or the clock
// steps back, their time runs ahead of the clock.
func (g *Generator) New(now time.Time) string {
	tick := uint64(now.UnixMilli()) << counterBits
	for {
		last := g.last.Load()
		next := max(tick, last+1)
		if g.last.CompareAndSwap(last, next) {
			return format(next, rand.Uint64())
		}
	}
}

// format lays a tick and 62 bits of chance out as a UUID.
func format(tick, chance uint64) string {
	var b [16]byte
	millis, counter := tick>>counterBits, tick&(1<<counterBits-1)
	for i := range 6 {
		b[i] = byte(millis >> (40 - 8*i))
	}
	b[6], b[7] = 0x70|byte(counter>>8), byte(counter) // version 7
	for i := range 8 {
		b[8+i] = byte(chance >> (8 * i))
	}
	b[8] = b[8]&0x3f | 0x80 // variant 10

	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
