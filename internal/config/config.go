package config

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/warrenmq/warren/internal/auth"
)

// Config is the effective configuration. Load makes it; every value in it has
// been checked.
type Config struct {
	Listen        []string // HOST:PORT or :PORT (all interfaces), at least one
	Management    string   // HOST:PORT of the management API; "": off
	Data          string   // the data directory; "" if Memory
	Memory        bool     // nothing is kept on disk
	Vhosts        []string // always has "/", in the order given
	Users         []User   // at least one
	LoopbackUsers []string // may log in from loopback addresses only
	Limits        Limits
	Log           Log

	origin map[string]string // setting key -> where its value comes from; absent: default

	seenData, seenMemory string // origins that chooseWhere has seen
}

// User is one who may log in. Hash is RabbitMQ's base64 form, see
// auth.HashPassword; a clear-text password is hashed as soon as it is read.
type User struct {
	Name   string
	Hash   string
	Vhosts []string // which vhosts this user may open; empty: all
	Tags   []string // in the management API, see broker.User; nil: by the vhosts
}

// Limits bound what a client may ask of the broker. Names and defaults are
// RabbitMQ's where it has the setting.
type Limits struct {
	FrameMaxBytes    uint32        // largest frame, 4096 and up
	ChannelMax       uint16        // channels of one connection, 1 and up
	Heartbeat        time.Duration // whole seconds up to 65535; 0: off
	MaxMessageBytes  int64         // largest message body
	MaxConnections   int           // 0: no limit
	Memory           Size          // where publishers are blocked
	BodyMemoryBytes  int64         // bodies kept in memory besides being on disk
	IndexMemoryBytes int64         // indexes of long queues kept in memory
	DiskFreeBytes    int64         // free space below which publishers are blocked; 0: none
	HandshakeTimeout time.Duration // from accept to connection.open
}

// Log says what the broker logs to stderr.
type Log struct {
	Level  slog.Level
	Format string // text or json
}

// DefaultData is the data directory if nothing names one.
const DefaultData = "./warren-data"

// Defaults returns the configuration of a broker nobody configured, users and
// vhosts included.
func Defaults() *Config {
	c := base()
	c.complete()
	return c
}

// base has the defaults of everything but users, which depend on whether a
// source names any.
func base() *Config {
	return &Config{
		Listen:        []string{":5672"},
		Management:    ":15672",
		Data:          DefaultData,
		Vhosts:        []string{"/"},
		LoopbackUsers: []string{auth.GuestName},
		Limits: Limits{
			FrameMaxBytes:    131072,
			ChannelMax:       2047,
			Heartbeat:        60 * time.Second,
			MaxMessageBytes:  16 << 20,
			Memory:           Size{Percent: 60},
			BodyMemoryBytes:  16 << 20,
			IndexMemoryBytes: 64 << 20,
			DiskFreeBytes:    50_000_000, // as RabbitMQ
			HandshakeTimeout: 10 * time.Second,
		},
		Log:    Log{Level: slog.LevelInfo, Format: "text"},
		origin: map[string]string{},
	}
}

// Named tells whether some source names the setting with that key, and it does not
// just have its default.
func (c *Config) Named(key string) bool { return c.origin[key] != "" }

// complete adds what exists only in the absence of something configured.
func (c *Config) complete() {
	if c.Memory {
		c.Data = ""
	}
	if len(c.Users) > 0 {
		return
	}
	hash, err := auth.HashPassword(auth.GuestName)
	if err != nil {
		panic("config: the default password cannot be hashed: " + err.Error())
	}
	c.Users = []User{{Name: auth.GuestName, Hash: hash}}
}

// check finds what is wrong only in combination.
func (c *Config) check() error {
	for _, u := range c.Users {
		for _, v := range u.Vhosts {
			if !slices.Contains(c.Vhosts, v) {
				return fmt.Errorf("user '%s' may open the vhost '%s', but there is no such vhost (it must be among the vhosts too)", u.Name, v)
			}
		}
	}
	return nil
}

// putUser adds a user, or replaces the one of the same name.
func (c *Config) putUser(u User) {
	for i := range c.Users {
		if c.Users[i].Name == u.Name {
			c.Users[i] = u
			return
		}
	}
	c.Users = append(c.Users, u)
}
