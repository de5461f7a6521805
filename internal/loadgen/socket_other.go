//go:build !linux

package loadgen

import (
	"net"
	"sync/atomic"
)

// socket is for Linux; elsewhere every connection is the runtime's.
type socket struct{ net.Conn }

func adopt(*Client, *atomic.Bool) error { return nil }

func (c *Client) giveBack() {}

func (c *Client) reason(err error) error { return err }

func (p *publisher) drive(*socket) error { return nil }
