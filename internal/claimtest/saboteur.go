package claimtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"

	"github.com/warrenmq/warren/reliable"
)

// Saboteur is a dialer whose connections break after a number of bytes, between two
// frames or in the middle of one.
type Saboteur struct {
	to  reliable.Dialer
	now bool

	mu     sync.Mutex
	toGo   int // bytes until the next cut; negative means never
	writes bool
	cuts   int
	open   map[net.Conn]bool
	last   string // the address of the last connection
}

// NewSaboteur returns one that connects with the dialer, and does not cut yet.
func NewSaboteur(to reliable.Dialer) *Saboteur { return &Saboteur{to: to, toGo: -1} }

// NewSaboteurNow returns one whose connections can write without waiting, as those of
// the dialer have to, so that publishers write lone messages themselves.
func NewSaboteurNow(to reliable.Dialer) *Saboteur { return &Saboteur{to: to, now: true, toGo: -1} }

// CutAll cuts all connections now.
func (s *Saboteur) CutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close()
	}
	clear(s.open)
}

// Arm has a connection cut after n more bytes that the client writes, or reads.
func (s *Saboteur) Arm(n int, writes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toGo, s.writes = n, writes
}

// Again arms the saboteur for a place by chance, unless a cut is still to come: within
// so many bytes that are written, or a fortieth of them that are read, because a
// confirm is short and can be one for many messages.
func (s *Saboteur) Again(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toGo < 0 {
		if s.writes = rand.IntN(2) == 0; !s.writes {
			limit /= 40
		}
		s.toGo = rand.IntN(limit)
	}
}

// Off takes back a cut that has not taken place, and says whether the last one has.
func (s *Saboteur) Off() (fired bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fired = s.toGo < 0
	s.toGo = -1
	return fired
}

// Armed says whether a cut is still to come.
func (s *Saboteur) Armed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.toGo >= 0
}

// Count is how many cuts there were.
func (s *Saboteur) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cuts
}

// Address is the remote one of any open connection, or of the last one.
func (s *Saboteur) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		return conn.RemoteAddr().String()
	}
	return s.last
}

// pass counts n bytes, and returns how many of them may still pass.
func (s *Saboteur) pass(n int, write bool) (may int, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toGo < 0 || write != s.writes {
		return n, false
	}
	if n <= s.toGo {
		s.toGo -= n
		return n, false
	}
	may = s.toGo
	s.toGo = -1
	s.cuts++
	return may, true
}

// DialContext connects as the dialer does.
func (s *Saboteur) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := s.to.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[net.Conn]bool)
	}
	s.open[conn], s.last = true, addr
	if s.now {
		return &sabotagedNow{sabotaged{conn, s}}, nil
	}
	return &sabotaged{conn, s}, nil
}

type sabotaged struct {
	net.Conn
	s *Saboteur
}

func (c *sabotaged) Close() error {
	c.s.mu.Lock()
	delete(c.s.open, c.Conn)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

func (c *sabotaged) Write(b []byte) (int, error) {
	may, cut := c.s.pass(len(b), true)
	n, err := c.Conn.Write(b[:may])
	if cut {
		c.Conn.Close()
		return n, errors.New("cut")
	}
	return n, err
}

type sabotagedNow struct{ sabotaged }

func (c *sabotagedNow) WriteNow(b []byte) (int, error) {
	may, cut := c.s.pass(len(b), true)
	n, err := c.Conn.(interface{ WriteNow([]byte) (int, error) }).WriteNow(b[:may])
	if cut {
		c.Conn.Close()
		return n, errors.New("cut")
	}
	return n, err
}

func (c *sabotaged) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	may, cut := c.s.pass(n, false)
	if cut {
		c.Conn.Close()
		return may, errors.New("cut")
	}
	return n, err
}
