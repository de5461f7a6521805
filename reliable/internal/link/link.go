package link

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ErrClosed is what waiting for a connection returns after Close.
var ErrClosed = errors.New("the client is closed")

// State is what is known about a link at one moment.
type State struct {
	Up      bool   // there is a connection
	Epoch   uint64 // number of the latest connection, 0 before the first
	Blocked bool   // the broker accepts no publishes on it (connection.blocked)
	Reason  string // why it is blocked, in the broker's words
	Err     error  // why there is no connection; nil while Up
	Since   time.Time
}

// Link is a connection that comes back.
type Link struct {
	config Config

	mu      sync.Mutex
	state   State
	conn    *Conn         // the latest, nil before the first
	changed chan struct{} // closed and replaced at every change of the state

	cancel context.CancelFunc
	done   chan struct{} // the supervisor has ended
}

// Open connects, and keeps connected until Close. It tries each address once;
// ctx bounds that, and nothing after it.
func Open(ctx context.Context, config Config) (*Link, error) {
	l := &Link{config: config.withDefaults(), changed: make(chan struct{}), done: make(chan struct{})}
	conn, err := l.connect(ctx, 1)
	if err != nil {
		return nil, err
	}
	l.up(conn)
	life, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go l.supervise(life, conn)
	return l, nil
}

// Snapshot is the state now, and a channel that is closed when it changes.
func (l *Link) Snapshot() (State, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed
}

// Conn waits for a connection newer than epoch. Its error is ErrClosed or that of
// ctx, with the reason why there is no connection if that is known.
func (l *Link) Conn(ctx context.Context, epoch uint64) (*Conn, error) {
	for {
		l.mu.Lock()
		state, changed, conn := l.state, l.changed, l.conn
		l.mu.Unlock()
		if state.Up && state.Epoch > epoch {
			return conn, nil
		}
		select {
		case <-l.done:
			return nil, ErrClosed
		default:
		}
		select {
		case <-changed:
		case <-l.done:
			return nil, ErrClosed
		case <-ctx.Done():
			if state.Err != nil {
				return nil, errors.Join(ctx.Err(), state.Err)
			}
			return nil, ctx.Err()
		}
	}
}

// Close says goodbye to the broker, within ctx and at most goodbye, and ends the
// link. It does not wait for what others do on it.
func (l *Link) Close(ctx context.Context) {
	l.cancel()
	<-l.done
	l.change(func(s *State) { *s = State{Epoch: s.Epoch, Err: ErrClosed} })
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	conn.close(ctx)
}

func (l *Link) change(apply func(*State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	apply(&l.state)
	l.state.Since = time.Now()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) up(conn *Conn) {
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	l.change(func(s *State) { *s = State{Up: true, Epoch: conn.Epoch} })
	go l.followBlocked(conn)
}

// followBlocked keeps State.Blocked. It ends when the client closes the channel,
// with the connection, and never stops taking from it: the client would wait.
func (l *Link) followBlocked(conn *Conn) {
	for b := range conn.blocks {
		conn.blocked.Store(b.Active)
		l.change(func(s *State) {
			if s.Up && s.Epoch == conn.Epoch {
				s.Blocked, s.Reason = b.Active, b.Reason
			}
		})
		if b.Active {
			l.config.Logger.Warn("the broker has blocked publishers", "reason", b.Reason)
		} else {
			l.config.Logger.Info("the broker accepts publishes again")
		}
	}
}

// supervise replaces the connection whenever it is lost, until ctx ends.
func (l *Link) supervise(ctx context.Context, conn *Conn) {
	defer close(l.done)
	for {
		err := l.watch(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		l.change(func(s *State) { *s = State{Epoch: conn.Epoch, Err: err} })
		l.config.Logger.Warn("connection lost", "role", l.config.Role, "error", err)
		if conn = l.reconnect(ctx, conn); conn == nil {
			return
		}
		l.up(conn)
		l.config.Logger.Info("connected again", "role", l.config.Role, "address", conn.Address)
	}
}

// watch returns when the connection is over, with the reason. In between it ends
// a connection on which a write hangs.
func (l *Link) watch(ctx context.Context, conn *Conn) error {
	ticker := time.NewTicker(conn.patience())
	defer ticker.Stop()
	stuck := uint64(0)
	for {
		select {
		case <-conn.done:
			return conn.Err()
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			now := conn.raw.writing.Load()
			if now%2 == 1 && now == stuck && !conn.Blocked() {
				l.config.Logger.Warn("a write hangs, the connection is cut", "role", l.config.Role, "after", conn.patience())
				conn.raw.Conn.Close() // not through the client, which waits for the write
			}
			stuck = now
		}
	}
}

// reconnect tries until it succeeds or ctx ends; then it returns nil.
func (l *Link) reconnect(ctx context.Context, old *Conn) *Conn {
	old.raw.Conn.Close() // after some failures the client leaves it open
	for attempt := 0; ; attempt++ {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(l.config.Pause(attempt)):
		}
		conn, err := l.connect(ctx, old.Epoch+1)
		if err == nil {
			return conn
		}
		if ctx.Err() == nil {
			l.change(func(s *State) { s.Err = err })
			l.config.Logger.Warn("cannot connect", "role", l.config.Role, "attempt", attempt+1, "error", err)
		}
	}
}

// Pause is how long to wait before an attempt, counted from 0: at most MinPause before the first,
// twice as long each time, at most MaxPause; and between half of that and all of
// it, so that a thousand clients of a restarted broker do not come at once.
func (c Config) Pause(attempt int) time.Duration {
	c = c.withDefaults()
	limit := c.MaxPause
	if attempt < 30 {
		limit = min(limit, c.MinPause<<attempt)
	}
	return limit/2 + rand.N(limit/2+1)
}

// connect tries all addresses, starting with any: so the clients of a cluster
// spread over its nodes.
func (l *Link) connect(ctx context.Context, epoch uint64) (*Conn, error) {
	addresses := l.config.Addresses
	first := 0
	if epoch > 1 { // the first connection honours the order that the user gave
		first = rand.N(len(addresses))
	}
	var failures []error
	for i := range addresses {
		conn, err := l.config.dial(ctx, addresses[(first+i)%len(addresses)])
		if err == nil {
			conn.Epoch = epoch
			return conn, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// Config says whom to connect to, and how.
type Config struct {
	Addresses []string // AMQP URLs, at least one
	Dial      DialFunc // nil means TCP
	Client    amqp.Config
	Role      string // for the log: what the connection is for
	Logger    *slog.Logger

	ConnectTimeout     time.Duration // of one attempt at one address, login included; 0 means 10 s
	MinPause, MaxPause time.Duration // between attempts; 0 means 100 ms and 10 s
}

func (c Config) withDefaults() Config {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.MinPause == 0 {
		c.MinPause = 100 * time.Millisecond
	}
	if c.MaxPause == 0 {
		c.MaxPause = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
