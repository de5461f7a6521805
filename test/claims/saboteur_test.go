package claims

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"

	"github.com/warrenmq/warren/reliable"
)

// saboteur is a dialer whose connections break after a number of bytes, between two
// frames or in the middle of one.
type saboteur struct {
	to reliable.Dialer

	mu     sync.Mutex
	toGo   int // bytes until the next cut; negative means never
	writes bool
	cuts   int
	open   map[net.Conn]bool
	last   string // the address of the last connection
}

// cutAll cuts all connections now.
func (s *saboteur) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close()
	}
	clear(s.open)
}

// arm has a connection cut after n more bytes that the client writes, or reads.
func (s *saboteur) arm(n int, writes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toGo, s.writes = n, writes
}

// again arms the saboteur for a place by chance, unless a cut is still to come: within
// so many bytes that are written, or a fortieth of them that are read, because a
// confirm is short and can be one for many messages.
func (s *saboteur) again(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.toGo < 0 {
		if s.writes = rand.IntN(2) == 0; !s.writes {
			limit /= 40
		}
		s.toGo = rand.IntN(limit)
	}
}

// off takes back a cut that has not taken place, and says whether the last one has.
func (s *saboteur) off() (fired bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fired = s.toGo < 0
	s.toGo = -1
	return fired
}

// count is how many cuts there were.
func (s *saboteur) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cuts
}

// address is the remote one of any open connection, or of the last one.
func (s *saboteur) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		return conn.RemoteAddr().String()
	}
	return s.last
}

// pass counts n bytes, and returns how many of them may still pass.
func (s *saboteur) pass(n int, write bool) (may int, cut bool) {
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

func (s *saboteur) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
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
	return &sabotaged{conn, s}, nil
}

type sabotaged struct {
	net.Conn
	s *saboteur
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

func (c *sabotaged) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	may, cut := c.s.pass(n, false)
	if cut {
		c.Conn.Close()
		return may, errors.New("cut")
	}
	return n, err
}
