package broker

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/warrenmq/warren/internal/auth"
	"github.com/warrenmq/warren/internal/engine"
	"github.com/warrenmq/warren/internal/vfs"
	"github.com/warrenmq/warren/internal/wire"
)

// Config says how a broker is to be. The zero value works: one virtual host
// "/", the user guest with password guest (from loopback addresses only), and
// the limits below.
type Config struct {
	// VHosts are the virtual hosts. Empty means "/".
	VHosts []string
	// Users may log in. Empty means guest with password guest.
	Users []User
	// LoopbackUsers may log in from loopback addresses only. Nil means guest;
	// an empty slice that is not nil means nobody.
	LoopbackUsers []string

	// Dir is the data directory: durable exchanges, queues and bindings, and
	// persistent messages in durable queues survive there, and a publisher
	// confirm of such a message means that it is on the disk (fsync). It is made
	// if it is missing, and one broker at a time may use it. Empty keeps
	// everything in memory.
	Dir string
	// BodyMemoryBytes bounds the bodies of persistent messages that are kept in
	// memory besides being on the disk, and as much again the others, which beyond
	// it go to scratch files in Dir. 0 means 16 MiB. Without Dir it has no meaning.
	BodyMemoryBytes int64
	// IndexMemoryBytes bounds the memory for the indexes of long queues, 16 bytes a
	// message: what is in the middle of them is kept in Dir beyond it. Within a second
	// of a burst it may be more. 0 means 64 MiB.
	IndexMemoryBytes int64
	// MinFreeDiskBytes is the free space in Dir below which publishers are
	// blocked (connection.blocked). 0 means 50 MB; a negative value means none.
	MinFreeDiskBytes int64

	// FrameMax is the largest frame in bytes, 4096 to 16 MiB. 0 means 131072.
	FrameMax uint32
	// ChannelMax is the number of channels a connection may open. 0 means 2047.
	ChannelMax uint16
	// Heartbeat is the interval proposed to clients, rounded to whole seconds, at
	// most 65535 s. 0 means 60 s; a negative value means none.
	Heartbeat time.Duration
	// MaxMessageBytes is the largest body. 0 means 16 MiB, at most 512 MiB.
	MaxMessageBytes int64
	// MaxConnections bounds the connections of the node. 0 means no limit.
	MaxConnections int
	// MemoryLimitBytes is how much memory message bodies may use before
	// publishers are blocked (connection.blocked). 0 means 1 GiB; a negative
	// value means no limit.
	MemoryLimitBytes int64
	// HandshakeTimeout is how long a client may take from connecting to
	// connection.open. 0 means 10 s.
	HandshakeTimeout time.Duration

	// Logger hears what the broker has to say. Nil means silence.
	Logger *slog.Logger
	// Version is shown to clients. Empty means the version of this module in
	// the program's build information.
	Version string
	// Clock replaces the time of the machine in tests. Nil means the machine's.
	Clock Clock

	// fileSystem replaces the machine's in brokertest.
	fileSystem vfs.FS
	logBytes   int64 // size of a log file, 0 for the default
}

// User is somebody who may log in.
type User struct {
	Name string
	// Password in clear, or else PasswordHash as RabbitMQ's definitions have it:
	// base64 of a 4-byte salt and SHA-256(salt + password).
	Password     string
	PasswordHash string
	// VHosts the user may open. Empty means all.
	VHosts []string
	// Tags say what the user may do in the management API: "administrator",
	// "monitoring", "policymaker", "management", with RabbitMQ's meaning. Nil means
	// administrator, or management for a user that is limited to some VHosts; an
	// empty slice that is not nil means nothing at all.
	Tags []string
}

// Clock is a source of time.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own after d, unless stop is called
	// first.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

const (
	defaultFrameMax    = 131072
	maxFrameMax        = 16 << 20
	defaultChannelMax  = 2047
	defaultHeartbeat   = 60 * time.Second
	defaultMessageMax  = 16 << 20
	maxMessageMax      = 512 << 20
	defaultMemoryLimit = 1 << 30
	defaultHandshake   = 10 * time.Second
	defaultMinFreeDisk = 50_000_000
)

// withDefaults fills in what is not set, and says what cannot be.
func (c Config) withDefaults() (Config, error) {
	if len(c.VHosts) == 0 {
		c.VHosts = []string{"/"}
	}
	if len(c.Users) == 0 {
		c.Users = []User{{Name: "guest", Password: "guest"}}
	}
	if c.LoopbackUsers == nil {
		c.LoopbackUsers = []string{"guest"}
	}
	setDefault(&c.FrameMax, defaultFrameMax)
	setDefault(&c.ChannelMax, defaultChannelMax)
	setDefault(&c.Heartbeat, defaultHeartbeat)
	setDefault(&c.MaxMessageBytes, defaultMessageMax)
	setDefault(&c.MemoryLimitBytes, defaultMemoryLimit)
	setDefault(&c.HandshakeTimeout, defaultHandshake)
	setDefault(&c.MinFreeDiskBytes, defaultMinFreeDisk)
	if c.Version == "" {
		c.Version = moduleVersion()
	}
	switch {
	case c.FrameMax < wire.FrameMinSize || c.FrameMax > maxFrameMax:
		return c, fmt.Errorf("broker: FrameMax is %d bytes, it has to be %d to %d", c.FrameMax, wire.FrameMinSize, maxFrameMax)
	case c.MaxMessageBytes < 0 || c.MaxMessageBytes > maxMessageMax:
		return c, fmt.Errorf("broker: MaxMessageBytes is %d, it has to be 1 to %d", c.MaxMessageBytes, maxMessageMax)
	case c.MaxConnections < 0:
		return c, fmt.Errorf("broker: MaxConnections is %d, it has to be 0 (no limit) or more", c.MaxConnections)
	case c.HandshakeTimeout < 0:
		return c, fmt.Errorf("broker: HandshakeTimeout is %s, it has to be positive", c.HandshakeTimeout)
	case c.Heartbeat > 65535*time.Second:
		return c, fmt.Errorf("broker: Heartbeat is %s, it has to be at most 65535s", c.Heartbeat)
	}
	for i, v := range c.VHosts {
		if len(v) > 255 {
			return c, fmt.Errorf("broker: the name of virtual host %d is longer than 255 bytes", i+1)
		}
	}
	return c, nil
}

// disk is where the engine keeps what has to survive, nil without a Dir.
func (c *Config) disk(onFailure func(error)) *engine.DiskConfig {
	if c.Dir == "" {
		return nil
	}
	d := &engine.DiskConfig{
		FS: c.fileSystem, Dir: c.Dir, FileBytes: c.logBytes, ResidentBytes: c.BodyMemoryBytes, IndexBytes: c.IndexMemoryBytes,
		MinFreeBytes: uint64(max(c.MinFreeDiskBytes, 0)), OnFailure: onFailure,
	}
	if d.FS == nil {
		d.FS = vfs.OS{}
	}
	return d
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) heartbeatSeconds() uint16 {
	if c.Heartbeat < 0 {
		return 0
	}
	return uint16((c.Heartbeat + time.Second/2) / time.Second)
}

func (c *Config) users() (*auth.Users, error) {
	users := auth.NewUsers()
	for _, u := range c.Users {
		var err error
		if u.PasswordHash != "" {
			err = users.AddHash(u.Name, u.PasswordHash)
		} else {
			err = users.Add(u.Name, u.Password)
		}
		if err == nil && len(u.VHosts) > 0 {
			err = users.LimitToVhosts(u.Name, u.VHosts...)
		}
		if err == nil && u.Tags != nil {
			err = users.SetTags(u.Name, u.Tags...)
		}
		if err != nil {
			return nil, fmt.Errorf("broker: user %q: %w", u.Name, err)
		}
	}
	users.LimitToLoopback(c.LoopbackUsers...)
	return users, nil
}

// modulePath is how this module is listed in a program's build information.
const modulePath = "github.com/warrenmq/warren"

func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if info.Main.Path == modulePath && info.Main.Version != "" {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == modulePath {
			return m.Version
		}
	}
	return "devel"
}
