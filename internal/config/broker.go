package config

import (
	"log/slog"

	"github.com/warrenmq/warren/broker"
)

// Broker is the configuration in the form that broker.Open takes. A share of
// the memory becomes bytes here.
func (c *Config) Broker(logger *slog.Logger, version string) broker.Config {
	users := make([]broker.User, len(c.Users))
	for i, u := range c.Users {
		users[i] = broker.User{Name: u.Name, PasswordHash: u.Hash, VHosts: u.Vhosts, Tags: u.Tags}
	}
	heartbeat := c.Limits.Heartbeat
	if heartbeat == 0 {
		heartbeat = -1 // none; 0 would be the broker's default
	}
	// Not nil even if empty: nil would be the broker's default, guest.
	loopback := append([]string{}, c.LoopbackUsers...)
	free := c.Limits.DiskFreeBytes
	if free == 0 {
		free = -1 // none, likewise
	}
	return broker.Config{
		Dir:              c.Data,
		BodyMemoryBytes:  c.Limits.BodyMemoryBytes,
		IndexMemoryBytes: c.Limits.IndexMemoryBytes,
		MinFreeDiskBytes: free,
		VHosts:           c.Vhosts,
		Users:            users,
		LoopbackUsers:    loopback,
		FrameMax:         c.Limits.FrameMaxBytes,
		ChannelMax:       c.Limits.ChannelMax,
		Heartbeat:        heartbeat,
		MaxMessageBytes:  c.Limits.MaxMessageBytes,
		MaxConnections:   c.Limits.MaxConnections,
		MemoryLimitBytes: c.Limits.Memory.In(UsableMemoryBytes()),
		HandshakeTimeout: c.Limits.HandshakeTimeout,
		Logger:           logger,
		Version:          version,
	}
}
