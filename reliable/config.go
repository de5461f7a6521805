package reliable

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Config says how a Client is to be. The zero value works.
type Config struct {
	// Name is how the broker shows the connections. Empty means "reliable".
	Name string
	// Logger hears of lost and regained connections, and of messages that fail.
	// Nil means silence.
	Logger *slog.Logger
	// Codec makes bodies from values and back. Nil means JSON.
	Codec Codec
	// Queues is the type of queues that name none. Auto decides by the server.
	Queues QueueType
	// Passive only checks that exchanges and queues exist, and declares nothing:
	// for users without the permission to configure.
	Passive bool
	// Namespace makes a delay network, dead-letter exchange and queue of lost
	// messages apart from those of everybody else in the virtual host: their names
	// begin with it and a dot. Queues and exchanges of your own are not renamed.
	// All programs that share a queue need the same. At most 200 bytes; empty is
	// what nearly everybody wants, and what `warren topology` plans.
	Namespace string
	// Observer is told what happens, for traces and metrics.
	Observer Observer
	// Clock replaces the time of the machine in tests. Nil means the machine's.
	Clock Clock

	// Heartbeat is the interval after which the other side has to be heard; a
	// connection is given up after three. At least 1 s; 0 means 10 s.
	Heartbeat time.Duration
	// ConnectTimeout bounds an attempt to connect to one address, login included.
	// 0 means 10 s.
	ConnectTimeout time.Duration
	// MinPause and MaxPause bound the pauses between attempts to connect again:
	// they grow from one to the other, with jitter. 0 means 100 ms and 10 s.
	MinPause, MaxPause time.Duration
}

// maxNamespace leaves room in a name for what stands behind the namespace.
const maxNamespace = 200

// Clock is a source of time; a *brokertest.Clock is one.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own after d, unless stop is called
	// first.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = "reliable"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Codec == nil {
		c.Codec = JSON{}
	}
	if c.Clock == nil {
		c.Clock = machineClock{}
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 10 * time.Second
	}
	switch {
	case len(c.Namespace) > maxNamespace || strings.HasPrefix(c.Namespace, "amq."):
		return c, fmt.Errorf("reliable: Config.Namespace has %d bytes, at most %d are possible, and it cannot begin with amq.", len(c.Namespace), maxNamespace)
	case c.Queues < Auto || c.Queues > Classic:
		return c, fmt.Errorf("reliable: Config.Queues is %d, it has to be Auto, Quorum or Classic", c.Queues)
	case c.Heartbeat < time.Second:
		return c, fmt.Errorf("reliable: Config.Heartbeat is %v, it has to be 1s or more", c.Heartbeat)
	case c.ConnectTimeout < 0 || c.MinPause < 0 || c.MaxPause < 0:
		return c, errors.New("reliable: Config.ConnectTimeout, MinPause and MaxPause cannot be negative")
	}
	return c, nil
}
