package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warrenmq/warren/internal/auth"
)

// Setting is one thing that can be configured, under the same name everywhere:
// the key limits.frame_max is the flag --frame-max and the variable
// WARREN_FRAME_MAX.
type Setting struct {
	Key   string // in the TOML file
	Flag  string // without dashes
	Env   string
	List  bool   // the flag may be repeated; the variable is comma-separated
	Bool  bool   // true or false; the flag alone means true
	Arg   string // what the flag's value is, for the help
	Usage string

	set func(c *Config, values []string) error // len(values) is 1 unless List
	get func(c *Config) any                    // for printing: string, int64, bool, []string; nil or a nil value: not printed
}

// Settings returns all settings in the order in which they are printed and
// documented. Users of the file have their own form, [[users]].
func Settings() []Setting {
	return slices.Concat(whereSettings(), dataSettings(), whoSettings(), limitSettings(), logSettings())
}

// Default is the default value as one would write it, "" if there is none.
func (s Setting) Default() string {
	if s.get == nil {
		return ""
	}
	switch v := s.get(Defaults()).(type) {
	case []string:
		return strings.Join(v, ",")
	default:
		return fmt.Sprint(v)
	}
}

func setting(key, arg, usage string) Setting {
	name := strings.TrimPrefix(key, "limits.")
	name = strings.NewReplacer(".", "_").Replace(name)
	return Setting{
		Key: key, Flag: strings.ReplaceAll(name, "_", "-"), Env: "WARREN_" + strings.ToUpper(name),
		Arg: arg, Usage: usage,
	}
}

func whereSettings() []Setting {
	listen := setting("listen", "HOST:PORT", "address to listen on; repeat for more")
	listen.List = true
	listen.set = func(c *Config, values []string) error {
		for _, v := range values {
			if err := parseListen(v); err != nil {
				return err
			}
		}
		if len(values) == 0 {
			return fmt.Errorf("names no address; want at least one, such as :5672")
		}
		c.Listen = values
		return nil
	}
	listen.get = func(c *Config) any { return c.Listen }

	management := setting("management", "HOST:PORT|off", "address of the management HTTP API and of /metrics, or off")
	management.set = func(c *Config, values []string) error {
		if values[0] == managementOff {
			c.Management = ""
			return nil
		}
		if err := parseListen(values[0]); err != nil {
			return fmt.Errorf("%w; or off for none", err)
		}
		c.Management = values[0]
		return nil
	}
	management.get = func(c *Config) any {
		if c.Management == "" {
			return managementOff
		}
		return c.Management
	}

	vhosts := setting("vhosts", "NAME", "virtual host to have beside /; repeat for more")
	vhosts.Flag, vhosts.Env, vhosts.List = "vhost", "WARREN_VHOSTS", true
	vhosts.set = func(c *Config, values []string) error {
		for _, v := range values {
			if v == "" || len(v) > 255 {
				return fmt.Errorf("a vhost name has 1 to 255 bytes, this one has %d", len(v))
			}
			if !slices.Contains(c.Vhosts, v) {
				c.Vhosts = append(c.Vhosts, v)
			}
		}
		return nil
	}
	vhosts.get = func(c *Config) any { return c.Vhosts }
	return []Setting{listen, management, vhosts}
}

// managementOff is the value of the setting management that switches it off.
const managementOff = "off"

func dataSettings() []Setting {
	data := setting("data", "DIR", "directory for what has to survive a restart; made if it is missing")
	data.set = func(c *Config, values []string) error {
		if values[0] == "" {
			return errors.New("names no directory (memory only is another setting)")
		}
		c.Data = values[0]
		return nil
	}
	data.get = func(c *Config) any {
		if c.Memory {
			return nil // the two exclude each other
		}
		return c.Data
	}
	memory := setting("memory", "", "keep everything in memory: nothing survives a restart")
	memory.Bool = true
	memory.set = func(c *Config, values []string) error {
		on, err := strconv.ParseBool(values[0])
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", values[0])
		}
		c.Memory = on
		return nil
	}
	memory.get = func(c *Config) any { return c.Memory }
	return []Setting{data, memory}
}

func whoSettings() []Setting {
	loopback := setting("loopback_users", "NAME", "user that may log in from loopback only, instead of guest; repeat for more, empty for none")
	loopback.Flag, loopback.List = "loopback-user", true
	loopback.set = func(c *Config, values []string) error {
		c.LoopbackUsers = slices.DeleteFunc(values, func(v string) bool { return v == "" })
		return nil
	}
	loopback.get = func(c *Config) any { return c.LoopbackUsers }

	user := setting("user", "NAME:PASSWORD", "add a user; other users of this machine can read a password in the process list, so prefer --user-hash or the file")
	user.List, user.Env = true, "WARREN_USERS"
	user.set = func(c *Config, values []string) error {
		return putUsers(c, values, func(name, password string) (User, error) {
			return newUser(name, password, "", nil)
		})
	}
	hash := setting("user_hash", "NAME:HASH", "add a user by salted hash, as `warren hash-password` or RabbitMQ makes it")
	hash.List, hash.Env = true, "WARREN_USER_HASHES"
	hash.set = func(c *Config, values []string) error {
		return putUsers(c, values, func(name, hash string) (User, error) {
			return newUser(name, "", hash, nil)
		})
	}
	return []Setting{loopback, user, hash}
}

func putUsers(c *Config, values []string, make func(name, secret string) (User, error)) error {
	for _, v := range values {
		name, secret, err := splitUser(v)
		if err != nil {
			return err
		}
		u, err := make(name, secret)
		if err != nil {
			return err
		}
		c.putUser(u)
	}
	return nil
}

// newUser checks a user of any source. Exactly one of password and hash is given.
func newUser(name, password, hash string, vhosts []string) (User, error) {
	u := User{Name: name, Hash: hash, Vhosts: vhosts}
	if password != "" {
		made, err := auth.HashPassword(password)
		if err != nil {
			return u, err
		}
		u.Hash = made
	}
	return u, auth.NewUsers().AddHash(u.Name, u.Hash)
}

// checkTags refuses tags that nobody knows.
func checkTags(u User, tags []string) error {
	users := auth.NewUsers()
	if err := users.AddHash(u.Name, u.Hash); err != nil {
		return err
	}
	return users.SetTags(u.Name, tags...)
}

func limitSettings() []Setting {
	number := func(key, usage string, low, high int64, field func(*Config, int64), get func(*Config) int64) Setting {
		s := setting("limits."+key, "N", usage)
		s.set = func(c *Config, values []string) error {
			n, err := parseInt(values[0], low, high)
			if err == nil {
				field(c, n)
			}
			return err
		}
		s.get = func(c *Config) any { return get(c) }
		return s
	}
	return []Setting{
		number("frame_max", "largest frame in bytes", 4096, 16<<20,
			func(c *Config, n int64) { c.Limits.FrameMaxBytes = uint32(n) },
			func(c *Config) int64 { return int64(c.Limits.FrameMaxBytes) }),
		number("channel_max", "channels one connection may open", 1, math.MaxUint16,
			func(c *Config, n int64) { c.Limits.ChannelMax = uint16(n) },
			func(c *Config) int64 { return int64(c.Limits.ChannelMax) }),
		duration("heartbeat", "heartbeat the server proposes, in whole seconds; 0 for none", 0, math.MaxUint16*time.Second,
			func(c *Config) *time.Duration { return &c.Limits.Heartbeat }),
		bytesSetting("max_message_size", "largest message body", 1, maxMessageCeiling,
			func(c *Config) *int64 { return &c.Limits.MaxMessageBytes }),
		number("max_connections", "connections at the same time; 0 for no limit", 0, math.MaxInt32,
			func(c *Config, n int64) { c.Limits.MaxConnections = int(n) },
			func(c *Config) int64 { return int64(c.Limits.MaxConnections) }),
		memorySetting(),
		bytesSetting("body_memory", "memory for bodies of persistent messages, and as much again for others; what is beyond that is on disk only", minBodyMemory, maxBytes,
			func(c *Config) *int64 { return &c.Limits.BodyMemoryBytes }),
		bytesSetting("index_memory", "memory for the indexes of long queues, beyond which they are kept in the data directory", minIndexMemory, maxBytes,
			func(c *Config) *int64 { return &c.Limits.IndexMemoryBytes }),
		bytesSetting("disk_free_limit", "free space in the data directory below which publishers are blocked; 0 for none", 0, maxBytes,
			func(c *Config) *int64 { return &c.Limits.DiskFreeBytes }),
		duration("handshake_timeout", "time a client has from connecting to being logged in", 100*time.Millisecond, time.Hour,
			func(c *Config) *time.Duration { return &c.Limits.HandshakeTimeout }),
	}
}

func duration(key, usage string, low, high time.Duration, field func(*Config) *time.Duration) Setting {
	s := setting("limits."+key, "DURATION", usage)
	s.set = func(c *Config, values []string) error {
		d, err := parseDuration(values[0])
		if err != nil {
			return err
		}
		if d < low || d > high {
			return fmt.Errorf("%s is out of range, it must be from %s to %s", d, low, high)
		}
		if key == "heartbeat" && d%time.Second != 0 {
			return fmt.Errorf("%s is not a whole number of seconds, which is what the protocol knows", d)
		}
		*field(c) = d
		return nil
	}
	s.get = func(c *Config) any { return field(c).String() }
	return s
}

// maxMessageCeiling is RabbitMQ's own upper bound of max_message_size.
const maxMessageCeiling = 512 << 20

// minBodyMemory is one block of the log, the unit in which bodies are kept.
const minBodyMemory = 1 << 20

// minIndexMemory is 64,000 messages.
const minIndexMemory = 1 << 20

// maxBytes is no bound that anybody meets, and leaves room for sums.
const maxBytes = 1 << 60

func bytesSetting(key, usage string, low, high int64, field func(*Config) *int64) Setting {
	s := setting("limits."+key, "BYTES", usage)
	s.set = func(c *Config, values []string) error {
		n, err := parseBytes(values[0])
		if err != nil {
			return err
		}
		if n < low || n > high {
			return fmt.Errorf("%s is out of range, it must be from %s to %s", formatBytes(n), inWords(low), formatBytes(high))
		}
		*field(c) = n
		return nil
	}
	s.get = func(c *Config) any { return formatBytes(*field(c)) }
	return s
}

// inWords keeps a bare 1 from looking like a number without a unit.
func inWords(bytes int64) string {
	if bytes == 1 {
		return "1 byte"
	}
	return formatBytes(bytes)
}

func memorySetting() Setting {
	s := setting("limits.memory_limit", "BYTES|N%", "memory at which publishers are blocked, in bytes (512MiB) or as a share of what this process may use")
	s.set = func(c *Config, values []string) error {
		size, err := parseSize(values[0])
		if err == nil {
			c.Limits.Memory = size
		}
		return err
	}
	s.get = func(c *Config) any { return c.Limits.Memory.String() }
	return s
}

func logSettings() []Setting {
	level := setting("log.level", "LEVEL", "debug, info, warn or error")
	level.set = func(c *Config, values []string) error {
		l, err := parseLevel(values[0])
		if err == nil {
			c.Log.Level = l
		}
		return err
	}
	level.get = func(c *Config) any { return strings.ToLower(c.Log.Level.String()) }

	format := setting("log.format", "FORMAT", "text or json")
	format.set = func(c *Config, values []string) error {
		if values[0] != "text" && values[0] != "json" {
			return fmt.Errorf("%s is not a log format, choose text or json", strconv.Quote(values[0]))
		}
		c.Log.Format = values[0]
		return nil
	}
	format.get = func(c *Config) any { return c.Log.Format }
	return []Setting{level, format}
}
