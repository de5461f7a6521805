package amqpserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/wire"
)

// Config is what a Server needs. All fields but Logger are required.
type Config struct {
	Engine *engine.Engine
	Users  *auth.Users
	Logger *slog.Logger // nil: discarded
	// Version is shown to clients in the server properties.
	Version string

	FrameMax         uint32 // bytes, at least wire.FrameMinSize
	ChannelMax       uint16 // open channels per connection
	HeartbeatSeconds uint16 // proposed to clients, 0 for none
	MaxMessageBytes  uint64
	MaxConnections   int // 0 for no limit
	HandshakeTimeout time.Duration
}

// Server accepts AMQP connections. Its methods are safe for concurrent use.
type Server struct {
	cfg    Config
	logger *slog.Logger
	quiet  time.Duration // pulse.quiet of new connections; tests shorten it

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	closing   bool
	running   sync.WaitGroup // one per connection
}

// ErrClosed is what Serve returns after Shutdown.
var ErrClosed = errors.New("amqpserver: closed")

// New returns a server; Serve or ServeConn give it connections.
func New(c Config) *Server {
	s := &Server{cfg: c, logger: c.Logger, quiet: quietBeat, listeners: make(map[net.Listener]struct{}), conns: make(map[*conn]struct{})}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	return s
}

// Serve accepts connections until the listener fails or Shutdown closes it; it
// returns ErrClosed after Shutdown. The listener is closed when it returns.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	tinyWindows(l)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	delay := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			s.ServeConn(nc)
			continue
		}
		s.mu.Lock()
		closing := s.closing
		s.mu.Unlock()
		if closing {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, or a connection gone before it was accepted:
		// wait a little, clients come back.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.logger.Warn("accept failed, trying again", "error", err, "delay", delay)
		time.Sleep(delay)
	}
}

// ServeConn serves one connection on goroutines of its own and returns at once.
func (s *Server) ServeConn(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	full := s.cfg.MaxConnections > 0 && len(s.conns) >= s.cfg.MaxConnections
	if s.closing || full {
		s.mu.Unlock()
		if full {
			s.logger.Warn("connection refused: node connection limit is reached", "limit", s.cfg.MaxConnections, "peer", c.peer)
		}
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		defer func() {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
		c.serve()
	}()
}

// CloseConnection closes a client's connection by its name (connection.close 320
// with that text), and tells whether it was there.
func (s *Server) CloseConnection(name, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.ready.Load() && c.eng.Name() == name {
			c.ask(wire.ConnectionError(wire.ConnectionForced, "%s", reason))
			return true
		}
	}
	return false
}

// Addresses are those on which the server accepts connections.
func (s *Server) Addresses() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := make([]net.Addr, 0, len(s.listeners))
	for l := range s.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// ConnCount is the number of connections, those in handshake included.
func (s *Server) ConnCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// CutAll drops every connection without a word, as a network failure would.
func (s *Server) CutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.nc.Close()
		if c.ready.Load() {
			c.eng.WakeBlocked() // a reader held by an alarm would not notice
		}
	}
}

// Shutdown stops accepting, tells every client that the broker is going
// (connection.close 320), and waits for them until ctx ends; what is left then
// is cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.ask(wire.ConnectionError(wire.ConnectionForced, "broker forced connection closure with reason 'shutdown'"))
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.CutAll()
	<-done
	return ctx.Err()
}
