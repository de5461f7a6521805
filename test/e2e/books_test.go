package e2e

import (
	"bytes"
	be "encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
)

// What the durability tests send, and the checker that knows what has to become
// of it. Each message has a number in its stream, and from stream and number
// follow its body, the queues it goes to and what its consumer does with it. So
// whatever a queue hands out can be judged without asking anybody.

const (
	bodyHeaderBytes = 16
	txMessages      = 10 // of one transaction of the tx stream
	maxBodyBytes    = 1 << 20
)

// messageID is stream and number of a message.
type messageID uint64

func makeID(stream int, seq uint64) messageID { return messageID(uint64(stream)<<40 | seq) }
func (id messageID) stream() int              { return int(id >> 40) }
func (id messageID) seq() uint64              { return uint64(id) & (1<<40 - 1) }

// What is known of a message that was sent.
const (
	unanswered = iota
	confirmed  // or committed: it must not be lost
	refused
	withdrawn // rolled back, or in a transaction that never got its commit: must not appear
)

// stream is one publisher's messages, over all lives of the broker.
type stream struct {
	name      string
	index     int
	transient bool
	exchange  string
	key       func(seq uint64) string
	bodyBytes func(seq uint64) int
	// queues are where the message may be handed out, final where it has to be.
	queues, final func(seq uint64) []string

	sent    atomic.Uint64 // numbers below it may have reached the broker
	written atomic.Uint64 // numbers below it have been handed to the system
	settled atomic.Uint64 // how many of this life have been confirmed or refused
	born    uint64        // the first number of this life; changed between lives only

	mu    sync.Mutex
	state []uint8
}

func (s *stream) setState(from, to uint64, state uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uint64(len(s.state)) < to {
		s.state = append(s.state, unanswered)
	}
	for i := from; i < to; i++ {
		s.state[i] = state
	}
}

func (s *stream) stateOf(seq uint64) uint8 {
	if seq < uint64(len(s.state)) {
		return s.state[seq]
	}
	return unanswered
}

// book is what one queue has handed out.
type book struct {
	queue string
	mu    sync.Mutex
	seen  [][]sighting // by stream and number
	last  []uint64     // by stream: number of the last first delivery in this life, plus one
}

// sighting is the life in which a message was last handed out (1 for the first),
// and what has been done with it.
type sighting struct {
	life     uint16
	settled  bool // acknowledged or rejected
	finished bool // acknowledged in a transaction that was committed
}

// checker judges everything that is handed out, and counts.
type checker struct {
	streams []*stream
	books   map[string]*book
	life    uint16 // changed between lives only
	pattern []byte

	received, recovered, flagged, returned atomic.Int64

	mu       sync.Mutex
	problems map[string]int
	examples []string
}

func newChecker(streams []*stream, queues []string) *checker {
	c := &checker{streams: streams, books: map[string]*book{}, problems: map[string]int{}, pattern: make([]byte, maxBodyBytes+4096)}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range c.pattern {
		c.pattern[i] = byte(random.Uint32())
	}
	for i, s := range streams {
		s.index = i
	}
	for _, q := range queues {
		c.books[q] = &book{queue: q, seen: make([][]sighting, len(streams)), last: make([]uint64, len(streams))}
	}
	return c
}

// problem notes something that must not happen.
func (c *checker) problem(kind, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems[kind]++
	if c.problems[kind] <= 5 {
		c.examples = append(c.examples, kind+": "+fmt.Sprintf(format, args...))
	}
}

// appendBody appends the body of a message.
func (c *checker) appendBody(dst []byte, id messageID) []byte {
	n := c.streams[id.stream()].bodyBytes(id.seq())
	dst = be.BigEndian.AppendUint64(dst, uint64(id))
	dst = be.BigEndian.AppendUint64(dst, uint64(n))
	return append(dst, c.filling(id, n)...)
}

func (c *checker) filling(id messageID, n int) []byte {
	at := int(uint64(id) * 31 % 4096)
	return c.pattern[at : at+n-bodyHeaderBytes]
}

// identify checks a body byte by byte.
func (c *checker) identify(queue string, body []byte) (id messageID, ok bool) {
	if len(body) < bodyHeaderBytes {
		c.problem("invented", "%d bytes from %s", len(body), queue)
		return 0, false
	}
	id = messageID(be.BigEndian.Uint64(body))
	if id.stream() >= len(c.streams) || len(body) != c.streams[id.stream()].bodyBytes(id.seq()) ||
		!bytes.Equal(body[bodyHeaderBytes:], c.filling(id, len(body))) {
		c.problem("invented", "%d bytes from %s that nobody has sent, or that have changed", len(body), queue)
		return 0, false
	}
	return id, true
}

// receive takes what a queue has handed out.
func (c *checker) receive(b *book, body []byte, redelivered bool) (id messageID, ok bool) {
	id, ok = c.identify(b.queue, body)
	if !ok {
		return id, false
	}
	s, seq := c.streams[id.stream()], id.seq()
	if seq >= s.sent.Load() || !has(s.queues(seq), b.queue) {
		c.problem("invented", "%s/%d from %s", s.name, seq, b.queue)
		return id, false
	}
	if s.transient && seq < s.born {
		c.problem("invented", "transient %s/%d came back", s.name, seq)
	}
	c.received.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.at(id)
	switch {
	case was.life == c.life:
		c.problem("duplicated", "%s/%d twice from %s in life %d", s.name, seq, b.queue, c.life)
	case was.finished:
		c.problem("resurrected", "%s/%d from %s, its acknowledgement was committed in life %d, now it is %d", s.name, seq, b.queue, was.life, c.life)
	case was.life > 0:
		c.recovered.Add(1)
		if redelivered {
			c.flagged.Add(1)
		}
		if was.settled {
			c.returned.Add(1)
		}
	case seq < s.born:
		c.recovered.Add(1)
	}
	*was = sighting{life: c.life}
	if !redelivered && strings.HasPrefix(b.queue, "q.") {
		if seq < b.last[s.index] {
			c.problem("disordered", "%s/%d from %s after %d in life %d", s.name, seq, b.queue, b.last[s.index]-1, c.life)
		}
		b.last[s.index] = seq + 1
	}
	return id, true
}

// at returns the sighting of a message. Called with b.mu held.
func (b *book) at(id messageID) *sighting {
	list := &b.seen[id.stream()]
	for uint64(len(*list)) <= id.seq() {
		*list = append(*list, sighting{})
	}
	return &(*list)[id.seq()]
}

// settle notes what the client does with a delivery.
func (b *book) settle(id messageID, change func(*sighting)) {
	b.mu.Lock()
	change(b.at(id))
	b.mu.Unlock()
}

func acked(s *sighting)      { s.settled = true }
func requeued(s *sighting)   { s.life = 0 }
func txFinished(s *sighting) { s.settled, s.finished = true, true }

// nextLife is called between two lives.
func (c *checker) nextLife() {
	c.life++
	for _, s := range c.streams {
		s.born = s.sent.Load()
		s.settled.Store(0)
	}
	for _, b := range c.books {
		clear(b.last)
	}
}

// unconfirmed is how many publishes of this life the system has taken and the
// broker has not answered.
func (c *checker) unconfirmed() (n int64) {
	for _, s := range c.streams {
		if s.name != "tx" {
			n += int64(s.written.Load()) - int64(s.born) - int64(s.settled.Load())
		}
	}
	return n
}

// judge compares, after everything has been drained, what was confirmed with
// what has come out.
func (c *checker) judge() (sent, sure int) {
	for _, s := range c.streams {
		total := s.sent.Load()
		sent += int(total)
		for seq := range total {
			id := makeID(s.index, seq)
			switch s.stateOf(seq) {
			case confirmed:
				sure++
				c.wantSeen(s, id)
			case withdrawn:
				for _, q := range s.queues(seq) {
					if c.books[q].at(id).life > 0 {
						c.problem("invented", "%s/%d came from %s and was never committed", s.name, seq, q)
					}
				}
			}
		}
	}
	c.wantWhole()
	return sent, sure
}

func (c *checker) wantSeen(s *stream, id messageID) {
	if s.transient {
		return
	}
	for _, q := range s.final(id.seq()) {
		if c.books[q].at(id).life == 0 {
			c.problem("lost", "%s/%d was confirmed and never came from %s", s.name, id.seq(), q)
		}
	}
}

// wantWhole looks for transactions whose commit was not answered and that are
// there in part.
func (c *checker) wantWhole() {
	for _, s := range c.streams {
		if s.name != "tx" {
			continue
		}
		for first := uint64(0); first < s.sent.Load(); first += txMessages {
			seen := 0
			for seq := first; seq < first+txMessages; seq++ {
				if c.books["tx.out"].at(makeID(s.index, seq)).life > 0 {
					seen++
				}
			}
			if seen > 0 && seen < txMessages {
				c.problem("torn", "%d of %d messages of the transaction at tx/%d", seen, txMessages, first)
			}
		}
	}
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
