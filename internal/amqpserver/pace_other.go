//go:build !linux

package amqpserver

import "net"

// quietSocketOf is nil for a connection that cannot do it: elsewhere none can.
func quietSocketOf(net.Conn) quietSocket { return nil }

// narrowWindows leaves windows as they are.
func narrowWindows(net.Listener) {}

// narrowWindow is nil, as no window is narrow.
func narrowWindow(net.Conn) func() { return nil }
