package broker

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/core/status"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/mgmt"
)

// Timeouts and bounds of ServeManagement.
const (
	httpHeaderTimeout  = 10 * time.Second
	httpReadTimeout    = 60 * time.Second
	httpIdleTimeout    = 2 * time.Minute
	maxHTTPHeaderBytes = 16 << 10
	// maxHTTPConnections bounds the connections of one listener; more wait to be
	// accepted.
	maxHTTPConnections = 256
)

// management is the HTTP side of a broker.
type management struct {
	api *mgmt.API

	mu      sync.Mutex
	servers map[*http.Server]net.Addr
	closed  bool
}

func newManagement(b *Broker, c *Config, users *auth.Users) *management {
	m := &management{servers: make(map[*http.Server]net.Addr)}
	var clock Clock = engine.SystemClock{}
	if c.Clock != nil {
		clock = c.Clock
	}
	m.api = mgmt.New(mgmt.Config{
		Topology: b.engine, Lookup: b.engine, Clients: b.engine, Sums: b.engine, Messages: b.engine, Changes: b.engine,
		CloseConnection: b.server.CloseConnection,
		Users:           users, Listeners: b.listeners, Now: clock.Now, Logger: c.Logger, Version: c.Version, NodeName: nodeName(),
		MaxMessageBytes: c.MaxMessageBytes, MaxConnections: c.MaxConnections,
	})
	return m
}

// nodeName is the broker's name in RabbitMQ's form.
func nodeName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return "warren@" + host
}

// ManagementHandler answers RabbitMQ's management HTTP API (paths below /api) and
// Prometheus (/metrics). It asks for the name and password of one of the broker's
// users (HTTP basic authentication), whose Tags say what they may see. It bounds
// what it reads and how long an answer takes; timeouts for connections and headers
// are up to the server, see ServeManagement.
//
// A user that is limited to loopback addresses is known by the request's
// RemoteAddr: behind a proxy on the same machine everybody looks local.
func (b *Broker) ManagementHandler() http.Handler { return b.management.api }

// ServeManagement serves ManagementHandler to l, with timeouts, until Shutdown,
// and then returns ErrClosed; any other error is the listener's. It closes l.
func (b *Broker) ServeManagement(l net.Listener) error {
	s := &http.Server{
		Handler: b.ManagementHandler(), ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: httpReadTimeout,
		IdleTimeout: httpIdleTimeout, MaxHeaderBytes: maxHTTPHeaderBytes,
	}
	m := b.management
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		l.Close() // there is nobody to accept from it
		return ErrClosed
	}
	m.servers[s] = l.Addr()
	m.mu.Unlock()
	err := s.Serve(newLimitedListener(l, maxHTTPConnections))
	m.mu.Lock()
	delete(m.servers, s)
	m.mu.Unlock()
	if errors.Is(err, http.ErrServerClosed) {
		return ErrClosed
	}
	return err
}

// close ends all servers at once: a read API has nothing to say goodbye for.
func (m *management) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for s := range m.servers {
		s.Close() // the error is that of closing a listener
	}
}

// listeners are the addresses that the broker serves.
func (b *Broker) listeners() []status.Listener {
	var all []status.Listener
	add := func(protocol string, a net.Addr) {
		l := status.Listener{Protocol: protocol, Host: a.String()}
		if tcp, ok := a.(*net.TCPAddr); ok {
			l.Host, l.Port = tcp.IP.String(), tcp.Port
		}
		all = append(all, l)
	}
	for _, a := range b.server.Addresses() {
		add("amqp", a)
	}
	b.management.mu.Lock()
	defer b.management.mu.Unlock()
	for _, a := range b.management.servers {
		add("http", a)
	}
	return all
}

// limitedListener accepts no more connections than it has room for.
type limitedListener struct {
	net.Listener
	room chan struct{}
	done chan struct{}
	once sync.Once
}

func newLimitedListener(l net.Listener, n int) *limitedListener {
	return &limitedListener{Listener: l, room: make(chan struct{}, n), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
